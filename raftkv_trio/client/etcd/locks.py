"""Locks and elections of a client."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import NamedTuple, Self

import trio

from raftkv_trio.client.etcd.calls import Calls
from raftkv_trio.client.etcd.leases import Lease, LeaseLost, hold_lease
from raftkv_trio.client.etcd.messages import TXN
from raftkv_trio.client.etcd.outcomes import WatchCompacted
from raftkv_trio.client.etcd.queues import Place, first_of, stand_in, wait_first
from raftkv_trio.client.etcd.watch import Watch
from raftkv_trio.kv import KeyValue, prefix_end
from raftkv_trio.schema import rpc_pb2

#: Of a lock or a leadership, unless its user says otherwise; as in etcd.
DEFAULT_TTL_S = 60


class Lock(NamedTuple):
    """A lock that is held.

    Attributes:
        key: that shows it; it exists as long as the lock is held.
        revision: that created the key. It grows from holder to holder: a fencing token.
        lease: on which the lock depends.
    """

    key: bytes
    revision: int
    lease: Lease


@asynccontextmanager
async def hold_lock(calls: Calls, nursery: trio.Nursery, name: bytes, ttl_s: int) -> AsyncIterator[Lock]:
    """A lock for the block. Raises LeaseLost. Cancellation releases it, or leaves the queue."""
    async with hold_lease(calls, nursery, ttl_s) as lease:
        prefix = name + b"/"
        place = await stand_in(calls, prefix, lease, b"")
        await wait_first(calls, prefix, place)
        yield Lock(place.key, place.revision, lease)


class Leadership:
    """A leadership that was won.

    Attributes:
        key: that shows it; it exists as long as the leadership does.
        revision: that created the key. It grows from leader to leader: a fencing token.
        lease: on which the leadership depends.
    """

    def __init__(self, calls: Calls, place: Place, lease: Lease) -> None:
        self.key = place.key
        self.revision = place.revision
        self.lease = lease
        self._calls = calls

    async def proclaim(self, value: bytes) -> None:
        """Tell everyone another value. Raises LeaseLost if this is no leadership any more.

        Cancelled, it may be told, also later.
        """
        put = rpc_pb2.PutRequest(key=self.key, value=value, lease=self.lease.id)
        if not await self._if_it_lasts(rpc_pb2.RequestOp(request_put=put)):
            raise LeaseLost("the leadership is over: its key is gone")

    async def resign(self) -> None:
        """End it before the end of the block; of no effect if it is over. Cancelled, it may have ended."""
        delete = rpc_pb2.DeleteRangeRequest(key=self.key)
        await self._if_it_lasts(rpc_pb2.RequestOp(request_delete_range=delete))

    async def _if_it_lasts(self, operation: rpc_pb2.RequestOp) -> bool:
        compare = rpc_pb2.Compare(
            key=self.key,
            target=rpc_pb2.Compare.CREATE,
            result=rpc_pb2.Compare.EQUAL,
            create_revision=self.revision,
        )
        request = rpc_pb2.TxnRequest(compare=[compare], success=[operation])
        return (await self._calls.make(TXN, request)).succeeded


class Election:
    """An election; from `Client.election`. Its candidates need not know each other."""

    def __init__(self, calls: Calls, nursery: trio.Nursery, name: bytes) -> None:
        self._calls = calls
        self._nursery = nursery
        self._prefix = name + b"/"

    def campaign(
        self, value: bytes, *, ttl_s: int = DEFAULT_TTL_S
    ) -> AbstractAsyncContextManager[Leadership]:
        """Wait until elected, and lead for the block; its end resigns.

        Args:
            value: that everyone is told, such as the address of this program.
            ttl_s: how long after this program has died the next candidate is elected, in seconds.

        If the leadership is lost, the block is cancelled, and LeaseLost raised.
        """
        return self._campaign(value, ttl_s)

    @asynccontextmanager
    async def _campaign(self, value: bytes, ttl_s: int) -> AsyncIterator[Leadership]:
        async with hold_lease(self._calls, self._nursery, ttl_s) as lease:
            place = await stand_in(self._calls, self._prefix, lease, value)
            await wait_first(self._calls, self._prefix, place)
            yield Leadership(self._calls, place, lease)

    async def leader(self) -> KeyValue | None:
        """The key of the leader, with its value; None if there is none."""
        return (await first_of(self._calls, self._prefix))[0]

    def observe(self) -> "Leaders":
        """Iterate over leaders, and over what they proclaim; see there."""
        return Leaders(self._calls, self._prefix)


class Leaders:
    """Iterates over the keys of leaders as they change, from the present one on; from `Election.observe`.

    Use it in an `async with` block. The newest leader, and its newest value, are always given; of those that
    follow each other fast some may be left out. One task at a time may iterate.
    """

    def __init__(self, calls: Calls, prefix: bytes) -> None:
        self._calls = calls
        self._prefix = prefix
        self._leader: KeyValue | None = None
        self._watch: Watch | None = None
        self._found: deque[KeyValue] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.__aexit__(None, None, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KeyValue:
        """The next leader, or the next value of the same one. Cancellation loses nothing."""
        while True:
            if self._watch is None:
                await self._look()
            if self._found:
                return self._found.popleft()
            await self._follow()

    async def _look(self) -> None:
        """Find the leader, and watch from there on."""
        found, revision = await first_of(self._calls, self._prefix)
        request = rpc_pb2.WatchCreateRequest(
            key=self._prefix, range_end=prefix_end(self._prefix), start_revision=revision + 1
        )
        watch = Watch(self._calls, request)
        await watch.__aenter__()
        self._watch = watch
        if found is not None and found != self._leader:
            self._found.append(found)
        self._leader = found

    async def _follow(self) -> None:
        """Take one event."""
        assert self._watch is not None
        try:
            event = await anext(self._watch)
        except WatchCompacted:
            await self._close()
            return
        leader = self._leader
        if leader is not None and event.key != leader.key:
            return
        if leader is None or event.key_value is None:
            await self._close()  # somebody has come, or the leader has gone
        else:
            self._leader = event.key_value
            self._found.append(event.key_value)
