"""What a node does once the cluster has removed it.

A node learns of its removal in one of two ways:

- It applies the entry that removes it. It then keeps answering its peers, because the entry may be missing on
  a remaining member that still counts this node in its quorum: if the leader crashes now, that member cannot
  be elected without this node's vote. Only when a remaining member, which has applied the removal itself,
  says so is this node no longer needed.
- Two members say so when this node connects to them, and name an entry that this node has not applied; or
  one, if it is the only other one that this node knows (`words.py`). The remaining members know more than
  this node, so nobody needs its answers: it refuses requests at once.

Each of these has proved who it is (`peers/proofs.py`). In both cases the node then waits `GRACE_PERIOD_S`, so
that clients get their responses, and ends with NodeRemoved. Its data directory is marked, and does not open
again.
"""

import logging
from collections.abc import Callable

import trio

from raftkv_trio.errors import NodeRemoved
from raftkv_trio.node.reads import AppliedIndex
from raftkv_trio.node.words import Words
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.world import Clock

logger = logging.getLogger(__name__)

GRACE_PERIOD_S = 2.0


class Removal:
    """This node's own removal: whether it is known, whether a remaining member has confirmed it, and the end.

    Attributes:
        index: of the entry that removed this node; None while it is a member.
        confirmed: set when a remaining member says that this node was removed.

    Args:
        applied: how far this node has applied its log.
        refuse_requests: called with the reason, if this node must stop serving its clients at once.
    """

    def __init__(
        self, node_id: int, applied: AppliedIndex, clock: Clock, refuse_requests: Callable[[str], None]
    ) -> None:
        self.index: int | None = None
        self.confirmed = trio.Event()
        self._node_id = node_id
        self._applied = applied
        self._clock = clock
        self._refuse_requests = refuse_requests
        self._others: frozenset[int] = frozenset()
        self._words = Words()

    @property
    def confirmed_index(self) -> int | None:
        """The index to mark the data directory with; None unless the removal is confirmed."""
        return self.index if self.confirmed.is_set() else None

    def members_applied(self, envelope: Envelope) -> None:
        """These are the members as of what this node has applied."""
        self._others = frozenset(envelope.members.keys() - {self._node_id})
        index = envelope.removed.get(self._node_id)
        if index is not None and self.index is None:
            self._learn(index)
            logger.info(
                "node %d keeps answering peers until a remaining member confirms its removal", self._node_id
            )

    def told_by_member(self, peer_id: int, index: int) -> None:
        """A member that has proved who it is says that the entry at `index` removed this node."""
        if self.index is not None:
            self.confirmed.set()
        elif index > self._applied.index and self._words.are_enough(peer_id, index, self._others):
            self._refuse_requests(
                f"node {self._node_id} was removed from the cluster, by entry {index}, which it has not seen"
            )
            self._learn(index)
            self.confirmed.set()
        # Otherwise this node has applied that entry and is still a member, so the statement is wrong; or one
        # member alone says so, and this node goes on until another one does.

    def _learn(self, index: int) -> None:
        logger.warning("node %d was removed from the cluster, by entry %d", self._node_id, index)
        self.index = index

    async def end_node(self) -> None:
        """Wait until the removal is confirmed and clients had time to get their responses; then end the node.

        Raises NodeRemoved, always. Cancellation leaves nothing behind.
        """
        await self.confirmed.wait()
        await self._clock.sleep_until(self._clock.now() + GRACE_PERIOD_S)
        raise NodeRemoved(f"node {self._node_id} was removed from its cluster, by entry {self.index}")
