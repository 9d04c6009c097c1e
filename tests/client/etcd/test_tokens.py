"""A client with a user: when it authenticates, how often, and what its callers notice of that."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from raftkv_trio import CallRefused, Client, ConfigError, NoLeader, NotAuthenticated, OutcomeUnknown
from raftkv_trio.client.login import Login
from raftkv_trio.grpc import Code, RpcError
from tests.client.etcd.small_server import SmallServer, open_small_server

PATIENCE_S = 30.0
PASSWORD = "a secret"


@asynccontextmanager
async def connected(password: str | None = PASSWORD) -> AsyncIterator[tuple[SmallServer, Client]]:
    """A client of the user "ann", of a server that checks users."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server:
            server.password = PASSWORD
            user = None if password is None else "ann"
            async with Client([f"127.0.0.1:{server.port}"], user=user, password=password) as client:
                yield server, client


async def in_many_tasks(call: Callable[[bytes], Awaitable[object]], number: int = 50) -> None:
    async def one(key: bytes) -> None:
        await call(key)

    async with trio.open_nursery() as nursery:
        for each in range(number):
            nursery.start_soon(one, b"%d" % each)


async def test_many_calls_authenticate_once() -> None:
    """At the beginning, and when the token is refused; puts and gets alike, and none of them notices."""
    async with connected() as (server, client):
        await in_many_tasks(client.get)
        await in_many_tasks(lambda key: client.put(key, b""))
        assert server.calls.count("authenticate") == 1
        server.token = "token 2"
        await in_many_tasks(client.get)
        assert server.calls.count("authenticate") == 2
        server.token = "token 3"
        await in_many_tasks(lambda key: client.put(key, b""))
        assert server.calls.count("authenticate") == 3
        assert len({key for key, _ in server.puts}) == 50


async def test_a_call_is_made_again_once() -> None:
    """A server that refuses its own token is no reason to go on for ever."""

    async def another(name: str) -> None:
        if name != "authenticate":
            server.token += "+"

    async with connected() as (server, client):
        server.before = another
        with pytest.raises(NotAuthenticated, match="invalid auth token") as raised:
            await client.get(b"a")
        assert raised.value.code == Code.UNAUTHENTICATED
        assert server.calls == ["authenticate", "range", "authenticate", "range"]
        server.calls.clear()
        with pytest.raises(NotAuthenticated, match="invalid auth token"):
            await client.put(b"a", b"")
        assert server.calls == ["put", "authenticate", "put"]
        assert server.puts == []


async def test_a_wrong_password() -> None:
    """Every waiting call has an error of its own; one authentication; the password is nowhere in it."""
    async with connected("wrong") as (server, client):
        errors: list[NotAuthenticated] = []

        async def refused(call: Awaitable[object]) -> None:
            with pytest.raises(NotAuthenticated) as raised:
                await call
            errors.append(raised.value)

        await in_many_tasks(lambda key: refused(client.get(key)))
        assert server.calls == ["authenticate"]
        assert len(set(map(id, errors))) == 50
        assert str(errors[0]) == "etcdserver: authentication failed, invalid user ID or password"
        server.calls.clear()
        await in_many_tasks(lambda key: refused(client.put(key, b"")))
        assert server.calls == ["authenticate"] * 2  # for the first one, and for those that waited for it
        assert len(errors) == 100
        assert "wrong" not in f"{errors[0]!r} {Login(user='ann', password='wrong')!r}"


async def test_no_user() -> None:
    """One sentence says that the cluster wants one; nothing is asked for."""
    async with connected(None) as (server, client):
        with pytest.raises(NotAuthenticated, match="user name is empty: the cluster checks who asks"):
            await client.put(b"a", b"")
        assert server.calls == ["put"]


async def test_a_call_that_is_given_up_ends_the_authentication_for_no_other() -> None:
    """The last one ends it, and the next call begins another."""
    async with connected() as (server, client):
        is_held, let_go, is_over = trio.Event(), trio.Event(), trio.Event()

        async def hold(name: str) -> None:
            if name == "authenticate":
                is_held.set()
                try:
                    await let_go.wait()
                finally:
                    is_over.set()

        server.before = hold
        scope = trio.CancelScope()

        async def given_up() -> None:
            with scope:
                await client.get(b"a")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(given_up)
            nursery.start_soon(client.put, b"a", b"1")
            await is_held.wait()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            let_go.set()
        assert (server.calls, server.puts) == (["authenticate", "put"], [(b"a", b"1")])

        server.token, is_held, let_go, is_over = "token 2", trio.Event(), trio.Event(), trio.Event()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.get, b"a")
                await is_held.wait()
                scope.cancel()
        await is_over.wait()
        server.before, server.calls = SmallServer().before, []
        assert (await client.get(b"a")) is not None
        assert server.calls == ["authenticate", "range"]


