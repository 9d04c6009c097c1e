"""Leases on one server: grants, revocations, keep-alives, and the expiry of what was not kept alive.

All are log entries. Only the leader lets leases expire, and what it says is checked against the log
(`kv.ExpireLeases`): an expiry that crosses a renewal, or comes of another term, ends nothing.
"""

import logging
from heapq import merge
from random import SystemRandom
from struct import Struct
from typing import NoReturn

import trio

from raftkv_trio.access.keep_alives import KeepAlive, KeepAlives
from raftkv_trio.access.lease_deadlines import Due, LeaseDeadlines
from raftkv_trio.access.replicated_store import ReplicatedStore
from raftkv_trio.errors import NoLeader, ProposalError
from raftkv_trio.kv import (
    Actor,
    CheckpointLeases,
    ExpireLeases,
    Failed,
    Failure,
    GrantLease,
    Lease,
    LeaseCommand,
    RevokeLease,
    encode_command,
)
from raftkv_trio.world import Clock, TrioClock

logger = logging.getLogger(__name__)

#: With checkpoints, a lease that lives for longer gets one in this interval, as in etcd.
CHECKPOINT_INTERVAL_S = 300.0
#: How often deadlines are looked at.
CHECK_INTERVAL_S = 0.1
#: So many leases are looked at before the node's other tasks have a turn: that takes two milliseconds.
STEP_LEASES = 250
#: The most leases that one entry ends, and the most keys, apart from those of the last lease: an entry is
#: applied in one piece, which takes about 30 µs for a lease with a key.
MAX_EXPIRED = MAX_EXPIRED_KEYS = 100
#: An id that the server chooses is from 1 to this.
_MAX_ID = 2**63 - 1
_PLACE = Struct(">dQQ")  # big-endian, so that the bytes of positive numbers have their order


class Lessor:
    """The leases of one server's clients, and its part in their expiry; `run` must be running.

    Args:
        min_ttl_s: no lease is granted for less.
        checkpoint_interval_s: as of `LeaseDeadlines`.
    """

    def __init__(
        self,
        replicated: ReplicatedStore,
        min_ttl_s: int,
        checkpoint_interval_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._replicated = replicated
        self._node, self._store = replicated.node, replicated.store
        self._min_ttl_s = min_ttl_s
        self._clock = clock or TrioClock()
        self._keep_alives = KeepAlives(replicated)
        self._deadlines = LeaseDeadlines(self._store, checkpoint_interval_s)
        self._random = SystemRandom()

    # ------------------------------------------------------------ for clients

    async def grant(self, lease_id: int, ttl_s: int, actor: Actor | None = None) -> object:
        """Grant a lease, for the least time at least; returns the store's result.

        Args:
            lease_id: 0: one that no lease has.
            actor: on whose behalf.

        Raises ProposalError. Cancellation gives the grant up; it may or may not be applied.
        """
        ttl_s = max(ttl_s, self._min_ttl_s)
        while True:
            chosen = lease_id or self._random.randint(1, _MAX_ID)
            result = await self._write(GrantLease(chosen, ttl_s, self._replicated.quota_bytes), actor)
            if lease_id or result != Failed(Failure.LEASE_EXISTS):
                return result

    async def revoke(self, lease_id: int, actor: Actor | None = None) -> object:
        """Revoke a lease; returns the store's result. Raises, and is cancelled, as `grant`."""
        return await self._write(RevokeLease(lease_id), actor)

    def keep_alive(self, lease_id: int) -> KeepAlive:
        """Renew a lease, with all others that are to be renewed now; wait for `KeepAlive.ttl_s`.

        Raises NoLeader if the server is stopping.
        """
        return self._keep_alives.join(lease_id)

    def remaining_s(self, lease: Lease) -> float:
        """How many seconds a lease of the store has left, by what this node has seen; 0 if it is to expire.

        The store must not be under restoration.
        """
        now_s = self._clock.now()
        return max(0.0, self._deadlines.deadline(lease, now_s) - now_s)

    async def ids_in_order(self) -> list[int]:
        """The ids of all leases, that which expires first first.

        Raises NoLeader if a restore begins meanwhile. Cancellation leaves nothing behind.
        """
        ids = list(self._store.leases.records)
        now_s = self._clock.now()
        sorted_parts = []
        for start in range(0, len(ids), STEP_LEASES):
            leases = map(self._store.leases.get, ids[start : start + STEP_LEASES])
            sorted_parts.append(sorted([self._place(lease, now_s) for lease in leases if lease is not None]))
            await self._give_way()
        in_order: list[int] = []
        for place in merge(*sorted_parts):
            in_order.append(_PLACE.unpack(place)[2])
            if len(in_order) % STEP_LEASES == 0:
                await self._give_way()
        return in_order

    def _place(self, lease: Lease, now_s: float) -> bytes:
        """What leases are ordered by, and the id. Those that were renewed together are in that order.

        It is bytes, as the garbage collector would look through 100,000 tuples again and again.
        """
        return _PLACE.pack(self._deadlines.deadline(lease, now_s), lease.renewal, lease.id)

    async def _give_way(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._node.is_restoring:
            raise NoLeader("a snapshot replaces the state of this node")

    async def _write(self, command: LeaseCommand, actor: Actor | None = None) -> object:
        return (await self._replicated.write(encode_command(command, actor))).result

    # ------------------------------------------------------------ expiry

    async def run(self) -> None:
        """Serve keep-alives, and end what expires while this node leads, until cancelled.

        Cancellation may leave an expiry under way, and ends the keep-alives that wait.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alives.run)
            nursery.start_soon(self._watch)

    async def _watch(self) -> NoReturn:
        while True:
            await self._clock.sleep_until(self._clock.now() + CHECK_INTERVAL_S)
            while await self._step():
                await trio.lowlevel.checkpoint()

    async def _step(self) -> bool:
        """Look at some leases, and end those that have expired; returns whether there may be more to do."""
        node, now_s = self._node, self._clock.now()
        if node.is_restoring:
            return False
        term, is_leader = node.term, node.is_leader
        self._deadlines.see_reign(now_s, term, is_leader)
        if self._deadlines.take_touched(now_s, STEP_LEASES):
            return True
        due, has_more = self._deadlines.look(now_s, STEP_LEASES, MAX_EXPIRED, MAX_EXPIRED_KEYS)
        if is_leader:
            has_more &= await self._tell(due, term)
        return has_more

    async def _tell(self, due: Due, term: int) -> bool:
        """Have the store do what is due; returns whether it did."""
        try:
            if due.expired:
                await self._write(ExpireLeases(term, due.expired))
            if due.checkpoints:
                await self._write(CheckpointLeases(term, due.checkpoints))
        except ProposalError as error:
            logger.debug("leases have not expired: %s", error)  # they are looked at again
            return False
        return True
