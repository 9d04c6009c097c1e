"""The port between storage and a file system: a few synchronous calls, in the words of POSIX.

Every method raises OSError, which names the file, and nothing else when the system refuses; its callers turn
that into our errors.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class DiskFile(Protocol):
    """An open file."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""
        ...

    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of `data`; not durable before `datasync`."""
        ...

    def preallocate(self, size_bytes: int) -> None:
        """Give the file at least this size, of zeros, with its blocks reserved."""
        ...

    def size(self) -> int:
        """The size of the file in bytes."""
        ...

    def datasync(self) -> None:
        """Return once everything written is durable (fdatasync)."""
        ...

    def lock(self) -> bool:
        """Take the file's exclusive lock, until it is closed; False where somebody holds it."""
        ...

    def close(self) -> None:
        """Close the file and give up its lock."""
        ...


class Disk(Protocol):
    """A file system. Names made, changed or removed are durable after `sync_directory` of their directory."""

    def make_directory(self, path: Path) -> None:
        """Make it, and its parents, where missing."""
        ...

    def exists(self, path: Path) -> bool:
        """Whether a file or directory has this name."""
        ...

    def list_directory(self, path: Path) -> list[str]:
        """The names in it, sorted."""
        ...

    def open(self, path: Path, *, create: bool = False, read_only: bool = False) -> DiskFile:
        """Open a file; `read_only` asks for no right to write, which a copy or a mount may not give."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file or directory; a file of the new name is replaced, atomically."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Return when the names in this directory are durable (fsync)."""
        ...


class OsFile(DiskFile):
    """A file descriptor, and the name by which it was opened."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def read_at(self, offset: int, length: int) -> bytes:
        parts = []
        with naming(self._path):
            while length and (part := os.pread(self._descriptor, length, offset)):
                parts.append(part)
                offset += len(part)
                length -= len(part)
        return b"".join(parts)

    def write_at(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        with naming(self._path):
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view = view[written:]
                offset += written

    def preallocate(self, size_bytes: int) -> None:
        with naming(self._path):
            os.posix_fallocate(self._descriptor, 0, size_bytes)

    def size(self) -> int:
        with naming(self._path):
            return os.fstat(self._descriptor).st_size

    def datasync(self) -> None:
        with naming(self._path):
            os.fdatasync(self._descriptor)

    def lock(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._descriptor)


class OsDisk(Disk):
    """The operating system's file system."""

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def list_directory(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))

    def open(self, path: Path, *, create: bool = False, read_only: bool = False) -> DiskFile:
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return OsFile(os.open(path, flags, FILE_MODE), path)

    def rename(self, old: Path, new: Path) -> None:
        os.replace(old, new)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with naming(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of a call on a descriptor name the file, as those of calls on a path do."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def is_no_room(error: OSError) -> bool:
    """Whether the disk, or what this user may have of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def trouble(error: OSError, what: Path | str) -> str:
    """Which file failed, or else `what`, and how; for the reader."""
    return f"{error.filename or what}: {error.strerror or error}"


def write_whole_file(disk: Disk, path: Path, data: bytes) -> None:
    """Make `path` hold `data`, durably, or leave it as it was (temporary file, rename)."""
    temporary = path.with_name(path.name + ".tmp")
    if disk.exists(temporary):
        disk.unlink(temporary)
    file = disk.open(temporary, create=True)
    try:
        file.write_at(0, data)
        file.datasync()
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.sync_directory(path.parent)
