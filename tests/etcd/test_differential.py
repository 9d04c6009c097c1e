"""The same calls to a real etcd and to a node have the same answers, by gRPC and by JSON."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from raftkv_trio.schema import rpc_pb2
from tests.etcd.servers import ApiServer, needs_etcd, open_etcd, open_node
from tests.etcd.strategies import LEASES, calls

PATHS: dict[type, tuple[str, str, Any]] = {
    rpc_pb2.RangeRequest: ("KV/Range", "kv/range", rpc_pb2.RangeResponse),
    rpc_pb2.PutRequest: ("KV/Put", "kv/put", rpc_pb2.PutResponse),
    rpc_pb2.DeleteRangeRequest: ("KV/DeleteRange", "kv/deleterange", rpc_pb2.DeleteRangeResponse),
    rpc_pb2.TxnRequest: ("KV/Txn", "kv/txn", rpc_pb2.TxnResponse),
    rpc_pb2.CompactionRequest: ("KV/Compact", "kv/compaction", rpc_pb2.CompactionResponse),
    rpc_pb2.LeaseGrantRequest: ("Lease/LeaseGrant", "lease/grant", rpc_pb2.LeaseGrantResponse),
    rpc_pb2.LeaseRevokeRequest: ("Lease/LeaseRevoke", "kv/lease/revoke", rpc_pb2.LeaseRevokeResponse),
    rpc_pb2.LeaseTimeToLiveRequest: (
        "Lease/LeaseTimeToLive",
        "lease/timetolive",
        rpc_pb2.LeaseTimeToLiveResponse,
    ),
    rpc_pb2.LeaseLeasesRequest: ("Lease/LeaseLeases", "lease/leases", rpc_pb2.LeaseLeasesResponse),
    rpc_pb2.LeaseKeepAliveRequest: (
        "Lease/LeaseKeepAlive",
        "lease/keepalive",
        rpc_pb2.LeaseKeepAliveResponse,
    ),
}
#: In headers; they belong to the server.
OWN = ("cluster_id", "member_id", "raft_term")


class Asked:
    """One server, asked by both transports."""

    def __init__(self, server: ApiServer) -> None:
        self.name = server.name
        self._http = httpx.Client(base_url=server.url, timeout=60)
        self._channel = server.channel()

    def close(self) -> None:
        self._http.close()
        self._channel.close()

    def ask(self, request: Any, *, by_json: bool) -> Any:
        """The answer without what is the server's own; an error as code and text."""
        method, route, response = PATHS[type(request)]
        if by_json:
            content = json.dumps(MessageToDict(request, preserving_proto_field_name=True))
            answer = self._http.post(f"/v3/{route}", content=content)
            seen = answer.json()
            if answer.status_code != 200:
                return answer.status_code, seen
            seen = seen.get("result", seen)
        else:
            call = self._call(method, type(request), response)
            try:
                seen = MessageToDict(call(request, timeout=60), preserving_proto_field_name=True)
            except grpc.RpcError as error:
                return error.code(), error.details()
        for name in OWN:
            seen.get("header", {}).pop(name, None)
        if isinstance(request, rpc_pb2.LeaseTimeToLiveRequest):
            _blur(seen)
        return seen

    def _call(self, method: str, request: Any, response: Any) -> Any:
        make = self._channel.unary_unary
        if request is rpc_pb2.LeaseKeepAliveRequest:
            make = self._channel.stream_stream
        call = make(
            f"/etcdserverpb.{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        if request is rpc_pb2.LeaseKeepAliveRequest:
            return lambda message, timeout: next(call(iter([message]), timeout=timeout))
        return call


def _blur(seen: dict[str, Any]) -> None:
    """Take out of a time to live what differs between two calls: less than 1000 s, and the order of keys."""
    if "TTL" in seen and int(seen["TTL"]) > 0:
        seen["TTL"] = -(-int(seen["TTL"]) // 1000)
    if "keys" in seen:
        seen["keys"].sort()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Asked]]:
    """etcd and a node; whatever one is asked, the other one is asked too, so their revisions are equal."""
    directory = tmp_path_factory.mktemp("servers")
    with open_etcd(directory) as etcd, open_node(directory) as node:
        asked = [Asked(etcd), Asked(node)]
        yield asked
        for each in asked:
            each.close()


def absolute(request: Any, present: int) -> Any:
    """The request with revisions that count from the present one."""
    copy = type(request)()
    copy.CopyFrom(request)
    if isinstance(copy, rpc_pb2.RangeRequest | rpc_pb2.CompactionRequest) and copy.revision:
        copy.revision = max(present + copy.revision, -1)
    if isinstance(copy, rpc_pb2.TxnRequest):
        for operations in (copy.success, copy.failure):
            for operation in operations:
                if operation.HasField("request_range"):
                    operation.request_range.CopyFrom(absolute(operation.request_range, present))
                if operation.HasField("request_txn"):
                    operation.request_txn.CopyFrom(absolute(operation.request_txn, present))
    return copy


def compare(both: list[Asked], sequence: list[tuple[Any, bool]]) -> None:
    everything = rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0")
    read = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")
    for request in (everything, *map(_revocation, LEASES), read):
        answers = [asked.ask(request, by_json=False) for asked in both]
        assert request is not read or answers[0]["header"] == answers[1]["header"]
    for request, by_json in sequence:
        present = int(both[0].ask(read, by_json=False)["header"]["revision"])
        sent = absolute(request, present)
        etcd, node = [asked.ask(sent, by_json=by_json) for asked in both]
        assert node == etcd, sent
    etcd, node = [asked.ask(read, by_json=False) for asked in both]
    assert node == etcd


def _revocation(lease_id: int) -> rpc_pb2.LeaseRevokeRequest:
    return rpc_pb2.LeaseRevokeRequest(ID=lease_id)


sequences = st.lists(st.tuples(calls, st.booleans()), min_size=1, max_size=12)
quiet = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


UNKNOWN_RELATION: Any = {"result": 4, "target": 3, "key": b"a", "value": b""}


@needs_etcd
@settings(quiet, max_examples=100)
@example(sequence=[(rpc_pb2.TxnRequest(compare=[rpc_pb2.Compare(**UNKNOWN_RELATION)]), False)])
@example(sequence=[(rpc_pb2.PutRequest(key=b"none", lease=7, ignore_value=True), False)])
@given(sequence=sequences)
def test_random_sequences(both: list[Asked], sequence: list[tuple[Any, bool]]) -> None:
    """Random sequences of ranges, puts, deletes, txns, compactions and calls about leases."""
    compare(both, sequence)


@needs_etcd
@pytest.mark.long
@settings(quiet, max_examples=2000)
@given(sequence=sequences)
def test_many_random_sequences(both: list[Asked], sequence: list[tuple[Any, bool]]) -> None:
    """The same, many more of them."""
    compare(both, sequence)
