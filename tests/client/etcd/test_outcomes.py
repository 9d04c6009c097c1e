"""What callers are told of calls that fail: refused, or perhaps executed; and what is made again."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from google.protobuf.message import Message

from raftkv_trio import CallRefused, Client, NoLeader, OutcomeUnknown, StoreFull, TooLarge
from raftkv_trio.client.etcd.outcomes import CallError, Outcome, outcome_of
from raftkv_trio.etcd.errors import Fault
from raftkv_trio.grpc import CallLost, CallNotExecuted, Code, Metadata, Method, RpcError, Send
from raftkv_trio.kv import Failure
from raftkv_trio.schema import rpc_pb2
from tests.client.etcd.small_server import NO_LEASE, SmallServer, open_small_server
from tests.conftest import find_free_ports

PATIENCE_S = 30.0
TIMED_OUT = RpcError(Code.UNAVAILABLE, "etcdserver: request timed out")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CallNotExecuted(""), Outcome.NOT_EXECUTED),
        (CallLost(""), Outcome.UNKNOWN),
        (TIMED_OUT, Outcome.UNKNOWN),
        (RpcError(Code.UNAVAILABLE, "etcdserver: request timed out, possibly due to x"), Outcome.UNKNOWN),
        (RpcError(Code.UNAVAILABLE, "etcdserver: server stopped"), Outcome.UNKNOWN),
        (RpcError(Code.UNAVAILABLE, "the server is stopping"), Outcome.UNKNOWN),
        (RpcError(Code.UNAVAILABLE, "etcdserver: no leader"), Outcome.NOT_EXECUTED),
        (RpcError(Code.UNAVAILABLE, "etcdserver: not capable"), Outcome.REFUSED),
        (RpcError(Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests"), Outcome.NOT_EXECUTED),
        (RpcError(Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (9)"), Outcome.REFUSED),
        (Fault.TOO_MANY_KEYS.error(), Outcome.REFUSED),
        (RpcError(Code.RESOURCE_EXHAUSTED, "trying to send message larger than max"), Outcome.UNKNOWN),
        (RpcError(Code.DEADLINE_EXCEEDED, ""), Outcome.UNKNOWN),
        (RpcError(Code.INTERNAL, ""), Outcome.UNKNOWN),
        (RpcError(Code.INVALID_ARGUMENT, "etcdserver: key is not provided"), Outcome.REFUSED),
        (RpcError(Code.OUT_OF_RANGE, ""), Outcome.REFUSED),
    ],
    ids=str,
)
def test_what_an_error_says(error: CallError, expected: Outcome) -> None:
    """What may have been executed is never taken as refused."""
    assert outcome_of(error, is_ours=False) is expected


def test_a_full_store_is_no_refusal_of_etcd() -> None:
    """etcd may execute a put and say all the same that the space is exceeded; raftkv-trio does not."""
    error = RpcError(Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
    assert outcome_of(error, is_ours=False) is Outcome.UNKNOWN
    assert outcome_of(error, is_ours=True) is Outcome.REFUSED


def client_of(*servers: SmallServer) -> Client:
    return Client([f"127.0.0.1:{server.port}" for server in servers])


class Fails:
    """Raises these errors, one a call; then nothing any more."""

    def __init__(self, errors: list[RpcError | None]) -> None:
        self.errors = errors
        self.seen: list[str] = []

    async def __call__(self, name: str) -> None:
        if name == "range" and self.errors and self.errors[0] is TIMED_OUT:
            return  # the read of the revision, between two attempts of a write
        self.seen.append(name)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


@pytest.mark.parametrize("text", ["etcdserver: no leader", "etcdserver: too many requests"])
async def test_a_write_that_was_not_executed_is_made_again(text: str) -> None:
    """On whichever server, without an error for the caller."""
    code = Code.UNAVAILABLE if "leader" in text else Code.RESOURCE_EXHAUSTED
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            server.before = Fails([RpcError(code, text), RpcError(code, text)])
            await client.put(b"a", b"1")
            assert server.puts == [(b"a", b"1")]


async def test_a_write_in_doubt_is_not_made_again_without_a_key() -> None:
    """On etcd, which knows no keys, the caller is told; the write has been executed here."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            server.after = Fails([TIMED_OUT])
            with pytest.raises(OutcomeUnknown, match="may or may not"):
                await client.put(b"a", b"1")
            assert server.puts == [(b"a", b"1")]


