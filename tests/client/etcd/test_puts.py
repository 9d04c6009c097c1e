"""Puts that wait together become one txn, and each caller has a result of its own."""

from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio import CallRefused, Client, OutcomeUnknown, TooLarge
from raftkv_trio.grpc import Code, RpcError
from tests.client.etcd.small_server import NO_LEASE, SmallServer, open_small_server

PATIENCE_S = 30.0


def client_of(server: SmallServer) -> Client:
    return Client([f"127.0.0.1:{server.port}"])


class Gate:
    """Holds the first write back until it is opened."""

    def __init__(self, server: SmallServer) -> None:
        self.arrived, self.opened = trio.Event(), trio.Event()
        server.before = self.hold

    async def hold(self, name: str) -> None:
        self.arrived.set()
        await self.opened.wait()


async def test_what_waits_is_sent_together() -> None:
    """300 puts: the first alone, then txns of 128 at most; each caller has a reply of its own."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            await client.put(b"7", b"old")
            gate = Gate(server)
            replies = {}

            async def put(number: int) -> None:
                replies[number] = await client.put(b"%d" % number, b"new", previous=number == 7)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(put, 0)
                await gate.arrived.wait()
                for number in range(1, 300):
                    nursery.start_soon(put, number)
                await trio.testing.wait_all_tasks_blocked()
                gate.opened.set()
            assert server.sizes == [1, 1, 128, 128, 43]
            for number, reply in replies.items():
                assert server.values[b"%d" % number].mod_revision == reply.revision
                assert (reply.previous is not None) == (number == 7)
            previous = replies[7].previous
            assert previous is not None
            assert previous.value == b"old"


async def test_tasks_that_put_again_and_again_stay_together() -> None:
    """After a txn the next one has all of its tasks again, and not the half."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:

            async def put_five(number: int) -> None:
                for _ in range(5):
                    await client.put(b"%d" % number, b"")

            async with trio.open_nursery() as nursery:
                for number in range(64):
                    nursery.start_soon(put_five, number)
            assert sum(server.sizes) == 320
            assert len(server.sizes) <= 8


async def test_the_puts_of_one_key_keep_their_order() -> None:
    """A key is once in a txn; its second put follows in the next one."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            gate = Gate(server)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.put, b"first", b"")
                await gate.arrived.wait()
                for number in range(5):
                    nursery.start_soon(client.put, b"same", b"%d" % number)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(client.put, b"other %d" % number, b"")
                    await trio.testing.wait_all_tasks_blocked()
                gate.opened.set()
            assert [value for key, value in server.puts if key == b"same"] == [b"0", b"1", b"2", b"3", b"4"]
            assert server.sizes == [1, 6, 1, 1, 1, 1]


async def test_a_fault_is_of_its_put_alone() -> None:
    """A lease that does not exist, and a value that is too large: the others are executed all the same."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            gate = Gate(server)

            async def put_refused(expected: type[Exception], value: bytes, lease: int | None) -> None:
                with pytest.raises(expected):
                    await client.put(b"refused %d" % len(value), value, lease=lease)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.put, b"first", b"")
                await gate.arrived.wait()
                nursery.start_soon(put_refused, CallRefused, b"", NO_LEASE)
                nursery.start_soon(put_refused, TooLarge, bytes(1600 * 1024), None)
                for number in range(20):
                    nursery.start_soon(client.put, b"%d" % number, b"")
                await trio.testing.wait_all_tasks_blocked()
                gate.opened.set()
            assert sorted(server.values) == sorted([b"first", *(b"%d" % number for number in range(20))])


