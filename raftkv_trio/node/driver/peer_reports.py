"""What the connections to peers report: that they ended, how snapshots ended, proposals never sent."""

from raftkv_trio.node.driver.proposing import proposal_ids
from raftkv_trio.node.proposals import ProposalTable
from raftkv_trio.peers.wire import Forward, ForwardChange
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.sync import Wakeup


class PeerReports:
    """Keeps the reports until the driver's next turn; only the driver may touch the core.

    Args:
        wakeup: the driver's.
    """

    def __init__(self, proposals: ProposalTable, wakeup: Wakeup) -> None:
        self._proposals = proposals
        self._wakeup = wakeup
        self._unreachable: set[int] = set()
        self._snapshots: dict[int, bool] = {}

    # ------------------------------------------------------------ by the connections; all return at once

    def unreachable(self, peer_id: int) -> None:
        """The connection to this peer ended."""
        self._unreachable.add(peer_id)
        self._wakeup.set()

    def snapshot_sent(self, peer_id: int, ok: bool) -> None:
        """A snapshot has arrived at this peer, or will not."""
        self._snapshots[peer_id] = ok
        self._wakeup.set()

    def unsent(self, peer_id: int, forward: Forward | ForwardChange) -> None:
        """A proposal that was forwarded to this peer certainly never left, so it may be sent again."""
        # The outbox still held it when the connection ended. That proves as much as the leader's Refused.
        for proposal_id in proposal_ids(forward):
            self._proposals.refused(proposal_id, forward.term, peer_id, "the leader cannot be reached")

    # ------------------------------------------------------------ by the driver

    def dropped(self, peer_id: int) -> None:
        """The peer's outbox did not take the messages of this turn."""
        # No wakeup: the core answers a report by probing the peer, which fails again while there is no
        # connection. With a wakeup the driver would repeat that without a pause.
        self._unreachable.add(peer_id)

    def take(self, raw: RawNode) -> None:
        """Pass all reports on to the core."""
        # Without these the core would go on streaming to a peer that gets nothing, or send it nothing until
        # it answers the snapshot that it never got.
        while self._unreachable:
            raw.report_unreachable(self._unreachable.pop())
        while self._snapshots:
            peer_id, ok = self._snapshots.popitem()
            raw.report_snapshot(peer_id, ok=ok)
