"""The format of a snapshot file: a header, the node's envelope, then the state machine's chunks.

Each of these parts is `length u32 | crc u32 | bytes`, big endian, the CRC seeded by the part's position. An
empty part ends them. Then come 32 bytes, the BLAKE2b hash of everything before. A backup is such a file. In a
data directory a file has its name when it is whole and durable:

    <term>-<index>.snap        whole
    <term>-<index>.snap.tmp    being written by this node
    <term>-<index>.snap.part   being received from another member
"""

import struct
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

import cbor2

from raftkv_trio.errors import CorruptLog, DecodeError
from raftkv_trio.payload.cbor import decode_payload, pack_conf_state, unpack_conf_state
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage.backup_trailer import TrailerReader
from raftkv_trio.storage.disk import Disk, DiskFile

_PART = struct.Struct(">II")
HASH_BYTES = 32
MAX_PART_BYTES = 64 * 1024 * 1024  # a reader takes no more memory than this for a part
#: After so many bytes a long file is synced while it is written: one large sync at its end would keep the
#: disk busy for seconds, and the log's syncs would wait for it.
SYNC_EVERY_BYTES = 8 * 1024 * 1024
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, order=True)
class SnapshotId:
    """The moment of the log that a snapshot holds: right after this entry."""

    term: int
    index: int

    @property
    def file_name(self) -> str:
        """The name of its file in `snap/`; names sort as the snapshots do."""
        return f"{self.term:016x}-{self.index:016x}.snap"

    @classmethod
    def parse(cls, name: str) -> "SnapshotId | None":
        """The snapshot that a file of this name holds, whole or not; None if the name is not of that form."""
        term, dash, index = name.partition(".")[0].partition("-")
        try:
            return cls(int(term, 16), int(index, 16)) if dash and ".snap" in name else None
        except ValueError:
            return None


#: What a log continues before its first record is read.
NO_SNAPSHOT = SnapshotId(0, 0)


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """The head of a snapshot: the entry that it ends with, and the configuration in force there."""

    index: int
    term: int
    conf_state: ConfState

    @property
    def id(self) -> SnapshotId:
        """The moment of the log that it holds."""
        return SnapshotId(self.term, self.index)


class SnapshotFile:
    """A snapshot that is being written; it has its name when `finish` returns.

    Every method may block on the disk, and raises OSError. After an error, `abandon` it.

    Args:
        meta: goes into the header.
        envelope: the node's own part; not empty.

    Attributes:
        id: the moment of the log that it holds.
        temporary: the path until the file is whole.
        size_bytes: what is written so far.
    """

    def __init__(self, disk: Disk, directory: Path, meta: SnapshotMeta, envelope: bytes) -> None:
        self._disk = disk
        self.id = meta.id
        self._path = directory / meta.id.file_name
        self.temporary = directory / f"{meta.id.file_name}.tmp"
        # The position counts parts, for their CRCs; the hash is of all bytes, frames included.
        self._position = self._unsynced = self.size_bytes = 0
        self._hash = blake2b(digest_size=HASH_BYTES)
        # A killed process may have left one, and it may be longer than the new one will be.
        if disk.exists(self.temporary):
            disk.unlink(self.temporary)
        self._file: DiskFile | None = disk.open(self.temporary, create=True)
        # Index, term and configuration come first, so that a start, or a member that receives the file, knows
        # what it holds without the chunks. The configuration is the one in force at this index: the core
        # needs it to restore, and it may have changed since.
        try:
            self.write([cbor2.dumps([meta.index, meta.term, pack_conf_state(meta.conf_state)]), envelope])
        except OSError:
            self.abandon()
            raise

    @property
    def is_open(self) -> bool:
        """Whether the file is being written: it is neither finished, nor closed, nor abandoned."""
        return self._file is not None

    def write(self, parts: Iterable[bytes]) -> None:
        """Append parts; an empty one is left out, since it would mean the end."""
        # One write for all of them: the snapshotter collects chunks so that there are few calls.
        self._put(b"".join([self._framed(part) for part in parts if part]))

    def finish(self) -> Path:
        """End the file, and make it durable under its name."""
        self._put(self._framed(b""))
        # Each part's CRC finds damage to the part. The hash also finds parts of two files: a transfer that
        # one member began and another went on with, if their bytes should differ.
        self._put(self._hash.digest())
        assert self._file is not None
        # In this order: whoever finds the name, after a loss of power too, finds all of the file behind it.
        # That the log continues this snapshot is recorded later still, when the name is durable.
        self._file.datasync()
        self.close()
        self._disk.rename(self.temporary, self._path)
        self._disk.sync_directory(self._path.parent)
        return self._path

    def close(self) -> None:
        """Close the file; the next start removes it if it has no name yet. A second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandon(self) -> None:
        """Close the file, and remove it if it has no name yet."""
        # At once, and not at the next start: without room for a snapshot, half of one must not stay.
        self.close()
        if self._disk.exists(self.temporary):
            self._disk.unlink(self.temporary)

    def _framed(self, part: bytes) -> bytes:
        if len(part) > MAX_PART_BYTES:
            raise ValueError(f"a chunk of a snapshot has {len(part)} bytes; {MAX_PART_BYTES} are the most")
        # The position is in the CRC: two parts that changed places, or one that is missing, do not verify.
        position, self._position = self._position, self._position + 1
        return _PART.pack(len(part), crc32(part, position)) + part

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        # An error leaves the hash and the size as they were, but not the file: the caller abandons it.
        self._file.write_at(self.size_bytes, data)
        self._hash.update(data)
        self.size_bytes += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_EVERY_BYTES:
            self._file.datasync()
            self._unsynced = 0


class PartReader:
    """Verifies a snapshot file's bytes in order, in pieces of any size.

    Args:
        is_backup: whether a trailer may follow (`backup_trailer.py`).

    Attributes:
        verified_bytes: the length of the parts that verified so far, from where a transfer can go on.
        is_whole: the end was reached, and the hash is right.
        hash: the hash at the end, once the snapshot is whole; empty before.
    """

    def __init__(self, path: Path, *, is_backup: bool = False) -> None:
        self._path = path
        self._trailer = TrailerReader() if is_backup else None
        self._buffer = bytearray()
        self._position = self.verified_bytes = 0
        self._hash = blake2b(digest_size=HASH_BYTES)
        self.hash = b""
        self._ended = self.is_whole = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; returns the parts that they complete.

        Raises CorruptLog, with file and offset.
        """
        self._buffer += data
        # Bytes come as they were read or received, so a part can be in several calls, or many parts in one.
        parts: list[bytes] = []
        while not self._ended and len(self._buffer) >= _PART.size:
            length, crc = _PART.unpack_from(self._buffer)
            end = _PART.size + length
            # The length is checked before memory is taken for it. An empty first part would be a snapshot
            # without a header; bytes of a file that were never written look like that, since CRC32 of
            # nothing is 0.
            if length > MAX_PART_BYTES or (length == 0 and self._position == 0):
                raise self._corrupt()
            if len(self._buffer) < end:
                break
            # Parts are verified before anyone sees them, so that a state machine restores no damaged chunk.
            part = bytes(memoryview(self._buffer)[_PART.size : end])
            if crc32(part, self._position) != crc:
                raise self._corrupt()
            self._pass(end)
            self._position += 1
            if part:
                parts.append(part)
            self._ended = not part
        # The hash is of all bytes before it, the empty part included.
        if self._ended and not self.is_whole and len(self._buffer) >= HASH_BYTES:
            if self._buffer[:HASH_BYTES] != self._hash.digest():
                raise self._corrupt()
            self.hash = self._hash.digest()
            self._pass(HASH_BYTES)
            self.is_whole = True
        if self.is_whole and self._buffer:
            if self._trailer is None or not self._trailer.takes(self._buffer):
                raise self._corrupt()  # bytes behind the end are damage too
            self._buffer.clear()
        return parts

    def missing(self) -> CorruptLog:
        """The error for bytes that end before the snapshot does."""
        return self._corrupt()

    def end(self) -> None:
        """Take note that no more bytes come; raises CorruptLog if some are missing."""
        # Each part may have verified, and yet the file ends too early: parts at its end are missing.
        if not self.is_whole or not (self._trailer is None or self._trailer.is_right()):
            raise self.missing()

    def _pass(self, length: int) -> None:
        # Counted and hashed only when it has verified: a transfer goes on from here, and nothing before this
        # is looked at again.
        passed = memoryview(self._buffer)[:length]
        self._hash.update(passed)
        if self._trailer is not None:
            self._trailer.passed(passed)
        passed.release()
        del self._buffer[:length]
        self.verified_bytes += length

    def _corrupt(self) -> CorruptLog:
        return CorruptLog.at(self._path, self.verified_bytes)


