"""Leadership transfer: who asks for one, and to which member it goes (dissertation, section 3.10).

Four parts ask for a transfer:

- an operator, or a server that shuts down (`Node.transfer_leadership`), maybe to one given voter;
- the snapshotter, if the disk has no room: another node may have some;
- this module, if a write to the disk takes longer than an election timeout;
- membership changes, before a change that removes the leader.

The first three make a request, which stays pending until a transfer begins, this node no longer leads, or the
request is withdrawn. The last one asks again by itself for as long as its change waits.
"""

from collections.abc import Collection

from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import StateRole
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock


class LeadershipTransfer:
    """Transfers leadership to an active voter, if this node leads and a transfer is requested.

    Args:
        wakeup: the driver's.
    """

    def __init__(
        self, raw: RawNode, wakeup: Wakeup, clock: Clock, active: ActiveMembers, election_timeout_s: float
    ) -> None:
        self._raw = raw
        self._wakeup = wakeup
        self._clock = clock
        self._active = active
        self._election_timeout_s = election_timeout_s
        self._is_requested = False
        self._successor_id: int | None = None

    # ------------------------------------------------------------ by other tasks; all return at once

    def request(self, to: int | None = None) -> None:
        """Have voter `to` lead, or the active voter with most of the log if None."""
        self._is_requested, self._successor_id = True, to
        self._wakeup.set()

    def withdraw(self) -> None:
        """Let this node go on leading, unless the transfer has begun."""
        self._is_requested, self._successor_id = False, None
        self._wakeup.set()

    # ------------------------------------------------------------ by the driver

    def tick(self, writing_since: float | None) -> None:
        """Request a transfer if a write to the disk, begun at `writing_since`, takes an election timeout."""
        # Heartbeats need no disk. So the followers would go on following a leader that can commit nothing
        # with its own log, for as long as its disk does not answer.
        if writing_since is not None and self._clock.now() - writing_since > self._election_timeout_s:
            self._is_requested = True

    def begin_if_requested(self) -> None:
        """Once a turn: begin the transfer that is requested, if there is a member to transfer it to."""
        # Another node leads, or none does: the request is fulfilled. It must not survive, or it would depose
        # this node when it is elected again for good reason.
        if self._raw.role is not StateRole.LEADER:
            self._is_requested = False
        if not self._is_requested:
            return
        # In a joint configuration a voter of the outgoing half may be on its way out. It would have to
        # transfer leadership again soon, so only the incoming half counts.
        voters = self._raw.status().configuration.voters
        if self.begin(voters if self._successor_id is None else {self._successor_id}.intersection(voters)):
            # From here on the core is responsible: it completes the transfer, or gives it up after an
            # election timeout and accepts proposals again.
            self._is_requested = False

    def begin(self, candidate_ids: Collection[int]) -> bool:
        """Begin a transfer to the active candidate with most of the log; False without an active voter.

        The target needs all entries before it may campaign (section 3.10), so the voter with most of them is
        ready first. Of several such voters the one with the lowest id is taken.
        """
        status = self._raw.status()
        matches = [
            (progress.match, -node_id)
            for node_id, progress in status.progress.items()
            if node_id in candidate_ids
            and node_id != self._raw.id
            and not progress.is_learner
            # Active may mean: heard from before this node led, as the leader was that has just stopped. A
            # member with a match has answered this leader.
            and progress.match
            and node_id in self._active
        ]
        if not matches:
            return False
        self._raw.transfer_leader(-max(matches)[1])
        return True
