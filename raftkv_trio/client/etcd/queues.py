"""Who comes first: what locks and elections have in common, as etcd's `clientv3/concurrency` does it.

Everyone puts a key of its own under a common prefix, with its lease as the name and as the lease of the key.
Whoever's key was created first has the lock, or leads. Each of the others waits for the key before its own.
"""

from typing import NamedTuple

from raftkv_trio.client.etcd.calls import Calls
from raftkv_trio.client.etcd.leases import Lease, LeaseLost
from raftkv_trio.client.etcd.messages import RANGE, TXN, key_value_of
from raftkv_trio.client.etcd.outcomes import WatchCompacted
from raftkv_trio.client.etcd.watch import Watch
from raftkv_trio.errors import OutcomeUnknown
from raftkv_trio.kv import KeyValue, prefix_end
from raftkv_trio.schema import rpc_pb2


class Place(NamedTuple):
    """A key in a queue.

    Attributes:
        key: of the one who waits.
        revision: that created it: later ones wait longer, so it serves as a fencing token.
    """

    key: bytes
    revision: int


async def stand_in(calls: Calls, prefix: bytes, lease: Lease, value: bytes) -> Place:
    """Put a key at the end of the queue. Cancelled, it may be there until the lease ends."""
    key = b"%b%x" % (prefix, lease.id)
    request = rpc_pb2.TxnRequest(
        compare=[
            rpc_pb2.Compare(
                key=key, target=rpc_pb2.Compare.CREATE, result=rpc_pb2.Compare.EQUAL, create_revision=0
            )
        ],
        success=[
            rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value, lease=lease.id)),
            rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key)),
        ],
        failure=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key))],
    )
    while True:
        try:
            answer = await calls.make(TXN, request)
            return Place(key, answer.responses[-1].response_range.kvs[0].create_revision)
        except OutcomeUnknown:
            pass  # made again, it finds the key that it has put


async def wait_first(calls: Calls, prefix: bytes, place: Place) -> None:
    """Return when there is nobody before this place. Raises LeaseLost if the place is gone."""
    while True:
        request = _first_by_creation(prefix, rpc_pb2.RangeRequest.DESCEND)
        request.max_create_revision = place.revision - 1
        before = await calls.make(RANGE, request)
        if not before.kvs:
            break
        await _wait_deleted(calls, before.kvs[0].key, before.header.revision + 1)
    own = await calls.make(RANGE, rpc_pb2.RangeRequest(key=place.key))
    if not own.kvs or own.kvs[0].create_revision != place.revision:
        raise LeaseLost(f"{place.key!r} is gone, with its lease")


async def _wait_deleted(calls: Calls, key: bytes, revision: int) -> None:
    request = rpc_pb2.WatchCreateRequest(
        key=key, start_revision=revision, filters=[rpc_pb2.WatchCreateRequest.NOPUT]
    )
    try:
        async with Watch(calls, request) as watch:
            await anext(watch)
    except WatchCompacted:
        pass  # whoever waits looks again


async def first_of(calls: Calls, prefix: bytes) -> tuple[KeyValue | None, int]:
    """The key whose turn it is, and the store's revision."""
    answer = await calls.make(RANGE, _first_by_creation(prefix, rpc_pb2.RangeRequest.ASCEND))
    return (key_value_of(answer.kvs[0]) if answer.kvs else None), answer.header.revision


def _first_by_creation(prefix: bytes, order: rpc_pb2.RangeRequest.SortOrder) -> rpc_pb2.RangeRequest:
    """The range of the one key under a prefix that is the first in the order in which they were created."""
    return rpc_pb2.RangeRequest(
        key=prefix,
        range_end=prefix_end(prefix),
        sort_target=rpc_pb2.RangeRequest.CREATE,
        sort_order=order,
        limit=1,
    )
