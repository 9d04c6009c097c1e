"""The client as a user of real servers: what the user may do, and how the client stays authenticated."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio import Client, LeaseLost, NotAuthenticated, PermissionDenied
from raftkv_trio.kv import Compare, Get, Put
from tests.conftest import find_free_ports
from tests.etcd.servers import ApiServer, needs_etcd, open_etcd, open_node, open_quickly
from tests.etcd.users import ANN, ROOT, add_users, ask, token_of
from tests.integration.cluster import Cluster

PATIENCE_S = 60.0
QUICK = ("--unsafe-no-fsync", "--bcrypt-cost", "4")


@pytest.fixture(scope="module", params=[pytest.param("etcd", marks=needs_etcd), "raftkv-trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with open_quickly(request.param, tmp_path_factory.mktemp("server")) as running:
        add_users(running)
        yield running


@asynccontextmanager
async def connected(server: ApiServer, user: tuple[str, str] = ANN) -> AsyncIterator[Client]:
    with trio.fail_after(PATIENCE_S):
        async with Client([server.url], user=user[0], password=user[1]) as client:
            yield client


async def test_what_a_user_may_do(server: ApiServer) -> None:
    """Everything with keys of the user's roles, and nothing with others."""
    async with connected(server) as client:
        await client.put(b"a/1", b"one")
        assert (await client.get_range(prefix=b"a/")).in_range == 1
        assert (await client.txn([Compare.exists(b"a/1")], [Put(b"a/2", b"")], [])).succeeded
        async with client.watch(prefix=b"a/", start_revision=1) as watch:
            assert (await anext(watch)).key == b"a/1"
        async with client.lock(b"a/lock", ttl_s=5) as lock:
            assert (await client.get(lock.key)) is not None
        async with client.election(b"a/election").campaign(b"me", ttl_s=5) as leadership:
            await leadership.proclaim(b"still me")
        assert (await client.delete_range(prefix=b"a/")).deleted == 2
        for refused in (
            client.put(b"b", b""),
            client.get(b"b"),
            client.get_range(prefix=b""),
            client.delete(b"b"),
            client.txn([Compare.exists(b"b")], [Put(b"a/2", b"")], []),
            client.txn([], [Get(b"a/1")], [Get(b"b")]),
        ):
            with pytest.raises(PermissionDenied, match="etcdserver: permission denied"):
                await refused
        with pytest.raises(PermissionDenied):
            async with client.watch(b"b"):
                pass
        with pytest.raises(PermissionDenied):
            async with client.lock(b"b", ttl_s=5):
                pass


async def test_who_is_not_known(server: ApiServer) -> None:
    """No user, no such user, another password: each is one error, whatever is called."""
    async with Client([server.url]) as client:
        with pytest.raises(NotAuthenticated, match="no user was given"):
            await client.put(b"a/1", b"")
        with pytest.raises(NotAuthenticated, match="no user was given"):
            async with client.watch(b"a/1"):
                pass
    for user in (("ann", "another"), ("nobody", "any")):
        async with connected(server, user) as client:
            with pytest.raises(NotAuthenticated, match="invalid user ID or password"):
                await client.get(b"a/1")
            with pytest.raises(NotAuthenticated):
                async with client.watch(b"a/1"):
                    pass
            with pytest.raises(NotAuthenticated):
                async with client.lease(5):
                    pass


async def test_a_token_that_has_become_invalid(server: ApiServer) -> None:
    """A password that is given anew ends the tokens of its user: neither calls nor watches notice it."""
    async with connected(server) as client:
        await client.put(b"a/1", b"")
        give_anew(server, ANN[1])
        await client.put(b"a/1", b"")
        give_anew(server, ANN[1])
        assert await client.get(b"a/1") is not None
        give_anew(server, ANN[1])
        async with client.watch(b"a/1") as watch:
            give_anew(server, ANN[1])
            await client.put(b"a/1", b"")
            assert (await anext(watch)).key == b"a/1"


def give_anew(server: ApiServer, password: str) -> None:
    """Give ann a password, the same one perhaps."""
    ask(server, "auth/user/changepw", {"name": ANN[0], "password": password}, token_of(server, ROOT))


async def test_another_password(server: ApiServer) -> None:
    """A client with the old one is refused with one sentence, call by call."""
    async with connected(server) as client:
        await client.put(b"a/1", b"")
        give_anew(server, "another")
        try:
            with pytest.raises(NotAuthenticated, match="invalid user ID or password"):
                await client.put(b"a/1", b"")
        finally:
            give_anew(server, ANN[1])
        await client.put(b"a/1", b"")  # it is tried again with each call


async def test_keys_of_writes(server: ApiServer) -> None:
    """Whether a server knows them is found out before there is a token, and the revision without any key."""
    async with connected(server) as client:
        assert (await client._open.connections.get()).knows_keys == (server.name != "etcd")
        revision = (await client.put(b"a/1", b"")).revision
        assert await client._calls.present_revision() == revision


async def test_a_lease_of_a_user_who_is_refused(server: ApiServer) -> None:
    """It is lost, and the error says why."""
    if server.name == "etcd":
        pytest.skip("etcd does not check whose keep-alives those are")

    async def hold() -> None:
        async with client.lease(2):
            give_anew(server, "another")
            await trio.sleep_forever()

    async with connected(server) as client:
        with pytest.raises(LeaseLost, match="invalid user ID or password") as lost:
            await hold()
        assert isinstance(lost.value.__cause__, NotAuthenticated)
    give_anew(server, ANN[1])


