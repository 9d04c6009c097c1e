"""Rounds that confirm a leader, for linearizable reads without a log entry (dissertation, section 6.4).

A round is a number that the leader's heartbeats carry from then on. A voter that answers a heartbeat of
round n confirms that this node still led when it answered, which was after all reads up to round n came in.

The leader counts the rounds itself, from 1 in each term, and does not use the callers' contexts. So two reads
of the same context are two reads, each with its own index, and no late answer to an earlier round can confirm
a later one.
"""

import struct
from collections import deque
from typing import NamedTuple

from raftkv_trio.raft import quorum
from raftkv_trio.raft.types import ConfState

_ROUND = struct.Struct(">Q")


class PendingRead(NamedTuple):
    """A read that waits for its round.

    Attributes:
        reader: the node that asked.
        context: the reader's own.
        read_index: the leader's commit index when the read came in.
    """

    reader: int
    context: bytes
    read_index: int
    round_number: int


class ReadIndexRounds:
    """The reads of one term that are not confirmed yet.

    Attributes:
        waiting_for_commit: reads `(reader, context)` that came before the leader committed an entry of its
            term. Until then its commit index may be behind what an earlier leader has acknowledged to clients
            (paper, section 8).
    """

    __slots__ = ("_acked", "_pending", "_round", "_self_id", "waiting_for_commit")

    def __init__(self, self_id: int) -> None:
        self._self_id = self_id
        self.clear()

    def clear(self) -> None:
        """Forget all reads: the term or the role has changed."""
        self.waiting_for_commit: list[tuple[int, bytes]] = []
        self._pending: deque[PendingRead] = deque()
        self._acked: dict[int, int] = {}
        self._round = 0

    def add(self, reader: int, context: bytes, read_index: int) -> None:
        """Begin a round for this read."""
        self._round += 1
        # The leader knows that it leads. If it is not a voter any more, quorums do not count this.
        self._acked[self._self_id] = self._round
        self._pending.append(PendingRead(reader, context, read_index, self._round))

    def heartbeat_context(self) -> bytes:
        """What heartbeats carry: the newest round; empty if no read waits."""
        # The newest is enough: an answer to it confirms all rounds before it as well.
        return _ROUND.pack(self._round) if self._pending else b""

    def acknowledge(self, voter: int, context: bytes) -> None:
        """Note that `voter` answered a heartbeat that carried `context`."""
        # Old answers, and numbers that this leader has not given out, confirm nothing.
        if len(context) == _ROUND.size:
            (round_number,) = _ROUND.unpack(context)
            if self._acked.get(voter, 0) < round_number <= self._round:
                self._acked[voter] = round_number

    def take_confirmed(self, conf: ConfState) -> list[PendingRead]:
        """Take out the reads whose rounds a quorum of `conf` has confirmed."""
        # The same arithmetic as for commit: the largest round that a quorum has acknowledged. A leader of a
        # later term would have the votes of a quorum, so one of these voters would be in that term, and would
        # not have answered. So no such leader existed when the reads came in, and nothing newer was
        # committed.
        confirmed = quorum.joint_committed(conf.voters, conf.voters_outgoing, self._acked)
        pending, ready = self._pending, []
        while pending and pending[0].round_number <= confirmed:
            ready.append(pending.popleft())
        return ready
