"""The driver's part that has another node lead: an operator's wish, a stop, a disk without room or answer."""

from collections.abc import Iterable

from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.status import Status
from raftkv_trio.raft.types import StateRole
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock


class LeadershipTransfer:
    """Of a leader; wanted until it has begun, another leads, or it is not wanted any more.

    Args:
        wakeup: the driver's.
    """

    def __init__(self, raw: RawNode, wakeup: Wakeup, clock: Clock, election_timeout_s: float) -> None:
        self._raw = raw
        self._wakeup = wakeup
        self._clock = clock
        self._election_timeout_s = election_timeout_s
        self._is_wanted = False
        self._successor: int | None = None

    # ------------------------------------------------------------ what other tasks tell; all return at once

    def want(self, to: int | None = None) -> None:
        """This voter, or the furthest one that answers, is to lead."""
        self._is_wanted, self._successor = True, to
        self._wakeup.set()

    def drop(self) -> None:
        """Whoever leads may go on, unless a transfer has begun."""
        self._is_wanted, self._successor = False, None
        self._wakeup.set()

    # ------------------------------------------------------------ by the driver

    def tick(self, writing_since: float | None) -> None:
        """Where this node's disk has not answered for an election timeout, another is to lead.

        Heartbeats need no disk, so that the others would wait for it as long as it takes.
        """
        if writing_since is not None and self._clock.now() - writing_since > self._election_timeout_s:
            self._is_wanted = True

    def transfer(self) -> None:
        """Once a turn: begin, where it is wanted and there is somebody to take over."""
        if self._raw.role is not StateRole.LEADER:
            self._is_wanted = False
        if not self._is_wanted:
            return
        status = self._raw.status()
        successor = furthest_voter(
            status,
            [
                node_id
                for node_id, progress in status.progress.items()
                if node_id != self._raw.id and progress.recent_active
                if node_id in status.configuration.voters  # who is on its way out would only hand over again
                if self._successor in (None, node_id)
            ],
        )
        if successor is not None:
            self._is_wanted = False  # the core sees to it, or gives up after an election timeout
            self._raw.transfer_leader(successor)


def furthest_voter(status: Status, among: Iterable[int]) -> int | None:
    """Who of these that vote already has most of the leader's log; the lowest id where several do."""
    voters = [
        (status.progress[i].match, -i)
        for i in among
        if i in status.progress and not status.progress[i].is_learner
    ]
    return -max(voters)[1] if voters else None