async def test_a_txn_in_doubt_is_in_doubt_for_all() -> None:
    """And each caller raises an error of its own."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            gate, errors = Gate(server), list[OutcomeUnknown]()

            async def put(number: int) -> None:
                with pytest.raises(OutcomeUnknown) as raised:
                    await client.put(b"%d" % number, b"")
                errors.append(raised.value)

            async def fail(name: str) -> None:
                if name == "txn":
                    raise RpcError(Code.UNAVAILABLE, "etcdserver: request timed out")

            server.after = fail
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.put, b"first", b"")
                await gate.arrived.wait()
                for number in range(3):
                    nursery.start_soon(put, number)
                await trio.testing.wait_all_tasks_blocked()
                gate.opened.set()
            assert len({id(error) for error in errors}) == 3


async def test_a_put_that_is_given_up_while_it_waits_is_not_executed() -> None:
    """Nor does it matter to the others; a txn that all have given up is not waited for."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            gate = Gate(server)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.put, b"first", b"")
                await gate.arrived.wait()
                async with trio.open_nursery() as given_up:
                    nursery.start_soon(client.put, b"stays", b"")
                    given_up.start_soon(client.put, b"goes", b"")
                    await trio.testing.wait_all_tasks_blocked()
                    given_up.cancel_scope.cancel()
                gate.opened.set()
            assert sorted(server.values) == [b"first", b"stays"]

            gate = Gate(server)
            with trio.move_on_after(0.1):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.put, b"a", b"")
                    await gate.arrived.wait()
                    nursery.start_soon(client.put, b"b", b"")
            gate.opened.set()
            await client.put(b"next", b"")
            assert b"next" in server.values


PUTS = st.tuples(
    st.integers(0, 5),  # the key
    st.sampled_from(["put", "put", "put", "no lease", "large", "given up"]),
    st.integers(0, 3),  # so many turns of the scheduler before it is made
)
FAULTS = st.sampled_from(["none", "none", "timed out before", "timed out after", "cut", "refused unread"])


@settings(max_examples=60)
@given(puts=st.lists(PUTS, max_size=40), faults=st.lists(FAULTS, max_size=12), knows_keys=st.booleans())
def test_every_caller_is_told_the_truth(
    puts: list[tuple[int, str, int]], faults: list[str], knows_keys: bool
) -> None:
    """What was acknowledged was executed once, and what was refused never, whatever fails meanwhile."""
    trio.run(partial(run_drawn, puts, faults, knows_keys))


async def run_drawn(puts: list[tuple[int, str, int]], faults: list[str], knows_keys: bool) -> None:
    outcomes = dict[bytes, str]()

    async def put(client: Client, number: int, key: int, kind: str, turns: int) -> None:
        value = b"%d" % number if kind != "large" else b"%d" % number + bytes(1600 * 1024)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        outcomes[value] = "given up"
        with trio.move_on_after(0.001 if kind == "given up" else PATIENCE_S):
            try:
                reply = await client.put(b"k%d" % key, value, lease=NO_LEASE if kind == "no lease" else None)
                outcomes[value] = f"at {reply.revision}"
            except OutcomeUnknown:
                outcomes[value] = "unknown"
            except (CallRefused, TooLarge):
                outcomes[value] = "refused"

    async with open_small_server() as server, client_of(server) as client:
        server.knows_keys = knows_keys

        async def before(name: str) -> None:
            if name == "range" or not faults:
                return
            match faults[-1]:
                case "timed out before":
                    faults.pop()
                    raise RpcError(Code.UNAVAILABLE, "etcdserver: request timed out")
                case "refused unread":
                    faults.pop()
                    raise RpcError(Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests")

        async def after(name: str) -> None:
            if not faults:
                return
            match faults.pop():
                case "timed out after":
                    raise RpcError(Code.UNAVAILABLE, "etcdserver: request timed out")
                case "cut":
                    server.cut()

        server.before, server.after = before, after
        async with trio.open_nursery() as nursery:
            for number, (key, kind, turns) in enumerate(puts):
                nursery.start_soon(put, client, number, key, kind, turns)
        executed = [value for _, value in server.puts]
        assert len(set(executed)) == len(executed), "a put was executed twice"
        for value, outcome in outcomes.items():
            kind = puts[int(value.rstrip(b"\0") or b"0")][1] if value else ""
            if outcome.startswith("at "):
                assert executed.count(value) == 1
            elif outcome == "refused":
                assert value not in executed
                assert kind in ("no lease", "large")
            if knows_keys and kind in ("put", "no lease", "large"):
                assert outcome != "given up"
        if not faults and knows_keys:
            await client.put(b"last", b"")
