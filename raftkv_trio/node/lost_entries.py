"""What a node does when its log lacks entries that it has acknowledged.

Its data directory was set back to an older copy, or its disk has lost what it had confirmed. With each
heartbeat a leader tells what this node has acknowledged to it, so the node finds out while that leader leads.

The others rely on those entries. The leader may have committed them because this node had them, and no
candidate without them should get this node's vote (paper, section 5.4.1), which may be forgotten as well. So
from then on the node sends nothing. All quorum checks count without it, and the cluster is as safe as if the
node had broken down: with a majority of the others it goes on, and a new node can take its place.

That must hold after a restart too, when a new leader may not know. So the data directory is marked, and does
not open again. The mark is one small file. The worker of the log writes it, since it must not wait for a
snapshot that is being restored. If the disk has no room for it, the node goes on, silent, and tries again.
"""

import logging
from collections.abc import Callable, Sequence

from raftkv_trio.node.steps import Steps, in_worker, run_steps, wait
from raftkv_trio.peers.outbox import Item, PeerTransport
from raftkv_trio.raft.errors import AcknowledgedEntriesLost
from raftkv_trio.raft.types import Message
from raftkv_trio.storage import NodeStorage, describe_os_error
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock, Worker

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0
RETRY_INTERVAL_S = 5.0


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
        self._is_marked = False
        self._has_told_shortage = False
        self._noticed = Wakeup()

    def noticed(self, error: AcknowledgedEntriesLost) -> None:
        """A leader knows of acknowledged entries that are not here."""
        self.reason = (
            f"node {self._node_id} has acknowledged entries up to {error.acknowledged}, but its log ends at"
            f" {error.last_index}: its data directory was set back to an older copy, or its disk has lost"
            f" data; it takes no part any more: stop it, remove node {self._node_id} from the cluster, and"
            " add a node under a new id, with a new data directory; if the others are no majority, bring them"
            " back first, or if they are lost, run `member force-new-cluster` on a healthy member"
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

        Cancellation may come before the mark; whoever cancels calls `mark`.
        """
        await run_steps(self.steps(), worker, self._clock)

    def steps(self) -> Steps[None]:
        """The task, step by step; raises StorageError."""
        deadline: float | None = None
        while True:
            yield from wait(self._noticed, deadline)
            is_done = yield from in_worker(self.mark)
            deadline = None if is_done else self._clock.now() + RETRY_INTERVAL_S

    def mark(self) -> bool:
        """Mark the data directory if entries are lost; False if there is no room for the mark. May block.

        Does nothing if it is marked. Raises StorageError.
        """
        if self.reason is None or self._is_marked:
            return True
        try:
            self._storage.mark_lost(self._acknowledged)
        except OSError as error:
            # Silence is what keeps the others safe, and it needs no room. A node that ends for this would be
            # started again by its supervisor, unmarked, and could vote until a leader tells it again.
            if not self._has_told_shortage:
                self._has_told_shortage = True
                shortage = describe_os_error(error, "lost")
                logger.error("the data directory cannot be marked, so do not restart this node: %s", shortage)
            return False
        self._is_marked = True
        return True


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

    def highest_level(self, peer_id: int) -> int | None:
        """As `PeerTransport.highest_level`."""
        return self._peers.highest_level(peer_id)
