"""A disk in memory that fails as disks do: the `Disk` port of `raftkv_trio.storage`, for simulations.

It keeps apart what a process sees (the page cache) and what would survive a loss of power:
- A write is durable after `datasync` of its file. Until then each 512-byte sector survives in any of the
  forms that it had since the last sync, independently of the others; so does the file's size.
- A name is durable after `sync_directory` of its directory. Until then each change of names survives or not.
- A sector is never torn. Only `flip_bit` damages data.

A *halt* ends the process that uses the disk: its files are closed, its locks released. `kill` is a halt that
keeps the page cache, as `kill -9` does; `lose_power` is a halt that loses it. Both can be planned to strike
in the middle of a later operation. Everything random is drawn from the disk's `random`.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from raftkv_trio.storage.disk import DIRECTORY_MODE, FILE_MODE
from raftkv_trio.testing.world.inodes import Change, Directory, Inode, Node, copied


class Halted(Exception):
    """Machine or process stopped in the middle of an operation, which has neither succeeded nor failed."""


class SimulatedFile:
    """An open file of a `SimulatedDisk`; after a halt every call raises Halted, since its process is gone."""

    def __init__(self, disk: "SimulatedDisk", path: Path, inode: Inode, *, read_only: bool) -> None:
        self._disk = disk
        self._path = path
        self._inode: Inode | None = inode
        self._halted = False
        self._read_only = read_only

    def read_at(self, offset: int, length: int) -> bytes:
        inode = self._open_inode()
        with self._disk.operation(self._path):
            return bytes(inode.data[offset : offset + length])

    def write_at(self, offset: int, data: bytes) -> None:
        inode = self._open_inode(to_write=True)
        with self._disk.operation(self._path):
            end = offset + len(data)
            room = self._disk.take_room(end - len(inode.data))
            if data and end > len(inode.data) + room:
                inode.write(offset, data[: max(0, len(inode.data) + room - offset)])
                raise _error(errno.ENOSPC, self._path)
            inode.write(offset, data)

    def preallocate(self, size_bytes: int) -> None:
        inode = self._open_inode(to_write=True)
        with self._disk.operation(self._path):
            growth = size_bytes - len(inode.data)
            room = self._disk.take_room(growth)
            if room < growth:
                self._disk.give_back(room)
                raise _error(errno.ENOSPC, self._path)
            inode.resize(size_bytes)

    def size(self) -> int:
        return len(self._open_inode().data)

    def datasync(self) -> None:
        inode = self._open_inode()
        try:
            with self._disk.operation(self._path):
                inode.sync()
        except OSError:
            inode.fail_sync(self._disk.random)
            raise

    def lock(self) -> bool:
        inode = self._open_inode()
        if inode.locked_by is None:
            inode.locked_by = self
        return inode.locked_by is self

    def close(self) -> None:
        if not self._halted:
            self._release(self._open_inode())
            self._disk.forget(self)

    def halt(self) -> None:
        """Close the file because its process has ended."""
        self._release(self._open_inode())
        self._halted = True

    def _release(self, inode: Inode) -> None:
        if inode.locked_by is self:
            inode.locked_by = None
        self._inode = None

    def _open_inode(self, *, to_write: bool = False) -> Inode:
        if self._halted:
            raise Halted("the process has ended")
        if self._inode is None or (to_write and self._read_only):
            raise _error(errno.EBADF, self._path)
        return self._inode


class SimulatedDisk:
    """A file system in memory.

    Attributes:
        random: source of everything random.
        operations: number of operations so far that could fail or be interrupted.
        free_bytes: how much files may still grow before ENOSPC; None: no limit.
        names_kept: the probability that an unsynced change of names survives a loss of power.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.operations = 0
        self.free_bytes: int | None = None
        self.names_kept = 0.5
        self._root = Directory()
        self._changes: list[Change] = []  # of names, not durable yet
        self._files: set[SimulatedFile] = set()
        self._halt_at: tuple[int, bool] | None = None
        self._fail_at: tuple[int, int] | None = None

    # ------------------------------------------------------------ the Disk port

    def make_directory(self, path: Path) -> None:
        with self.operation():
            directory = self._root
            parts = _parts(path)
            for depth, part in enumerate(parts, 1):
                node = directory.names.get(part)
                if node is None:
                    node = Directory()
                    self._change((directory, part, node))
                if isinstance(node, Inode):
                    raise _error(errno.EEXIST if depth == len(parts) else errno.ENOTDIR, path)
                directory = node

    def exists(self, path: Path) -> bool:
        with self.operation():
            try:
                self._find(path)
            except OSError:
                return False
            return True

    def mode(self, path: Path) -> int | None:
        try:
            node = self._find(path)
        except OSError:
            return None
        # Nobody else is in a simulated world. This is no operation: nothing can come in between.
        return DIRECTORY_MODE if isinstance(node, Directory) else FILE_MODE

    def list_directory(self, path: Path) -> list[str]:
        with self.operation():
            return sorted(self._directory(path).names)

    def room(self, path: Path) -> int:
        return sys.maxsize if self.free_bytes is None else self.free_bytes

    def open(self, path: Path, *, create: bool = False, read_only: bool = False) -> SimulatedFile:
        with self.operation():
            parent = self._directory(path.parent)
            node = parent.names.get(path.name)
            if isinstance(node, Directory):
                raise _error(errno.EISDIR, path)
            if node is None:
                if not create:
                    raise _error(errno.ENOENT, path)
                node = Inode()
                self._change((parent, path.name, node))
            file = SimulatedFile(self, path, node, read_only=read_only)
            self._files.add(file)
            return file

    def rename(self, old: Path, new: Path) -> None:
        with self.operation(old):
            here, there = self._directory(old.parent), self._directory(new.parent)
            node = self._find(old)
            target = there.names.get(new.name)
            if target is node:
                return
            if old in new.parents:
                raise _error(errno.EINVAL, new)
            if new in old.parents:
                raise _error(errno.ENOTEMPTY, new)
            if isinstance(target, Directory) and isinstance(node, Inode):
                raise _error(errno.EISDIR, new)
            if isinstance(target, Inode) and isinstance(node, Directory):
                raise _error(errno.ENOTDIR, new)
            if isinstance(target, Directory) and target.names:
                raise _error(errno.ENOTEMPTY, new)
            self._change((here, old.name, None), (there, new.name, node))

    def unlink(self, path: Path) -> None:
        with self.operation(path):
            if isinstance(self._find(path), Directory):
                raise _error(errno.EISDIR, path)
            self._change((self._directory(path.parent), path.name, None))

    def sync_directory(self, path: Path) -> None:
        with self.operation(path):
            directory = self._directory(path)
            synced = [change for change in self._changes if change.touches(directory)]
            for change in reversed(self._changes):
                if change not in synced and any(change.shares_name(later) for later in synced):
                    synced.append(change)
            for change in [c for c in self._changes if c in synced]:
                change.apply(durably=True)
                self._changes.remove(change)

    # ------------------------------------------------------------ what goes wrong

    def kill(self) -> None:
        """End the process; what it wrote stays in the page cache."""
        for file in self._files:
            file.halt()
        self._files.clear()
        self.disarm()

    def lose_power(self) -> None:
        """Stop the machine; of what was not synced some survives."""
        self.kill()
        for change in self._changes:
            if self.random.random() < self.names_kept:
                change.apply(durably=True)
        self._changes.clear()
        self._root.forget_unsynced()
        for _, inode in self._walk(_ROOT):
            inode.lose_power(self.random)

    def halt_at(self, operations_from_now: int, *, power: bool) -> None:
        """Halt in the middle of an operation, counted from now (0: the next); the operation raises Halted."""
        self._halt_at = self.operations + operations_from_now, power

    def fail_at(self, operations_from_now: int, error: int) -> None:
        """Fail an operation, counted from now, or the first later one that can fail, with this errno."""
        self._fail_at = self.operations + operations_from_now, error

    def disarm(self) -> None:
        """Cancel what `halt_at` and `fail_at` planned."""
        self._halt_at = self._fail_at = None

    def copy(self) -> Directory:
        """A copy of all files as a process reads them now, for `set_back`."""
        copy = copied(self._root)
        assert isinstance(copy, Directory)
        return copy

    def set_back(self, copy: Directory) -> None:
        """Hold what `copy` holds, and nothing else; no process may run."""
        assert not self._files
        root = copied(copy)
        assert isinstance(root, Directory)
        self._root = root
        self._changes.clear()

    def flip_bit(self, below: Path) -> str | None:
        """Flip one bit of one file below a directory, and return where; None if there is no data.

        In half of all cases the bit is not in the zeros at the end of the file.
        """
        files = [(path, inode) for path, inode in self._walk(below) if any(inode.data)]
        if not files:
            return None
        path, inode = self.random.choice(files)
        spares_zeros = self.random.random() < 0.5
        size = len(inode.data.rstrip(b"\0")) if spares_zeros else len(inode.data)
        offset, bit = self.random.randrange(size), self.random.randrange(8)
        inode.data[offset] ^= 1 << bit
        return f"{path}, offset {offset}, bit {bit}"

    def files(self, below: Path) -> dict[Path, bytes]:
        """Content of every file below a directory, as a process reads it now; counts as no operation."""
        return {path: bytes(inode.data) for path, inode in self._walk(below)}

    # ------------------------------------------------------------ for its files

    @contextmanager
    def operation(self, path: Path | None = None) -> Iterator[None]:
        """One operation, which may be interrupted; with a `path` it may also fail."""
        number = self.operations
        self.operations += 1
        if self._fail_at is not None and path is not None and number >= self._fail_at[0]:
            error, self._fail_at = self._fail_at[1], None
            raise _error(error, path)
        halts = self._halt_at is not None and number >= self._halt_at[0]
        if halts and self.random.random() < 0.5:
            self._halt()
        yield
        if halts:
            self._halt()

    def take_room(self, wanted_bytes: int) -> int:
        """Take room for this much growth, or as much as is left; return how much."""
        if self.free_bytes is None or wanted_bytes <= 0:
            return max(0, wanted_bytes)
        granted = min(wanted_bytes, self.free_bytes)
        self.free_bytes -= granted
        return granted

    def give_back(self, size_bytes: int) -> None:
        """Give back room that `take_room` took."""
        if self.free_bytes is not None:
            self.free_bytes += size_bytes

    def forget(self, file: SimulatedFile) -> None:
        """A file was closed."""
        self._files.discard(file)

    # ------------------------------------------------------------ parts

    def _halt(self) -> None:
        assert self._halt_at is not None
        power = self._halt_at[1]
        if power:
            self.lose_power()
        else:
            self.kill()
        raise Halted("the power is lost" if power else "the process is killed")

    def _change(self, *names: tuple[Directory, str, Node | None]) -> None:
        change = Change(list(names))
        change.apply(durably=False)
        self._changes.append(change)

    def _find(self, path: Path) -> Node:
        node: Node = self._root
        for part in _parts(path):
            if isinstance(node, Inode):
                raise _error(errno.ENOTDIR, path)
            if part not in node.names:
                raise _error(errno.ENOENT, path)
            node = node.names[part]
        return node

    def _directory(self, path: Path) -> Directory:
        node = self._find(path)
        if isinstance(node, Inode):
            raise _error(errno.ENOTDIR, path)
        return node

    def _walk(self, below: Path) -> Iterator[tuple[Path, Inode]]:
        for name, node in sorted(self._directory(below).names.items()):
            if isinstance(node, Inode):
                yield below / name, node
            else:
                yield from self._walk(below / name)


_ROOT = Path("/")


def _parts(path: Path) -> list[str]:
    """The names on the path from the root; a relative path starts at the root too."""
    return [part for part in path.parts if part != path.anchor]


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
