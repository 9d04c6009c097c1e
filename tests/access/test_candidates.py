"""Queues as long as a store: looked at in pages, between which others come and go."""

from random import Random
from typing import cast

import pytest
import trio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.candidates import Candidate, Candidates
from raftkv_trio.access.watching import WatchHub
from raftkv_trio.config import WatchConfig
from raftkv_trio.kv import Delete, Put, Store, Txn

COUNT = 1000


class Node:
    """One that neither restores nor loses its leader."""

    is_restoring = False
    has_leader = True

    async def wait_restored(self) -> None:
        return


class Replicated:
    """What candidates need to wait: a store, which the test itself changes, and its watches."""

    def __init__(self) -> None:
        self.node = Node()
        self.store = Store()
        self.watches = WatchHub(self.store, self.node, WatchConfig())

    def put(self, key: bytes) -> int:
        revision = self.store.run(Txn((), (Put(key, b""),), ())).revision
        self._applied()
        return revision

    def delete(self, key: bytes) -> None:
        self.store.run(Txn((), (Delete(key),), ()))
        self._applied()

    def _applied(self) -> None:
        if self.store.observer is not None:
            self.store.observer.applied()

    def candidates(self) -> Candidates:
        return Candidates(cast(ReplicatedStore, self))


@pytest.mark.parametrize("seed", range(20))
async def test_the_first_one_of_a_long_queue(seed: int) -> None:
    """It is the first one at that moment, though the first ones leave while it is looked for."""
    random = Random(seed)
    replicated = Replicated()
    store = replicated.store
    order = [b"q/%06d" % n for n in range(COUNT)]
    random.shuffle(order)
    for key in order:
        replicated.put(key)
    turns = 0

    async def come_and_go() -> None:
        nonlocal turns
        while order:
            turns += 1
            key = order.pop(random.randrange(min(3, len(order))))
            replicated.delete(key)
            if random.random() < 0.5:  # comes again, behind all others
                replicated.put(key)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_and_go)
        for _ in range(3):
            first = await replicated.candidates().first(b"q/")
            assert first == min(store.range(b"q/", b"q0"), key=lambda kv: kv.create_revision)
        nursery.cancel_scope.cancel()
    assert turns > COUNT // 100


@pytest.mark.parametrize("last", [0, COUNT // 2, COUNT - 1])
async def test_a_turn_that_comes_while_it_is_looked_for(last: int, autojump_clock: trio.abc.Clock) -> None:
    """Who was before is gone before it is watched: the wait does not miss that."""
    replicated = Replicated()
    for number in range(COUNT):
        if number != last:
            replicated.put(b"q/%06d" % number)
    own = b"q/own"
    before = b"q/%06d" % last
    replicated.put(before)
    revision = replicated.put(own)
    for number in range(COUNT):  # those who stay have come later
        if number != last:
            replicated.delete(b"q/%06d" % number)
            replicated.put(b"q/%06d" % number)

    async def leave() -> None:
        for _ in range(6):
            await trio.lowlevel.checkpoint()
        replicated.delete(before)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replicated.watches.run)
            nursery.start_soon(leave)
            assert await replicated.candidates().wait_turn(Candidate(b"q/", own, revision, b"", revision))
            nursery.cancel_scope.cancel()


async def test_a_place_that_is_lost_while_it_is_looked_for() -> None:
    """A candidate whose key is gone has no turn."""
    replicated = Replicated()
    revision = replicated.put(b"q/000000")
    for number in range(COUNT):
        replicated.put(b"q/%06d" % (number + 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_delete_soon, replicated, b"q/000000")
        own = Candidate(b"q/", b"q/000000", revision, b"", revision)
        assert not await replicated.candidates().wait_turn(own)


async def _delete_soon(replicated: Replicated, key: bytes) -> None:
    await trio.lowlevel.checkpoint()
    replicated.delete(key)
