"""Clients that queue for a lock, or for the leadership of an election: etcd's recipe, made by the server.

Each has a key under a common prefix, which its lease may take away. The turn comes in the order in which the
keys were created: the first one holds the lock, or leads. So who waits watches the key before its own, and
its own, and nobody is woken for nothing.

A wait reads the store of this node alone. That is enough: once a key is gone here, it is gone, and no key
that is created later comes before one that exists.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import NamedTuple, NoReturn

import trio

from raftkv_trio.access.replicated_store import ReplicatedStore
from raftkv_trio.access.watching import Change, Events, Item, Watcher, WatchStream
from raftkv_trio.errors import NoLeader
from raftkv_trio.kv import (
    Actor,
    CompactedRevision,
    Compare,
    Delete,
    Get,
    GetResult,
    KeyRange,
    KeyValue,
    Operation,
    Put,
    Relation,
    Target,
    Txn,
    TxnResult,
    encode_command,
    prefix_end,
)

#: So many keys are looked at before the node's other tasks have a turn.
PAGE_KEYS = 100
_create_revision = attrgetter("create_revision")


class Candidate(NamedTuple):
    """One who queues.

    Attributes:
        prefix: with its slash.
        key: under it.
        create_revision: of the key; it is the candidate only as long as the key has this one.
        value: of the key when the candidate came.
        revision: the store's at that time.
        actor: on whose behalf the candidate queues.
    """

    prefix: bytes
    key: bytes
    create_revision: int
    value: bytes
    revision: int
    actor: Actor | None = None


class Candidates:
    """The queues of one server's clients."""

    def __init__(self, replicated: ReplicatedStore) -> None:
        self._replicated = replicated
        self._node, self._store, self._watches = replicated.node, replicated.store, replicated.watches

    # ------------------------------------------------------------ changes

    async def enter(
        self, name: bytes, lease_id: int, value: bytes, actor: Actor | None = None
    ) -> Candidate | object:
        """Queue with a lease, once: who queues with it already keeps place and value.

        Returns the store's result if that is no success. Raises ProposalError. Cancellation gives it up; the
        key may be there or not.
        """
        prefix = name + b"/"
        key = prefix + b"%x" % lease_id
        success, failure = (Put(key, value, lease_id),), (Get(key),)
        # Whoever queues learns of all who do.
        reads = () if actor is None else ((prefix, prefix_end(prefix)),)
        result = await self._run(Compare.absent(key), success, failure, actor, reads)
        if not isinstance(result, TxnResult):
            return result
        if result.succeeded:
            return Candidate(prefix, key, result.revision, value, result.revision, actor)
        [got] = result.results
        assert isinstance(got, GetResult)
        [there] = got.key_values
        return Candidate(prefix, key, there.create_revision, there.value, result.revision, actor)

    async def put(
        self, key: bytes, create_revision: int, lease_id: int, value: bytes, actor: Actor | None = None
    ) -> object:
        """Put another value under a candidate's key; a txn result that has not succeeded: it is none.

        Raises ProposalError. Cancellation gives it up; it may or may not be applied.
        """
        return await self._run(_is_still(key, create_revision), (Put(key, value, lease_id),), (), actor)

    async def leave(self, key: bytes, create_revision: int, actor: Actor | None = None) -> object:
        """Delete a candidate's key; a txn result that has not succeeded: it is none. Raises as `put`."""
        return await self._run(_is_still(key, create_revision), (Delete(key),), (), actor)

    def abandon(self, candidate: Candidate) -> None:
        """Have the candidate's key deleted, and do not wait for it; for one whose client is gone.

        If nothing comes of it, the lease ends the key.
        """
        compare = _is_still(candidate.key, candidate.create_revision)
        txn = Txn((compare,), (Delete(candidate.key),), ())
        self._node.submit(encode_command(txn, candidate.actor))

    async def _run(
        self,
        compare: Compare,
        success: tuple[Operation, ...],
        failure: tuple[Operation, ...],
        actor: Actor | None,
        reads: tuple[KeyRange, ...] = (),
    ) -> object:
        txn = Txn((compare,), success, failure, self._replicated.quota_bytes)
        return (await self._replicated.write(encode_command(txn, actor, reads=reads))).result

    # ------------------------------------------------------------ turns

    async def first(self, prefix: bytes) -> KeyValue | None:
        """Whose turn it is when this returns, by what this node has applied; None: nobody queues.

        No restore must be under way. Raises NoLeader if the node stops. Cancellation leaves nothing behind.
        """
        while True:
            first: KeyValue | None = None
            async for page in self._pages(prefix):
                oldest = min(page, key=_create_revision)
                if first is None or oldest.create_revision < first.create_revision:
                    first = oldest
            # Between two pages it may have gone, and one that was passed already may have come before.
            if first is None or self._is_there(first.key, first.create_revision):
                return first and self._store.get(first.key)

    async def wait_turn(self, candidate: Candidate) -> bool:
        """Wait until nobody is before a candidate; False if it is no candidate any more.

        Raises NoLeader if the node stops. Cancellation leaves the key where it is: see `abandon`.
        """
        while True:
            await self._node.wait_restored()
            first_revision = self._store.revision + 1
            last: KeyValue | None = None
            async for page in self._pages(candidate.prefix):
                for kv in page:
                    if kv.create_revision < candidate.create_revision:
                        last = kv if last is None else max(last, kv, key=_create_revision)
            if not self._is_there(candidate.key, candidate.create_revision):
                return False
            if last is None:
                return True
            keys = (last.key, None), (candidate.key, None)
            async with self._watch(*keys, first_revision=first_revision, wants_puts=False) as stream:
                await stream.wait()

    async def tell_leaders(
        self, prefix: bytes, tell: Callable[[int, KeyValue], Awaitable[object]]
    ) -> NoReturn:
        """Tell whose turn it is, and each value that they put under their key, with the store's revision.

        What has its turn for so short a time that another one has it already is left out.

        Raises NoLeader if the node stops, and what `tell` raises. Cancellation leaves nothing behind.
        """
        told_of, told_revision = 0, 0  # the leader, by when its key was created, and what of it
        while True:
            await self._node.wait_restored()
            leader = await self.first(prefix)
            if leader is None:
                async with self._watch((prefix, prefix_end(prefix))) as stream:
                    await stream.wait()
                continue
            async with self._watch((leader.key, None)) as stream:
                # The key of a new leader may be older than the last value of the one before.
                if leader.create_revision != told_of or leader.mod_revision > told_revision:
                    await tell(self._store.revision, leader)
                told_of = leader.create_revision
                told_revision = await self._tell_values(leader, stream, tell)

    async def _tell_values(
        self, leader: KeyValue, stream: WatchStream, tell: Callable[[int, KeyValue], Awaitable[object]]
    ) -> int:
        """Tell what a leader puts until it is none, or that is not known; returns the last revision told."""
        told_revision = leader.mod_revision
        while stream.end_reason is None:
            await stream.wait()
            while items := stream.take():
                for item in items:
                    await self._node.wait_restored()
                    kv = self._as_of(item, leader.key)
                    if kv is None or kv.create_revision != leader.create_revision:
                        return told_revision
                    told_revision = kv.mod_revision
                    await tell(told_revision, kv)
        return told_revision

    def _as_of(self, item: Item, key: bytes) -> KeyValue | None:
        """What an item of a watch made of a key; None: nothing, or it cannot be told any more."""
        if not isinstance(item, Events):
            return None
        try:
            found = self._store.read(Get(key, revision=item.revision)).key_values
        except CompactedRevision:
            return None
        return found[0] if found else None

    @asynccontextmanager
    async def _watch(
        self,
        *ranges: tuple[bytes, bytes | None],
        first_revision: int | None = None,
        wants_puts: bool = True,
    ) -> AsyncIterator[WatchStream]:
        """A stream of what happens to some keys or ranges while the block runs; from now on, or a revision.

        No restore must be under way. A wait for the stream also returns when the stream has to end; the block
        may go on then, and NoLeader is raised behind it.
        """
        stream = self._watches.open_stream(_no_content)
        try:
            for number, (key, range_end) in enumerate(ranges):
                first = self._store.revision + 1 if first_revision is None else first_revision
                self._watches.add(Watcher(stream, number, key, range_end, first, wants_puts=wants_puts))
            yield stream
            if stream.end_reason is not None:
                raise NoLeader(stream.end_reason)
        finally:
            self._watches.close_stream(stream)

    def _is_there(self, key: bytes, create_revision: int) -> bool:
        own = self._store.get(key)
        return own is not None and own.create_revision == create_revision

    async def _pages(self, prefix: bytes) -> AsyncIterator[Sequence[KeyValue]]:
        """The keys under a prefix, in pages between which the store may change. No wait follows the last one.

        A prefix may have all keys of the store: in one piece they would hold up the node. A key that is there
        all the time is in a page, and one that comes meanwhile is younger than all that were there.
        """
        start, end = prefix, prefix_end(prefix)
        while page := self._store.range(start, end, PAGE_KEYS):
            yield page
            if len(page) < PAGE_KEYS:
                break
            start = page[-1].key + b"\0"
            await trio.lowlevel.checkpoint()
            await self._node.wait_restored()


def _is_still(key: bytes, create_revision: int) -> Compare:
    return Compare(key, Target.CREATE_REVISION, Relation.EQUAL, create_revision)


def _no_content(change: Change, previous: KeyValue | None) -> bytes:
    """Who waits here reads the store."""
    return b""
