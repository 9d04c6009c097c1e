"""Leases, locks and elections of the client, on etcd and on a node."""

from collections.abc import Iterator

import pytest
import trio
import trio.testing

from raftkv_trio import CallRefused, Client, Lease, LeaseLost, LeaseStatus
from raftkv_trio.kv import Failure
from tests.client.etcd.cutting_proxy import open_cutting_proxy
from tests.client.etcd.test_client import connected
from tests.etcd.servers import HOST, ApiServer, needs_etcd, open_etcd, open_node

PATIENCE_S = 60.0


@pytest.fixture(scope="module", params=[pytest.param("etcd", marks=needs_etcd), "raftkv-trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    start = open_etcd if request.param == "etcd" else open_node
    with start(tmp_path_factory.mktemp("server")) as running:
        yield running


async def test_plain_calls(server: ApiServer) -> None:
    """Grant, with an id too; keys; renewals; the end of a lease is the end of its keys."""
    async with connected(server) as client:
        granted = await client.grant(600)
        assert granted.ttl_s == granted.granted_ttl_s == 600
        assert (await client.grant(700, lease_id=4711)).id == 4711
        with pytest.raises(CallRefused, match="lease already exists"):
            await client.grant(700, lease_id=4711)
        await client.put(b"a", b"1", lease=granted.id)
        found = await client.get(b"a")
        assert found is not None
        assert found.lease == granted.id
        left = await client.time_to_live(granted.id, keys=True)
        assert left is not None
        assert (left.id, left.granted_ttl_s, left.keys) == (granted.id, 600, (b"a",))
        assert await client.keep_alive(granted.id) == 600
        assert {granted.id, 4711} <= set(await client.leases())
        await client.revoke(granted.id)
        await client.revoke(4711)
        assert await client.get(b"a") is None
        assert await client.time_to_live(granted.id) is None
        for call in (client.revoke, client.keep_alive):
            with pytest.raises(CallRefused) as refused:
                await call(granted.id)
            assert refused.value.failure is Failure.LEASE_NOT_FOUND


async def test_a_lease_of_a_block(server: ApiServer) -> None:
    """It outlives its TTL in the block, and ends with the block, also by an error, which leaves as it is."""
    async with connected(server) as client:

        async def fail() -> None:
            async with client.lease(1) as lease:
                await client.put(b"a", b"1", lease=lease.id)
                await trio.sleep(2 * lease.ttl_s + 1)  # longer than it lives without renewals
                assert await client.get(b"a") is not None
                seen.append(lease)
                raise ZeroDivisionError

        seen: list[Lease] = []
        with pytest.raises(ZeroDivisionError):
            await fail()
        [lease] = seen
        assert await client.get(b"a") is None
        assert not lease.lost.is_set()


async def test_a_lease_that_is_revoked_is_lost(server: ApiServer) -> None:
    """The block is cancelled when the next renewal says so."""
    async with connected(server) as client:

        async def lose() -> None:
            async with client.lease(2) as lease:
                await client.revoke(lease.id)
                await trio.sleep_forever()

        with pytest.raises(LeaseLost):
            await lose()


async def test_a_lease_that_cannot_be_renewed_is_lost_in_time(server: ApiServer) -> None:
    """By the clock of this end, though no server can be asked: after its TTL, and not before."""
    async with open_cutting_proxy(server.port) as proxy:
        with trio.fail_after(PATIENCE_S):
            async with Client([f"{HOST}:{proxy.port}"]) as client:

                async def lose() -> None:
                    asked_at = trio.current_time()
                    async with client.lease(2) as lease:
                        proxy.refuses = True
                        proxy.cut()
                        await lease.lost.wait()
                        assert asked_at + lease.ttl_s <= trio.current_time()
                        await trio.sleep_forever()

                with pytest.raises(LeaseLost):
                    await lose()


async def test_one_unknown_lease_fails_only_its_own_put(server: ApiServer) -> None:
    """Puts that are sent together answer for themselves."""
    async with connected(server) as client:
        lease = (await client.grant(600)).id
        failed = []

        async def put(number: int) -> None:
            try:
                await client.put(b"%d" % number, b"", lease=12345 if number == 7 else lease)
            except CallRefused as error:
                failed.append((number, error.failure))

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(put, number)
        assert failed == [(7, Failure.LEASE_NOT_FOUND)]
        left = await client.time_to_live(lease, keys=True)
        assert isinstance(left, LeaseStatus)
        assert len(left.keys) == 39


# ---------------------------------------------------------------- locks


async def test_a_lock_has_one_holder_and_keeps_the_order(server: ApiServer) -> None:
    """Who comes first has it first; tokens grow; a waiter that gives up leaves the queue."""
    async with connected(server) as client:
        order: list[int] = []
        tokens: list[int] = []
        holders = 0

        async def hold(number: int) -> None:
            nonlocal holders
            async with client.lock(b"l") as lock:
                holders += 1
                assert holders == 1
                order.append(number)
                tokens.append(lock.revision)
                found = await client.get(lock.key)
                assert found is not None
                assert (found.create_revision, found.lease) == (lock.revision, lock.lease.id)
                holders -= 1

        async def wait_queue(length: int) -> None:
            while (await client.get_range(prefix=b"l/", limit=0)).in_range < length:
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery, client.lock(b"l") as first:
            gives_up = trio.CancelScope()

            async def give_up() -> None:
                with gives_up:
                    await hold(0)

            nursery.start_soon(give_up)
            await wait_queue(2)
            for number in range(1, 5):
                nursery.start_soon(hold, number)
                await wait_queue(number + 2)
            gives_up.cancel()
        assert order == [1, 2, 3, 4]
        assert [first.revision, *tokens] == sorted({first.revision, *tokens})
        assert (await client.get_range(prefix=b"l/")).in_range == 0


async def test_a_lock_that_is_lost(server: ApiServer) -> None:
    """Its block ends, and the next one has the lock."""
    async with connected(server) as client:
        revisions = []

        async def lose() -> None:
            async with client.lock(b"l", ttl_s=2) as lock:
                revisions.append(lock.revision)
                await client.revoke(lock.lease.id)
                async with client.lock(b"l", ttl_s=60) as another:
                    revisions.append(another.revision)
                    await trio.sleep_forever()

        with pytest.raises(LeaseLost):
            await lose()
        assert len(revisions) == 2
        assert revisions == sorted(revisions)


# ---------------------------------------------------------------- elections


async def test_an_election(server: ApiServer) -> None:
    """One leads, and proclaims; everyone hears; who resigns is followed by the next candidate."""
    async with connected(server) as client:
        election = client.election(b"e")
        assert await election.leader() is None
        async with election.observe() as leaders, trio.open_nursery() as nursery:
            has_led = trio.Event()

            async def follow() -> None:
                async with election.campaign(b"two") as second:
                    assert second.revision > first.revision
                    assert (await anext(leaders)).value == b"two"
                    has_led.set()

            async with election.campaign(b"one") as first:
                found = await election.leader()
                assert found is not None
                assert (found.key, found.create_revision) == (first.key, first.revision)
                assert (await anext(leaders)).value == b"one"
                nursery.start_soon(follow)
                await first.proclaim(b"uno")
                assert (await anext(leaders)).value == b"uno"
                await first.resign()
                await has_led.wait()
                with pytest.raises(LeaseLost):
                    await first.proclaim(b"eins")
        assert await election.leader() is None
