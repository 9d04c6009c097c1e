"""What a node does when its log lacks entries that it has acknowledged.

Its data directory was set back to an older copy, or its disk has lost what it had confirmed. With each
heartbeat a leader tells what this node has acknowledged to it, so the node finds out while that leader leads.

The others rely on those entries. The leader may have committed them because this node had them, and no
candidate without them should get this node's vote (paper, section 5.4.1), which may be forgotten as well. So
from then on the node sends nothing. All quorum checks count without it, and the cluster is as safe as if the
node had broken down: with a majority of the others it goes on, and a new node can take its place.

That must hold after a restart too, when a new leader may not know. So the data directory is marked, and does
not open again.
"""

import logging
from collections.abc import Callable, Sequence

from raftkv_trio.node.steps import Steps, in_worker, run_steps, wait
from raftkv_trio.peers.outbox import Item, PeerTransport
from raftkv_trio.raft.errors import AcknowledgedEntriesLost
from raftkv_trio.raft.types import Message
from raftkv_trio.storage import NodeStorage
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock, Worker

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0


class LostEntries:
    """Whether this node has lost entries that it had acknowledged.

    Attributes:
        reason: what is lost and what to do, for operators; None if nothing is known to be lost.

    Args:
        refuse_requests: called with the reason: this node can serve nobody any more.
    """

    def __init__(
        self, node_id: int, storage: NodeStorage, clock: Clock, refuse_requests: Callable[[str], None]
    ) -> None:
        self.reason: str | None = None
        self._storage = storage
        self._node_id = node_id
        self._clock = clock
        self._refuse_requests = refuse_requests
        self._logged_at = clock.now()
        self._acknowledged = 0
        self._noticed = Wakeup()

    def noticed(self, error: AcknowledgedEntriesLost) -> None:
        """A leader knows of acknowledged entries that are not here."""
        self.reason = (
            f"node {self._node_id} has acknowledged entries up to {error.acknowledged}, but its log ends at"
            f" {error.last_index}: its data directory was set back to an older copy, or its disk has lost"
            f" data; it takes no part any more: stop it, remove node {self._node_id} from the cluster, and"
            " add a node under a new id, with a new data directory"
        )
        self._acknowledged = error.acknowledged
        self._noticed.set()
        self._log()
        self._refuse_requests(self.reason)

    def tick(self) -> None:
        """Repeat the reason in the log once a minute."""
        if self.reason is not None and self._clock.now() - self._logged_at >= LOG_INTERVAL_S:
            self._log()

    def _log(self) -> None:
        logger.error("%s", self.reason)
        self._logged_at = self._clock.now()

    # ------------------------------------------------------------ the task

    async def run(self, worker: Worker) -> None:
        """Mark the data directory once entries are known to be lost; raises StorageError.

        Cancellation may come before the mark. Then the node finds out again, if the leader is the same.
        """
        await run_steps(self.steps(), worker, self._clock)

    def steps(self) -> Steps[None]:
        """The task, step by step; raises StorageError."""
        while True:
            yield from wait(self._noticed)
            yield from in_worker(self._storage.mark_lost, self._acknowledged)


class SilencedTransport:
    """Sends what the driver sends; nothing once acknowledged entries are lost.

    All that leaves a node's core passes here, so that no vote, acknowledgement or campaign of such a node can
    slip through, not even one that was waiting for the disk.
    """

    def __init__(self, peers: PeerTransport, lost: LostEntries) -> None:
        self._peers = peers
        self._lost = lost

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        """As `PeerTransport.offer`."""
        return self._lost.reason is None and self._peers.offer(peer_id, items)

    def send_snapshot(self, message: Message) -> bool:
        """As `PeerTransport.send_snapshot`."""
        return self._lost.reason is None and self._peers.send_snapshot(message)
