"""What a node does when its disk has no room for new entries or snapshots, and when it has room again."""

import logging

from raftkv_trio.node.proposals import ProposalTable

logger = logging.getLogger(__name__)


class DiskRoom:
    """Without room the node refuses writes, and does not lead if it can help it (`driver/leadership.py`)."""

    def __init__(self, proposals: ProposalTable) -> None:
        self._proposals = proposals

    def report(self, shortage: str | None) -> None:
        """The snapshotter: what there is no room for, in words; None if there is room."""
        if shortage == self._proposals.disk_shortage:
            return
        if shortage is None:
            logger.warning("there is room on the disk again")
        else:
            logger.warning("%s: no writes are taken", shortage)
        self._proposals.disk_shortage = shortage
