"""What a node does when its disk has no room for new entries or snapshots, and when it has room again."""

import logging

from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.node.proposals import ProposalTable

logger = logging.getLogger(__name__)


class DiskRoom:
    """Without room the node refuses writes, and transfers leadership to a node that may have room."""

    def __init__(self, proposals: ProposalTable, leadership_transfer: LeadershipTransfer) -> None:
        self._proposals = proposals
        self._leadership_transfer = leadership_transfer

    def report(self, shortage: str | None) -> None:
        """The snapshotter: what there is no room for, in words; None if there is room."""
        if shortage == self._proposals.disk_shortage:
            return
        if shortage is None:
            logger.warning("there is room on the disk again")
            self._leadership_transfer.withdraw()
        else:
            logger.warning("%s: no writes are taken", shortage)
            self._leadership_transfer.request()
        self._proposals.disk_shortage = shortage
