"""What is written to a disk, counted by the disk."""

import os
from pathlib import Path

_SECTOR_BYTES = 512  # in these statistics, whatever the device's own are
_SECTORS_WRITTEN = 6  # the field (Documentation/block/stat.rst of Linux)


class BlockDevice:
    """The device on which a directory is; of a file system in memory, for instance, none.

    Not asked of the processes: what /proc/PID/io tells as written is the size of the pages that a write has
    touched, and a file system with large folios (ext4 since Linux 6.16) counts up to 2 MiB for a few bytes.
    """

    def __init__(self, directory: Path) -> None:
        number = directory.stat().st_dev
        self._statistics = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")

    def written_bytes(self) -> int | None:
        """What was written since the machine has started, by all that runs on it; None if nobody counts."""
        if not self._statistics.exists():
            return None
        return int(self._statistics.read_text().split()[_SECTORS_WRITTEN]) * _SECTOR_BYTES

    def written_since(self, before: int | None) -> int | None:
        """What was written since `written_bytes` told this; None if nobody counts."""
        now = self.written_bytes()
        return None if now is None or before is None else now - before