async def test_a_write_in_doubt_is_made_again_under_its_key() -> None:
    """On a server that knows keys it is executed once, whatever its answers were."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            server.knows_keys = True
            server.after = Fails([TIMED_OUT, TIMED_OUT])
            reply = await client.put(b"a", b"1")
            assert server.puts == [(b"a", b"1")]
            assert reply.revision == server.revision == 2
            assert server.calls.count("put") == 3


async def test_a_key_counts_only_if_the_first_server_knew_it() -> None:
    """A write that a server without keys may have executed is not made again on one that knows keys."""
    with trio.fail_after(PATIENCE_S):
        async with (
            open_small_server() as first,
            open_small_server() as second,
            client_of(first, second) as client,
        ):
            second.knows_keys = True
            first.after = Fails([TIMED_OUT])
            with pytest.raises(OutcomeUnknown):
                await client.put(b"a", b"1")
            assert not second.puts


async def test_a_connection_that_breaks_is_in_doubt_too() -> None:
    """A put whose connection is cut after it was executed: told on etcd, made again under a key."""
    with trio.fail_after(PATIENCE_S):
        for knows_keys in (False, True):
            async with open_small_server() as server, client_of(server) as client:
                server.knows_keys = knows_keys

                async def cut_once(name: str, server: SmallServer = server) -> None:
                    if server.calls.count("put") == 1:
                        server.cut()

                server.after = cut_once
                if knows_keys:
                    await client.put(b"a", b"1")
                else:
                    with pytest.raises(OutcomeUnknown):
                        await client.put(b"a", b"1")
                assert server.puts == [(b"a", b"1")]


async def test_a_refusal_after_doubt_is_no_refusal() -> None:
    """The first attempt may still be on its way to the log, so the caller is not told that it was refused."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            server.knows_keys = True
            space = RpcError(Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
            failing = Fails([TIMED_OUT, None, space])  # the one in between is the read of the revision
            server.before = failing
            with pytest.raises(OutcomeUnknown):
                await client.put(b"a", b"1")
            assert not server.puts


async def test_a_key_that_may_be_forgotten_is_not_used_again() -> None:
    """If the store has gone on by many revisions, the same key might be executed twice."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            server.knows_keys = True

            async def go_on(name: str) -> None:
                if name == "put":
                    server.revision += 6000
                    raise TIMED_OUT

            server.after = go_on
            with pytest.raises(OutcomeUnknown):
                await client.put(b"a", b"1")
            assert server.calls.count("put") == 1


async def test_the_revision_that_counts_is_the_last_one_seen() -> None:
    """On a connection of long ago too: what others have put before this write does not count."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            server.knows_keys = True
            await client.put(b"a", b"1")
            server.revision += 6000
            await client.get(b"a")
            server.after = Fails([TIMED_OUT])
            await client.put(b"a", b"2")
            assert [value for _, value in server.puts] == [b"1", b"2"]


async def test_nonsense_of_a_server() -> None:
    """An answer that is no message, or answers other puts, ends the call alone."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            await client.put(b"a", b"1")

            async def nonsense(*_: object) -> bytes:
                await trio.sleep(0.01)
                return b"\xff" if server.sizes else b""

            async def put(key: bytes) -> None:
                with pytest.raises(OutcomeUnknown):
                    await client.put(key, b"")

            server._write = nonsense  # type: ignore[method-assign,assignment]
            async with trio.open_nursery() as nursery:
                for key in (b"b", b"c", b"d"):
                    nursery.start_soon(put, key)
            server.sizes = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.put, b"e", b"")  # alone, and an empty answer is one to a put
                await trio.testing.wait_all_tasks_blocked()
                for key in (b"f", b"g"):
                    nursery.start_soon(put, key)
            assert server.puts == [(b"a", b"1")]


async def test_a_keep_alive_that_is_answered_with_nonsense() -> None:
    """It is made again, as any other call whose answer is no message."""
    answers = [b"\xff", rpc_pb2.LeaseKeepAliveResponse(ID=7, TTL=600).SerializeToString()]

    async def keep_alive(requests: AsyncIterator[Message], metadata: Metadata, send: Send) -> None:
        async for _ in requests:
            await send(answers.pop(0))

    method = Method(
        "/etcdserverpb.Lease/LeaseKeepAlive",
        rpc_pb2.LeaseKeepAliveRequest,
        rpc_pb2.LeaseKeepAliveResponse,
        keep_alive,
        client_streaming=True,
        server_streaming=True,
    )
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            methods = server.methods() | {method.path: method}
            server.methods = lambda: methods  # type: ignore[method-assign]
            assert await client.keep_alive(7) == 600
            assert not answers


async def test_reads_are_made_again() -> None:
    """Whatever has become of them."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            await client.put(b"a", b"1")
            lost = RpcError(Code.UNAVAILABLE, "etcdserver: leader changed")
            server.before = Fails([lost, lost])
            found = await client.get(b"a")
            assert found is not None
            assert found.value == b"1"


async def test_refusals_have_types() -> None:
    """What was refused says why, and that nothing was done."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server, client_of(server) as client:
            with pytest.raises(CallRefused) as no_lease:
                await client.put(b"a", b"1", lease=NO_LEASE)
            assert (no_lease.value.code, no_lease.value.failure) == (5, Failure.LEASE_NOT_FOUND)
            with pytest.raises(TooLarge):
                await client.put(b"a", bytes(1536 * 1024 + 1))
            with pytest.raises(CallRefused, match="key is not provided"):
                await client.put(b"", b"1")
            server.knows_keys = True
            server.before = Fails(
                [RpcError(Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")]
            )
            async with client_of(server) as another:
                with pytest.raises(StoreFull):
                    await another.put(b"a", b"1")
            assert not server.puts


# ---------------------------------------------------------------- giving up


async def test_given_up_before_it_was_sent() -> None:
    """`fail_after` says that nothing was done, and why each endpoint failed."""
    (port,) = find_free_ports(1)
    async with Client([f"127.0.0.1:{port}"]) as client:
        with pytest.raises(NoLeader, match="certainly not executed") as given_up, client.fail_after(0.3):
            await client.put(b"a", b"1")
    assert f"http://127.0.0.1:{port}: Connection refused" in str(given_up.value)


async def test_given_up_when_it_was_sent() -> None:
    """`fail_after` says that it may have been executed; a read is never in doubt."""
    async with open_small_server() as server, client_of(server) as client:

        async def never(name: str) -> None:
            await trio.sleep_forever()

        server.before = never
        with pytest.raises(OutcomeUnknown, match="no answer within"), client.fail_after(0.3):
            await client.put(b"a", b"1")
        with pytest.raises(NoLeader), client.fail_after(0.3):
            await client.get(b"a")


async def test_calls_of_a_client_that_is_closed() -> None:
    """They raise Trio's error for it; what was sent already is in doubt."""
    with trio.fail_after(PATIENCE_S):
        async with open_small_server() as server:
            arrived = trio.Event()

            async def never(name: str) -> None:
                arrived.set()
                await trio.sleep_forever()

            server.before = never

            async def put(key: bytes, expected: type[Exception]) -> None:
                with pytest.raises(expected):
                    await client.put(key, b"1")

            async with trio.open_nursery() as nursery:
                async with client_of(server) as client:
                    nursery.start_soon(put, b"a", OutcomeUnknown)
                    await arrived.wait()
                    nursery.start_soon(put, b"b", trio.ClosedResourceError)
                    await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(trio.ClosedResourceError):
                    await client.put(b"c", b"1")


async def test_errors_of_the_block_leave_as_they_are() -> None:
    """Not in a group, as they would leave a nursery."""
    with pytest.raises(ZeroDivisionError):
        async with Client(["127.0.0.1:1"]):
            raise ZeroDivisionError