async def work_for(client: Client, seconds: float, ttl_s: int = 2) -> None:
    """Puts, reads, a watch, a lease and a lock, which depend on tokens, for some time."""

    async def follow(task_status: trio.TaskStatus[None]) -> None:
        seen: list[bytes] = []
        async with client.watch(b"a/count") as watch:
            task_status.started()
            while seen[-1:] != [b"end"]:
                event = await anext(watch)
                assert event.key_value is not None
                seen.append(event.key_value.value)
        assert seen == [*[b"%d" % each for each in range(len(seen) - 1)], b"end"]

    async with trio.open_nursery() as nursery:
        await nursery.start(follow)
        async with client.lease(ttl_s) as lease, client.lock(b"a/lock", ttl_s=ttl_s) as lock:
            await client.put(b"a/mine", b"", lease=lease.id)
            ends_at, number = trio.current_time() + seconds, 0
            while trio.current_time() < ends_at:
                await client.put(b"a/count", b"%d" % number)
                found = await client.get(b"a/count")
                assert found is not None
                assert found.value == b"%d" % number
                number += 1
                await trio.sleep(0.05)
            await client.put(b"a/count", b"end")
            assert (await client.get(b"a/mine")) is not None
            assert (await client.get(lock.key)) is not None


@needs_etcd
async def test_short_lived_tokens_of_etcd(tmp_path: Path) -> None:
    """Signed tokens that end after two seconds, and with each change of users: nobody notices it."""
    with open_etcd(tmp_path, *QUICK, "--auth-token", f"jwt,{signing_keys(tmp_path)},ttl=2s") as server:
        add_users(server)
        async with connected(server) as client, trio.open_nursery() as nursery:

            async def change_users() -> None:
                for number in range(8):
                    await trio.sleep(0.5)
                    role = {"name": f"role {number}"}
                    await trio.to_thread.run_sync(ask, server, "auth/role/add", role, token_of(server, ROOT))

            nursery.start_soon(change_users)
            await work_for(client, 4)


def signing_keys(directory: Path) -> str:
    """How etcd's flag names a pair of keys."""
    private, public = directory / "private.pem", directory / "public.pem"
    for command in (f"genrsa -out {private} 2048", f"rsa -in {private} -pubout -out {public}"):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    return f"pub-key={public},priv-key={private},sign-method=RS256"


@needs_etcd
async def test_a_restart_of_etcd(tmp_path: Path) -> None:
    """It forgets its tokens: calls, a watch and a lease go on."""
    ports = find_free_ports(2)
    with ExitStack() as first:
        server = first.enter_context(open_etcd(tmp_path, *QUICK, ports=(ports[0], ports[1])))
        add_users(server)
        async with connected(server) as client, client.lease(20) as lease:
            await client.put(b"a/mine", b"", lease=lease.id)
            async with client.watch(b"a/1") as watch:
                first.close()
                with open_etcd(tmp_path, *QUICK, ports=(ports[0], ports[1])):
                    assert await client.get(b"a/1") is None  # on a new connection
                    await client.put(b"a/1", b"after it")
                    assert (await anext(watch)).key == b"a/1"
                    assert await client.keep_alive(lease.id) == 20


# ---------------------------------------------------------------- ours


async def test_short_lived_tokens(tmp_path: Path) -> None:
    """Tokens that end after a second: nothing that runs notices it."""
    with open_node(tmp_path, "--auth-token-ttl", "1") as server:
        add_users(server)
        async with connected(server) as client:
            await work_for(client, 3)


@pytest.mark.long
async def test_short_lived_tokens_of_three_nodes(tmp_path: Path) -> None:
    """Nor through changes of the leader, and restarts."""
    cluster, ports = Cluster(tmp_path, 3, ("--auth-token-ttl", "2")), find_free_ports(3)
    for node_id, port in enumerate(ports, start=1):
        cluster.give(node_id, "--etcd-port", str(port))
    cluster.start()
    try:
        server = ApiServer("raftkv-trio", ports[0])
        await trio.to_thread.run_sync(server.wait_ready)
        await trio.to_thread.run_sync(add_users, server)
        urls = [f"127.0.0.1:{port}" for port in ports]
        with trio.fail_after(PATIENCE_S):
            async with (
                httpx.AsyncClient() as http,
                Client(urls, user=ANN[0], password=ANN[1]) as client,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(work_for, client, 12, 20)
                for _ in range(2):
                    await trio.sleep(3)
                    leader = await cluster.leader(http)
                    cluster.kill(leader)
                    await cluster.leader(http)
                    cluster.start(leader)
                    await cluster.wait_ready(http)
    finally:
        cluster.kill()


@pytest.mark.long
async def test_a_token_is_of_the_whole_cluster(tmp_path: Path) -> None:
    """It is good on every node, after the death of the leader that gave it, and after a restart of all."""
    cluster, ports = Cluster(tmp_path, 3), find_free_ports(3)
    for node_id, port in enumerate(ports, start=1):
        cluster.give(node_id, "--etcd-port", str(port))
    servers = {node_id: ApiServer("raftkv-trio", port) for node_id, port in enumerate(ports, start=1)}
    cluster.start()
    try:
        await trio.to_thread.run_sync(servers[1].wait_ready)
        await trio.to_thread.run_sync(add_users, servers[1])
        async with httpx.AsyncClient() as http:
            leader = await cluster.leader(http)
            token = await trio.to_thread.run_sync(token_of, servers[leader], ANN)
            cluster.kill(leader)
            await cluster.leader(http)
            for node_id in set(servers) - {leader}:
                await trio.to_thread.run_sync(put, servers[node_id], token)
            cluster.kill()
            cluster.start()
            for server in servers.values():
                await trio.to_thread.run_sync(server.wait_ready)
                await trio.to_thread.run_sync(put, server, token)
    finally:
        cluster.kill()


def put(server: ApiServer, token: str) -> None:
    """Put the key `a/1`."""
    ask(server, "kv/put", {"key": "YS8x", "value": ""}, token)
