"""The cluster's feature level: when the leader raises it, and whom it keeps away (`payload/levels.py`).

No member may get an entry or a snapshot that it cannot read. That rests on these rules:

1. The leader appends the entry that raises the level only if the process at the end of its stream to each
   member, voter or learner, has told that it knows the next level. A member that is down holds it back.
2. That entry is a conf change for the core. So it is not appended while another one is under way, and no
   member is added before it is applied: the members that the leader has looked at are those that get it.
3. From the moment when the entry is in a node's log, this node lets nobody in that does not know the level:
   neither a member that comes back with an older version of the program, nor a node that is added later.
4. If an entry of a level that this node does not know comes all the same, it is not appended
   (`admission.py`).

Every node applies the entry at the same index. A leader that has raised the level cannot have appended
anything of the new level before that entry, because it uses a level only when it has applied it.
"""

import logging
from collections.abc import Iterable

from raftkv_trio.node.reads import AppliedIndex
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.levels import HIGHEST, Levels, objection_to_levels
from raftkv_trio.payload.membership import ChangeRequest, raised_to
from raftkv_trio.payload.proposal import LEADER_ITSELF
from raftkv_trio.peers.outbox import PeerTransport
from raftkv_trio.raft.errors import ProposalDropped
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import Entry, StateRole

logger = logging.getLogger(__name__)


class FeatureLevels:
    """What this node knows of feature levels: its own, its cluster's, and those of other nodes.

    Args:
        applied: up to which index this node has applied the log.
        entries: of the log, those that are not applied yet among them.
        envelope: see Attributes; at first, as of the last entry that is known to be committed.
        highest: see Attributes.

    Attributes:
        envelope: has the level as applied, and the members.
        highest: the highest level that this node knows.
    """

    def __init__(
        self,
        raw: RawNode,
        applied: AppliedIndex,
        *,
        entries: Iterable[Entry],
        envelope: Envelope,
        highest: int = HIGHEST,
    ) -> None:
        self._raw = raw
        self._applied = applied
        self.envelope = envelope
        self.highest = highest
        self._in_log: tuple[int, int] | None = None  # index and level of a raise that may be not applied yet
        self.appended(entries)

    # ------------------------------------------------------------ in handshakes

    @property
    def needed(self) -> int:
        """The level that each node has to know which this node speaks with."""
        if self._in_log is not None and self._in_log[0] > self._applied.index:
            return max(self.envelope.level, self._in_log[1])
        return self.envelope.level

    def told(self) -> Levels:
        """What this node tells other nodes."""
        return Levels(self.highest, self.envelope.level, self.envelope.level_since)

    def objection(self, peer_id: int, peer: Levels) -> str | None:
        """Why a node with these levels cannot be a member together with this one, and what to do."""
        return objection_to_levels(self._raw.id, self.told(), self.needed, self._applied.index, peer_id, peer)

    # ------------------------------------------------------------ by the driver

    def appended(self, entries: Iterable[Entry]) -> None:
        """These entries are in the log now, in place of all that was there from the first one's index on."""
        for entry in entries:
            if self._in_log is not None and self._in_log[0] >= entry.index:
                self._in_log = None  # another leader has overwritten it
            if (level := raised_to(entry)) is not None:
                self._in_log = entry.index, level

    def tick(self, peers: PeerTransport) -> None:
        """As the leader, raise the level if every member knows the next one."""
        # The state as it is, not an event: a new leader finds out the same, and a proposal that the core
        # dropped is made again. `is_changing` is True on a new leader until it has applied all that it has
        # inherited, and while a raise, or a change of members, is not applied.
        next_level = self.envelope.level + 1
        if next_level > self.highest or self._raw.role is not StateRole.LEADER or self._raw.is_changing:
            return
        if not self.all_know(next_level, peers):
            return
        request = ChangeRequest((), raises_to=next_level)
        try:
            self._raw.propose_conf_change(request.conf_change(LEADER_ITSELF))
        except ProposalDropped as error:
            logger.debug("the feature level is not raised to %d yet: %s", next_level, error)
        else:
            logger.info("all members know feature level %d: raising the cluster's to it", next_level)

    def all_know(self, level: int, peers: PeerTransport) -> bool:
        """Whether each other member, voter or learner, has told that it knows this level."""
        others = self.envelope.members.keys() - {self._raw.id}
        return all((peers.highest_level(i) or 0) >= level for i in others)
