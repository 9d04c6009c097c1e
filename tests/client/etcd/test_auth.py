"""`Client.auth`: users, roles and permissions of real servers."""

from collections.abc import Iterator

import pytest
import trio

from raftkv_trio import AuthStatus, CallRefused, Client, ConfigError, NotAuthenticated, PermissionDenied
from raftkv_trio.kv import Access, Failure, Permission
from tests.etcd.servers import ApiServer, needs_etcd, open_quickly

PATIENCE_S = 60.0


@pytest.fixture(scope="module", params=[pytest.param("etcd", marks=needs_etcd), "raftkv-trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with open_quickly(request.param, tmp_path_factory.mktemp("server")) as running:
        yield running


async def test_users_and_roles(server: ApiServer) -> None:
    """Everything that can be said of them; root gets its role when users are checked."""
    with trio.fail_after(PATIENCE_S):
        async with Client([server.url], user="root", password="secret") as client:
            auth = client.auth
            with pytest.raises(CallRefused) as refused:
                await auth.enable()
            assert refused.value.failure is Failure.ROOT_USER_NOT_FOUND
            await auth.add_user("root", "secret")
            await auth.add_user("ann", "first")
            await auth.add_user("certified", None)
            assert sorted(await auth.users()) == ["ann", "certified", "root"]
            await auth.add_role("reader")
            await auth.grant_role("ann", "reader")
            assert await auth.roles_of("ann") == ("reader",)
            await auth.grant_permission("reader", Access.READ, prefix=b"r/")
            await auth.grant_permission("reader", Access.WRITE, b"k")
            await auth.grant_permission("reader", Access.READWRITE, b"m", b"n")
            await auth.grant_permission("reader", Access.READ, prefix=b"")
            await auth.revoke_permission("reader", prefix=b"")
            assert set(await auth.permissions_of("reader")) == {
                Permission(Access.READ, b"r/", b"r0"),
                Permission(Access.WRITE, b"k"),
                Permission(Access.READWRITE, b"m", b"n"),
            }
            await auth.enable()  # which adds the role root, and grants it
            assert await auth.roles_of("root") == ("root",)
            await check_ann(server, client)
            await auth.delete_role("reader")
            assert await auth.roles() == ("root",)
            await auth.delete_user("ann")
            await auth.disable()
            await client.put(b"anybody", b"")


async def check_ann(server: ApiServer, client: Client) -> None:
    """Ann reads and writes what the role permits, until the role, or the password, is taken away."""
    auth = client.auth
    async with Client([server.url], user="ann", password="first") as ann:
        await client.put(b"r/1", b"")
        assert await ann.get(b"r/1") is not None
        await ann.put(b"k", b"")
        with pytest.raises(PermissionDenied):
            await ann.get(b"k")
        with pytest.raises(PermissionDenied):
            await ann.auth.users()
        await auth.change_password("ann", "second")
        with pytest.raises(NotAuthenticated):
            await ann.put(b"k", b"")
    async with Client([server.url], user="ann", password="second") as ann:
        await ann.put(b"k", b"")
        await auth.revoke_role("ann", "reader")
        with pytest.raises(PermissionDenied):
            await ann.put(b"k", b"")


async def test_what_is_refused(server: ApiServer) -> None:
    """Each refusal has its failure."""
    with trio.fail_after(PATIENCE_S):
        async with Client([server.url]) as client:
            auth = client.auth
            await auth.add_user("eve", "")
            await auth.add_role("r")
            for call, failure in (
                (auth.add_user("eve", "a"), Failure.USER_EXISTS),
                (auth.delete_user("nobody"), Failure.USER_NOT_FOUND),
                (auth.roles_of("nobody"), Failure.USER_NOT_FOUND),
                (auth.grant_role("eve", "none"), Failure.ROLE_NOT_FOUND),
                (auth.revoke_role("eve", "r"), Failure.ROLE_NOT_GRANTED),
                (auth.add_role("r"), Failure.ROLE_EXISTS),
                (auth.add_role(""), Failure.ROLE_EMPTY),
                (auth.permissions_of("none"), Failure.ROLE_NOT_FOUND),
                (auth.revoke_permission("r", b"k"), Failure.PERMISSION_NOT_GRANTED),
                (auth.disable(), None),
            ):
                if failure is None:
                    await call
                    continue
                with pytest.raises(CallRefused) as refused:
                    await call
                assert refused.value.failure is failure
            with pytest.raises(ConfigError, match="name of the user is empty"):
                await auth.add_user("", "a")
            with pytest.raises(ConfigError, match="needs a key"):
                await auth.grant_permission("r", Access.READ)
            with pytest.raises(ConfigError, match="not both"):
                await auth.revoke_permission("r", b"k", prefix=b"k")


async def test_the_status(server: ApiServer) -> None:
    """etcd 3.4 has none."""
    with trio.fail_after(PATIENCE_S):
        async with Client([server.url]) as client:
            if server.name == "etcd":
                with pytest.raises(CallRefused, match="AuthStatus"):
                    await client.auth.status()
            else:
                first = await client.auth.status()
                assert first == AuthStatus(False, first.revision)
                await client.auth.add_role("s")
                assert (await client.auth.status()).revision == first.revision + 1
