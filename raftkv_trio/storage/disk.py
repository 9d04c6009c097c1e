"""The port between storage and a file system: a few synchronous calls, in the words of POSIX.

If the system refuses a call it raises OSError, which names the file; callers turn that into our errors. The
real form is `OsDisk`; the simulated one (`testing/world/simulated_disk.py`) loses what was not synced, tears
writes and fails on demand.
"""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE
from typing import Protocol, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The files hold all keys and values, and the directory ids by which members know each other.
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
FILES_RETRY_S = 0.05


class DiskFile(Protocol):
    """An open file."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""
        ...

    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of `data`; not durable before `datasync`, and a crash may leave any sectors of it."""
        ...

    def preallocate(self, size_bytes: int) -> None:
        """Give the file at least this size, with blocks reserved, so that later writes need no room.

        New bytes are zeros; existing ones stay.
        """
        ...

    def size(self) -> int:
        """The size of the file in bytes."""
        ...

    def datasync(self) -> None:
        """Return when everything written is durable (fdatasync).

        After an error it is unknown what is durable, and a second call proves nothing.
        """
        ...

    def lock(self) -> bool:
        """Take the file's exclusive lock until it is closed; returns False if another process has it."""
        ...

    def close(self) -> None:
        """Close the file and release its lock; makes nothing durable."""
        ...


class Disk(Protocol):
    """A file system. A name that was made, changed or removed is durable after `sync_directory`."""

    def make_directory(self, path: Path) -> None:
        """Make a directory, and its parents, if they do not exist; only this user may use those made."""
        ...

    def exists(self, path: Path) -> bool:
        """Whether a file or directory has this name."""
        ...

    def mode(self, path: Path) -> int | None:
        """Who may do what with a file or directory: its mode bits; None if there is none of this name."""
        ...

    def list_directory(self, path: Path) -> list[str]:
        """The names in a directory, sorted."""
        ...

    def room(self, path: Path) -> int:
        """By how many bytes the files in this directory can still grow, as far as the system knows."""
        ...

    def open(self, path: Path, *, create: bool = False, read_only: bool = False) -> DiskFile:
        """Open a file; with `read_only`, also one that this user may not write."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file or directory; a file of the new name is replaced, atomically."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file's name; whoever has the file open can still read it."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Return when the names in this directory are durable (fsync)."""
        ...


class OsFile(DiskFile):
    """A file descriptor, with the name by which it was opened, for errors."""

    def __init__(self, descriptor: int, path: Path, has_read: Callable[[int], None] | None = None) -> None:
        self._descriptor = descriptor
        self._path = path
        self._has_read = has_read

    def read_at(self, offset: int, length: int) -> bytes:
        parts = []
        # pread and pwrite may do less than they are asked to, and have no position: several threads can read
        # one open file.
        with naming(self._path):
            while length and (part := os.pread(self._descriptor, length, offset)):
                parts.append(part)
                offset += len(part)
                length -= len(part)
                if self._has_read is not None:
                    self._has_read(len(part))
        return b"".join(parts)

    def write_at(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        with naming(self._path):
            while view:  # a signal or a full disk can end a write early; the next call tells which
                written = os.pwrite(self._descriptor, view, offset)
                view = view[written:]
                offset += written

    def preallocate(self, size_bytes: int) -> None:
        with naming(self._path):
            # Not ftruncate, which makes a hole: a write into that needs a block, and can fail with ENOSPC.
            os.posix_fallocate(self._descriptor, 0, size_bytes)

    def size(self) -> int:
        with naming(self._path):
            return os.fstat(self._descriptor).st_size

    def datasync(self) -> None:
        with naming(self._path):
            # Also makes the file's size durable if it has grown, but not times, which nobody needs.
            os.fdatasync(self._descriptor)

    def lock(self) -> bool:
        # The system releases this lock when the process ends, however it ends: a killed node leaves none.
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process has it; all other errors are errors
            return False
        return True

    def close(self) -> None:
        os.close(self._descriptor)


class OsDisk(Disk):
    """The operating system's file system.

    Args:
        has_read: called with the number of bytes of each read, so that a command can show its progress.
        waits_for_files: whether a call waits while no file descriptor is free, instead of raising OSError.
    """

    # Also of a subclass with a constructor of its own.
    _has_read: Callable[[int], None] | None = None
    _waits_for_files = False

    def __init__(
        self, has_read: Callable[[int], None] | None = None, *, waits_for_files: bool = False
    ) -> None:
        self._has_read = has_read
        self._waits_for_files = waits_for_files

    def make_directory(self, path: Path) -> None:
        # Names made here are durable when their parents are synced (`data_directory.sync_parents`).
        try:
            path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        except FileNotFoundError:  # `parents=True` would make the parents with a mode that the umask decides
            self.make_directory(path.parent)
            path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def mode(self, path: Path) -> int | None:
        try:
            return S_IMODE(os.stat(path).st_mode)
        except FileNotFoundError:
            return None

    def list_directory(self, path: Path) -> list[str]:
        # Sorted, since the order of a file system is arbitrary, and a simulation must be repeatable.
        return sorted(self._opening(lambda: os.listdir(path)))

    def room(self, path: Path) -> int:
        system = os.statvfs(path)
        return system.f_bavail * system.f_frsize

    def open(self, path: Path, *, create: bool = False, read_only: bool = False) -> DiskFile:
        # O_CLOEXEC: a child process would otherwise keep the directory's lock after its parent has ended.
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return OsFile(self._opening(lambda: os.open(path, flags, FILE_MODE)), path, self._has_read)

    def rename(self, old: Path, new: Path) -> None:
        # Atomic: at any moment, and after a crash, the new name means all of the old file or all of the new.
        os.replace(old, new)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        # A file's own sync says nothing about its name, which is an entry of the directory.
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = self._opening(lambda: os.open(path, flags))
        try:
            with naming(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _opening(self, call: Callable[[], T]) -> T:
        """Make a call that needs a file descriptor."""
        is_told = False
        while True:
            try:
                return call()
            except OSError as error:
                if not self._waits_for_files or error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                # The disk is sound and nothing was changed: sooner or later a connection ends, and its
                # descriptor can be had. Until then this call is a slow one, as of a disk that hangs.
                if not is_told:
                    logger.warning("%s; waiting for a free one", describe_os_error(error, "the disk"))
                is_told = True
            time.sleep(FILES_RETRY_S)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make errors of calls on a descriptor name the file, as errors of calls on a path do."""
    # Python knows no name for a descriptor, and "No space left on device" alone does not say where.
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def is_no_room(error: OSError) -> bool:
    """Whether the disk is full, or this user's share of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def describe_os_error(error: OSError, what: Path | str) -> str:
    """An error in words: the file, or `what` if the error names none, and the reason."""
    return f"{error.filename or what}: {error.strerror or error}"


def write_whole_file(disk: Disk, path: Path, data: bytes) -> None:
    """Make `path` hold `data`, durably, or leave it as it was; raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    # An earlier attempt may have left more bytes than are written now.
    if disk.exists(temporary):
        disk.unlink(temporary)
    file = disk.open(temporary, create=True)
    try:
        file.write_at(0, data)
        # Before the rename: otherwise the new name could be durable first, of a file that is still empty.
        file.datasync()
    finally:
        file.close()
    disk.rename(temporary, path)
    # Without this the old content could be back after a loss of power.
    disk.sync_directory(path.parent)