def read_parts(disk: Disk, path: Path, *, is_backup: bool = False) -> Generator[bytes, None, None]:
    """The parts of a snapshot file, lazily: header, envelope, chunks; raises CorruptLog, OSError."""
    return _parts(disk, path, PartReader(path, is_backup=is_backup))


def _parts(disk: Disk, path: Path, reader: PartReader) -> Generator[bytes, None, None]:
    file = disk.open(path, read_only=True)
    try:
        # A piece at a time: a snapshot may be larger than the memory.
        offset = 0
        while data := file.read_at(offset, _READ_BYTES):
            yield from reader.feed(data)
            offset += len(data)
        reader.end()
    finally:
        file.close()


def read_chunks(disk: Disk, path: Path, *, is_backup: bool = False) -> Generator[bytes, None, None]:
    """The state machine's chunks of a snapshot file, lazily; raises CorruptLog, OSError."""
    parts = _parts(disk, path, PartReader(path, is_backup=is_backup))
    next(parts), next(parts)  # header and envelope
    yield from parts


@dataclass(frozen=True, slots=True)
class VerifiedSnapshot:
    """A snapshot file that has verified to its end; a backup is one."""

    file: Path
    meta: SnapshotMeta
    hash: bytes
    size_bytes: int


def verify_snapshot(disk: Disk, path: Path, *, is_backup: bool = False) -> VerifiedSnapshot:
    """Read all of a snapshot file; raises CorruptLog, with file and offset, and OSError."""
    reader = PartReader(path, is_backup=is_backup)
    parts = _parts(disk, path, reader)
    header = next(parts)
    for _ in parts:  # verified as they are read
        pass
    return VerifiedSnapshot(path, decode_meta(path, header), reader.hash, reader.verified_bytes)


def decode_meta(path: Path, header: bytes) -> SnapshotMeta:
    """What the header part of a snapshot file says; raises CorruptLog."""
    # Its CRC fits, so this is a file of another program or version, or a mistake in one.
    try:
        index, term, conf_state = decode_payload(header)
        return SnapshotMeta(index, term, unpack_conf_state(conf_state))
    except (DecodeError, ValueError, TypeError) as error:
        raise CorruptLog(f"{path} has a header that cannot be read: {error}", path, 0) from error
