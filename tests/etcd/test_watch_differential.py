"""The same watches, and the same changes, on a real etcd and on a node: the same is told."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from raftkv_trio.schema import rpc_pb2
from tests.etcd.servers import ApiServer, needs_etcd, open_etcd, open_node
from tests.etcd.strategies import any_keys, compactions, deletes, ends, puts, sparse, txns
from tests.etcd.watch_streams import PATIENCE_S, WatchStream, open_watch_stream

pytestmark = needs_etcd
METHODS: dict[type, tuple[str, Any]] = {
    rpc_pb2.PutRequest: ("Put", rpc_pb2.PutResponse),
    rpc_pb2.DeleteRangeRequest: ("DeleteRange", rpc_pb2.DeleteRangeResponse),
    rpc_pb2.TxnRequest: ("Txn", rpc_pb2.TxnResponse),
    rpc_pb2.CompactionRequest: ("Compact", rpc_pb2.CompactionResponse),
    rpc_pb2.RangeRequest: ("Range", rpc_pb2.RangeResponse),
}
Step = tuple[str, Any]

flags = st.booleans()
creates = st.tuples(
    st.just("create"),
    st.tuples(
        any_keys,
        sparse(
            range_end=ends,
            # Counts from the present revision; see `_ask`.
            start_revision=st.one_of(st.integers(-8, 4), st.just(-(10**6)), st.just(10**6)),
            filters=st.lists(st.integers(0, 2), max_size=2),
            prev_kv=flags,
            watch_id=st.sampled_from([-2, 0, 0, 1, 2, 3, 4]),  # -1 is that of responses about no watch
            fragment=flags,
            progress_notify=flags,
        ),
    ),
)
cancels = st.tuples(st.just("cancel"), st.integers(-2, 6))
progresses = st.tuples(st.just("progress"), st.none())
changes = st.tuples(st.just("call"), st.one_of(puts(), puts(), puts(), deletes(), txns(1)))
compacts = st.tuples(st.just("call"), compactions())
steps = st.one_of(creates, creates, changes, changes, changes, changes, cancels, progresses, compacts)
sequences = st.lists(steps, min_size=1, max_size=14)


class Side:
    """One server."""

    def __init__(self, server: ApiServer) -> None:
        self.name = server.name
        self._http = httpx.Client(base_url=server.url, timeout=PATIENCE_S)
        self.channel = server.channel()

    def call(self, request: Any) -> Any:
        """The response; of an error the code."""
        method, response = METHODS[type(request)]
        call = self.channel.unary_unary(
            f"/etcdserverpb.KV/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            return call(request, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code()

    def revision(self) -> int:
        return int(self.call(rpc_pb2.RangeRequest(key=b"a")).header.revision)

    def wait_synced(self) -> None:
        """Of etcd: return when no watcher is left that it still reads from the history for."""
        wait_until(lambda: "etcd_debugging_mvcc_slow_watcher_total 0\n" in self._http.get("/metrics").text)

    def close(self) -> None:
        self._http.close()
        self.channel.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)  # of another program, which can only be asked


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Side]]:
    """etcd and a node, whose revisions are equal."""
    directory = tmp_path_factory.mktemp("servers")
    with open_etcd(directory) as etcd, open_node(directory) as node:
        both = [Side(etcd), Side(node)]
        yield both
        for side in both:
            side.close()


def settle(sides: list[Side], streams: list[WatchStream]) -> None:
    """Return when both have told the same, and have nothing left to tell."""
    sides[0].wait_synced()
    deadline = time.monotonic() + 5
    while True:
        etcd, node = [stream.told() for stream in streams]
        if etcd == node:
            return
        if time.monotonic() > deadline:
            assert node == etcd
        time.sleep(0.002)


def compare(sides: list[Side], sequence: list[Step]) -> None:
    for side in sides:
        side.call(rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
    assert sides[0].revision() == sides[1].revision()
    with ExitStack() as stack:
        streams = [stack.enter_context(open_watch_stream(side.channel)) for side in sides]
        there: set[int] = set()
        for kind, what in sequence:
            if kind == "call":
                request = type(what)()
                request.CopyFrom(what)
                if isinstance(request, rpc_pb2.CompactionRequest):
                    settle(sides, streams)
                    request.revision += sides[0].revision()
                answers = [side.call(request) for side in sides]
                codes = [answer if isinstance(answer, grpc.StatusCode) else None for answer in answers]
                assert codes[0] == codes[1]
            elif kind == "create":
                key, fields = what
                fields = dict(fields)
                if fields.get("start_revision"):
                    fields["start_revision"] += sides[0].revision()
                created = [s.ask(create_request={"key": key, **fields}) for s in streams]
                assert created[0].watch_id == created[1].watch_id
                there |= {one.watch_id for one in created if not one.canceled}
            elif kind == "cancel" and what in there:
                settle(sides, streams)
                there.remove(what)
                for stream in streams:
                    stream.ask(cancel_request={"watch_id": what})
            elif kind == "cancel":
                for stream in streams:
                    stream.send(cancel_request={"watch_id": what})
            else:
                for stream in streams:
                    stream.ask(progress_request={})
        settle(sides, streams)
        # What were told too much would come before these.
        for stream in streams:
            stream.ask(progress_request={})
        settle(sides, streams)


quiet = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
PUT = "call", rpc_pb2.PutRequest(key=b"a", value=b"1")
DELETE = "call", rpc_pb2.DeleteRangeRequest(key=b"a")
PAST: dict[str, Any] = {"start_revision": -3}


@settings(quiet, max_examples=50)
@example(sequence=[PUT, PUT, DELETE, ("create", (b"a", PAST)), ("create", (b"a", PAST | {"prev_kv": True}))])
@example(sequence=[PUT, PUT, ("create", (b"a", {"watch_id": 3})), ("create", (b"a", {"watch_id": 3})), PUT])
@example(sequence=[PUT, PUT, ("call", rpc_pb2.CompactionRequest(revision=0)), ("create", (b"a", PAST))])
@given(sequence=sequences)
def test_random_watches(sides: list[Side], sequence: list[Step]) -> None:
    """Watches that are created and cancelled while keys change, and the history is compacted."""
    compare(sides, sequence)


@pytest.mark.long
@settings(quiet, max_examples=2000)
@given(sequence=sequences)
def test_many_random_watches(sides: list[Side], sequence: list[Step]) -> None:
    """The same, many more of them."""
    compare(sides, sequence)