@pytest.mark.parametrize("certificate", [False, True])
async def test_users_are_checked_later(certificate: bool) -> None:
    """A client with a user shows nothing while nobody is checked, and its user from then on.

    If its certificate is that of no user, raftkv-trio says so in place of that it is nobody.
    """
    text = "etcdserver: permission denied: the client's certificate is that of eve, and there is no such user"

    async def refuse(name: str) -> None:
        if name == "put" and server.calls.count("authenticate") == 1 and certificate and server.password:
            raise RpcError(Code.PERMISSION_DENIED, text)

    async with connected() as (server, client):
        server.before, server.password = refuse, None
        await client.put(b"a", b"1")
        server.password = PASSWORD
        await client.put(b"a", b"2")
        assert server.calls == ["authenticate", "put", "put", "authenticate", "put"]


async def test_a_server_of_before_users() -> None:
    """It knows no Authenticate, and asks for no token."""

    async def unknown(name: str) -> None:
        if name == "authenticate":
            raise RpcError(Code.UNIMPLEMENTED, "unknown method Authenticate")

    async with connected() as (server, client):
        server.before, server.password = unknown, None
        await client.put(b"a", b"1")


async def test_a_write_in_doubt_goes_on_with_another_token() -> None:
    """It is executed once, under its key; or, if the user is refused by then, it stays in doubt."""

    async def lose(name: str) -> None:
        if server.puts and server.token == "token 1":
            server.token = "token 2"
            raise RpcError(Code.UNAVAILABLE, "etcdserver: request timed out")

    for password in (PASSWORD, "changed"):
        async with connected() as (server, client):
            server.knows_keys, server.after = True, lose
            await client.get(b"a")

            async def change(name: str, password: str = password) -> None:
                if name == "authenticate":
                    server.password = password

            server.before = change
            if password == PASSWORD:
                await client.put(b"a", b"1")
            else:
                with pytest.raises(OutcomeUnknown):
                    await client.put(b"a", b"1")
            assert server.puts == [(b"a", b"1")]


async def test_a_write_that_is_given_up_while_the_client_authenticates() -> None:
    """It was refused with the old token, so it was certainly not executed."""
    async with connected() as (server, client):
        await client.put(b"a", b"1")
        server.token = "token 2"

        async def hold(name: str) -> None:
            if name == "authenticate":
                await trio.sleep_forever()

        server.before = hold
        with pytest.raises(NoLeader, match="certainly not executed"), client.fail_after(0.2):
            await client.put(b"a", b"2")


async def test_a_client_that_ends_while_it_authenticates() -> None:
    """Who waits for that is told that the client is closed."""
    is_held = trio.Event()

    async def hold(name: str) -> None:
        is_held.set()
        await trio.sleep_forever()

    async with open_small_server() as server:
        server.password, server.before = PASSWORD, hold
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:

                async def get(client: Client) -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await client.get(b"a")

                async with Client([f"127.0.0.1:{server.port}"], user="ann", password=PASSWORD) as client:
                    nursery.start_soon(get, client)
                    await is_held.wait()
                with pytest.raises(trio.ClosedResourceError):
                    await client.get(b"a")


def test_a_user_without_a_password() -> None:
    """Both or none; a name of no characters is none; the error does not show the password."""
    with pytest.raises(ConfigError, match="belong together"):
        Client(["127.0.0.1:1"], user="ann")
    with pytest.raises(ConfigError, match="belong together"):
        Client(["127.0.0.1:1"], password="a")
    with pytest.raises(ConfigError, match="is empty"):
        Client(["127.0.0.1:1"], user="", password="a")
    with pytest.raises(ConfigError, match="a password is not UTF-8") as raised:
        Client(["127.0.0.1:1"], user="ann", password="\udcff")
    assert raised.value.__cause__ is None
    assert issubclass(NotAuthenticated, CallRefused)
