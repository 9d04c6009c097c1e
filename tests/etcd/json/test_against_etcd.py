"""The codec beside a real etcd's gateway: the same is refused, and the rest is understood in the same way."""

from collections.abc import Iterator
from random import Random

import pytest
from google.protobuf.message import Message

from raftkv_trio.errors import MalformedRequest
from raftkv_trio.etcd.json import decode, encode
from raftkv_trio.schema import rpc_pb2
from raftkv_trio.schema.rpc_pb2 import RangeRequest, TxnRequest
from tests.etcd.json.bodies import RANGE, REMOVE, TIME_TO_LIVE, TXN, body
from tests.etcd.real_etcd import Answer, RealEtcd

REQUESTS: dict[str, type[Message]] = {
    RANGE: RangeRequest,
    TXN: TxnRequest,
    TIME_TO_LIVE: rpc_pb2.LeaseTimeToLiveRequest,
    REMOVE: rpc_pb2.MemberRemoveRequest,
}


@pytest.fixture(scope="module")
def etcd(real_etcd: RealEtcd) -> RealEtcd:
    for key in ("YQ==", "Yg==", "YWI=", "YWE="):
        assert real_etcd.ask("/v3/kv/put", b'{"key":"%b","value":"YQ=="}' % key.encode()).status == 200
    return real_etcd


def ranges(message: Message) -> Iterator[RangeRequest]:
    if isinstance(message, RangeRequest):
        yield message
    elif isinstance(message, TxnRequest):
        for operation in (*message.success, *message.failure):
            yield from ranges(operation.request_range)
            yield from ranges(operation.request_txn)


def ends_etcd(message: Message) -> bool:
    """Whether etcd would end with a panic: it sorts by a target that it does not know."""
    return any(inner.sort_order != 0 and not 0 <= inner.sort_target <= 4 for inner in ranges(message))


def is_refused(answer: Answer) -> bool:
    """Whether the gateway has refused the content; what the server refuses has another text."""
    if answer.status == 0:  # the gateway panics at `null` in a list of messages
        return True
    return (
        answer.status == 400
        and answer.json["code"] == 3
        and not answer.json["error"].startswith("etcdserver: ")
    )


def compare(etcd: RealEtcd, seed: int) -> None:
    path, content = body(Random(seed))
    try:
        message = decode(content, REQUESTS[path])
    except MalformedRequest:
        message = None
    if message is not None and ends_etcd(message):
        return
    answer = etcd.ask(path, content)
    assert is_refused(answer) == (message is None), f"seed {seed}: {content!r}: {answer}, {message}"
    if message is not None:
        in_our_form = encode(message)
        assert etcd.ask(path, in_our_form) == answer, f"seed {seed}: {content!r} was read as {in_our_form!r}"


def test_what_is_malformed_is_so_for_both(etcd: RealEtcd) -> None:
    """Of good requests, changed by chance."""
    for seed in range(200):
        compare(etcd, seed)


@pytest.mark.long
def test_what_is_malformed_is_so_for_both_many_times(etcd: RealEtcd) -> None:
    """The same with more seeds."""
    for seed in range(200, 10_200):
        compare(etcd, seed)


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        (RANGE, b'{"key":"YQ==","range_end":"eg=="}', rpc_pb2.RangeResponse),
        (RANGE, b'{"key":"YQ==","range_end":"eg==","limit":2}', rpc_pb2.RangeResponse),
        (RANGE, b'{"key":"AA==","range_end":"AA==","count_only":true}', rpc_pb2.RangeResponse),
        (
            TXN,
            b'{"success":[{"request_range":{"key":"YQ=="}},{"request_delete_range":{"key":"eno="}},'
            b'{"request_txn":{}},{"request_put":{"key":"YQ==","value":"YQ==","prev_kv":true}}]}',
            rpc_pb2.TxnResponse,
        ),
        ("/v3/kv/put", b'{"key":"Yg==","value":"//4=","prev_kv":true}', rpc_pb2.PutResponse),
        ("/v3/kv/deleterange", b'{"key":"Yg==","prev_kv":true}', rpc_pb2.DeleteRangeResponse),
        ("/v3/cluster/member/list", b"{}", rpc_pb2.MemberListResponse),
        ("/v3/maintenance/status", b"{}", rpc_pb2.StatusResponse),
        ("/v3/maintenance/alarm", b"{}", rpc_pb2.AlarmResponse),
        ("/v3/maintenance/alarm", b'{"action":"ACTIVATE","alarm":"NOSPACE"}', rpc_pb2.AlarmResponse),
        ("/v3/maintenance/status", b"", rpc_pb2.StatusResponse),
        ("/v3/maintenance/alarm", b'{"action":"DEACTIVATE","alarm":"NOSPACE"}', rpc_pb2.AlarmResponse),
        ("/v3/maintenance/hash", b"{}", rpc_pb2.HashResponse),
        ("/v3/lease/grant", b'{"TTL":"600"}', rpc_pb2.LeaseGrantResponse),
        ("/v3/lease/leases", b"{}", rpc_pb2.LeaseLeasesResponse),
        (
            "/v3/auth/user/add",
            b'{"name":"<&>\\u2028\\b\\n\\u007f","password":"x"}',
            rpc_pb2.AuthUserAddResponse,
        ),
        ("/v3/auth/user/list", b"{}", rpc_pb2.AuthUserListResponse),
        ("/v3/auth/role/add", b'{"name":"r"}', rpc_pb2.AuthRoleAddResponse),
        (
            "/v3/auth/role/grant",
            b'{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"eg=="}}',
            rpc_pb2.AuthRoleGrantPermissionResponse,
        ),
        ("/v3/auth/role/get", b'{"role":"r"}', rpc_pb2.AuthRoleGetResponse),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_answers_are_written_in_the_same_form(
    etcd: RealEtcd, path: str, content: bytes, kind: type[Message]
) -> None:
    """etcd's own answer, read and written again, has the same bytes."""
    answer = etcd.ask(path, content)
    assert answer.status == 200, answer
    assert encode(decode(answer.content, kind)) == answer.content
