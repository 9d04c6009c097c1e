"""A simulated disk that notes what it is asked for, and fails at one call, or from one call on."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from raftkv_trio.storage import DiskFile
from raftkv_trio.testing.world.inodes import SECTOR_BYTES
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk

#: The calls that change what is on the disk, or make it durable.
CHANGES = frozenset(
    {
        "make_directory",
        "create",
        "extend",
        "overwrite",
        "preallocate",
        "reserve",
        "datasync",
        "rename",
        "unlink",
        "sync_directory",
    }
)
#: Those of them that need room.
GROWTH = frozenset({"make_directory", "create", "extend", "preallocate"})


class Call(NamedTuple):
    """One call, and of which file or directory."""

    kind: str
    path: Path


class FailingDisk:
    """The `Disk` port over a simulated disk.

    Attributes:
        disk: what is beneath, without this one's faults.
        calls: all that there were, in their order.
        failed: the position in `calls` of the first one that failed.
        open_files: the paths of the files that are open.

    Args:
        number: which of the calls that `may_fail` admits is to fail, from 0.
        error: with which errno.
        lasts: whether all that come after it fail too, until `mend`.
    """

    def __init__(
        self,
        disk: SimulatedDisk,
        number: int | None = None,
        *,
        error: int = errno.EIO,
        may_fail: Callable[[Call], bool] = lambda call: True,
        lasts: bool = False,
    ) -> None:
        self.disk = disk
        self.calls: list[Call] = []
        self.failed: int | None = None
        self.open_files: list[Path] = []
        self._left: int | None = None
        if number is not None:
            self.arm(number)
        self._error = error
        self._may_fail = may_fail
        self._lasts = lasts

    @property
    def culprit(self) -> Call:
        """The call that failed."""
        assert self.failed is not None
        return self.calls[self.failed]

    @property
    def is_broken(self) -> bool:
        """Whether a call has failed for another reason than that there was no room."""
        return self.failed is not None and self._error != errno.ENOSPC

    def arm(self, number: int) -> None:
        """Let one call fail, counted from here on."""
        self._left = number

    def mend(self) -> None:
        """From here on no call fails."""
        self._left = None

    def fails(self, kind: str, path: Path) -> bool:
        """Note a call; whether it is one to fail."""
        call = Call(kind, path)
        self.calls.append(call)
        if self._left is None or not self._may_fail(call):
            return False
        if self._left > 0:
            self._left -= 1
            return False
        if not self._lasts:
            self.mend()
        if self.failed is None:
            self.failed = len(self.calls) - 1
        return True

    def refuse(self, kind: str, path: Path) -> None:
        """Note a call; where it is one to fail it does so without having done anything."""
        if self.fails(kind, path):
            raise self.error_of(path)

    def error_of(self, path: Path) -> OSError:
        return OSError(self._error, os.strerror(self._error), str(path))

    # ------------------------------------------------------------ the Disk port

    def make_directory(self, path: Path) -> None:
        if not self.disk.exists(path):
            self.refuse("make_directory", path)
        self.disk.make_directory(path)

    def exists(self, path: Path) -> bool:
        self.refuse("exists", path)
        return self.disk.exists(path)

    def mode(self, path: Path) -> int | None:
        return self.disk.mode(path)

    def room(self, path: Path) -> int:
        return self.disk.room(path)

    def list_directory(self, path: Path) -> list[str]:
        self.refuse("list_directory", path)
        return self.disk.list_directory(path)

    def open(self, path: Path, *, create: bool = False, read_only: bool = False) -> DiskFile:
        self.refuse("create" if create and not self.disk.exists(path) else "open", path)
        file = self.disk.open(path, create=create, read_only=read_only)
        self.open_files.append(path)
        return FailingFile(self, path, file)

    def rename(self, old: Path, new: Path) -> None:
        self.refuse("rename", old)
        self.disk.rename(old, new)

    def unlink(self, path: Path) -> None:
        self.refuse("unlink", path)
        self.disk.unlink(path)

    def sync_directory(self, path: Path) -> None:
        self.refuse("sync_directory", path)
        self.disk.sync_directory(path)


class FailingFile:
    """An open file of a `FailingDisk`: a write that fails has written half its sectors, a sync some."""

    def __init__(self, disk: FailingDisk, path: Path, file: DiskFile) -> None:
        self._disk = disk
        self._path = path
        self._file = file

    def read_at(self, offset: int, length: int) -> bytes:
        self._disk.refuse("read_at", self._path)
        return self._file.read_at(offset, length)

    def write_at(self, offset: int, data: bytes) -> None:
        kind = "extend" if offset + len(data) > self._file.size() else "overwrite"
        if self._disk.fails(kind, self._path):
            middle = (offset + len(data) // 2) // SECTOR_BYTES * SECTOR_BYTES
            self._file.write_at(offset, data[: max(0, middle - offset)])
            raise self._disk.error_of(self._path)
        self._file.write_at(offset, data)

    def preallocate(self, size_bytes: int) -> None:
        self._disk.refuse("preallocate" if size_bytes > self._file.size() else "reserve", self._path)
        self._file.preallocate(size_bytes)

    def size(self) -> int:
        return self._file.size()

    def datasync(self) -> None:
        if self._disk.fails("datasync", self._path):
            self._disk.disk.fail_at(0, errno.EIO)  # which leaves some of it unwritten for good
            try:
                self._file.datasync()
            except OSError:
                raise self._disk.error_of(self._path) from None
        self._file.datasync()

    def lock(self) -> bool:
        return self._file.lock()

    def close(self) -> None:
        self._file.close()
        self._disk.open_files.remove(self._path)


def without_room(number: int, *, lasts: bool) -> FailingDisk:
    """A new disk that is full from the `number`th call on that needs room, or in that one only."""
    return FailingDisk(
        SimulatedDisk(Random(number)),
        number,
        error=errno.ENOSPC,
        may_fail=lambda call: call.kind in GROWTH,
        lasts=lasts,
    )
