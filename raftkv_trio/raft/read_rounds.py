"""Linearizable reads without a log entry (dissertation, section 6.4): rounds that confirm a leader.

A round is a number that the leader's heartbeats carry from then on; whoever answers a heartbeat of round n
confirms that this node still led after every read up to round n had arrived. Numbers are the leader's own,
fresh in each term, and never the callers' contexts: so two reads of one context are two reads, each with its
own index, and no late answer to an earlier round can confirm a later one.
"""

import struct
from collections import deque
from typing import NamedTuple

from raftkv_trio.raft import quorum
from raftkv_trio.raft.types import ConfState

_ROUND = struct.Struct(">Q")


class PendingRead(NamedTuple):
    """A read that waits for its round: who asked, its context, and the commit index when it arrived."""

    reader: int
    context: bytes
    read_index: int
    round_number: int


class ReadIndexRounds:
    """The reads of one term that are not confirmed yet.

    Attributes:
        waiting_for_commit: reads `(reader, context)` that came before the leader committed an entry of its
            term; until then its commit index may lag behind what an earlier leader acknowledged (paper,
            section 8).
    """

    __slots__ = ("_acked", "_pending", "_round", "_self_id", "waiting_for_commit")

    def __init__(self, self_id: int) -> None:
        self._self_id = self_id
        self.clear()

    def clear(self) -> None:
        """A new term, or no leader any more: nobody waits."""
        self.waiting_for_commit: list[tuple[int, bytes]] = []
        self._pending: deque[PendingRead] = deque()
        self._acked: dict[int, int] = {}
        self._round = 0

    def add(self, reader: int, context: bytes, read_index: int) -> None:
        """Begin a round for this read; the node itself confirms it."""
        self._round += 1
        self._acked[self._self_id] = self._round
        self._pending.append(PendingRead(reader, context, read_index, self._round))

    def heartbeat_context(self) -> bytes:
        """What heartbeats carry: the newest round, empty where no read waits."""
        return _ROUND.pack(self._round) if self._pending else b""

    def acknowledge(self, voter: int, context: bytes) -> None:
        """`voter` answered a heartbeat that carried `context`; nonsense in it confirms nothing."""
        if len(context) == _ROUND.size:
            (round_number,) = _ROUND.unpack(context)
            if self._acked.get(voter, 0) < round_number <= self._round:
                self._acked[voter] = round_number

    def take_confirmed(self, conf: ConfState) -> list[PendingRead]:
        """The reads whose rounds a quorum of `conf` has confirmed; they wait no longer."""
        confirmed = quorum.joint_committed(conf.voters, conf.voters_outgoing, self._acked)
        pending, ready = self._pending, []
        while pending and pending[0].round_number <= confirmed:
            ready.append(pending.popleft())
        return ready
