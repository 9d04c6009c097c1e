"""What a stopped node's data directory holds, and what is wrong with it: all is read, and nothing written.

It is wrong if a start would refuse it, but not because the node was removed, or if a file that is kept does
not verify. What a start mends by itself, a torn tail or what a crash left lying about, is no more than told.
After damage the reading goes on with the next record that verifies, so that all of it is found at once; what
the log adds up to is as of the first damage.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.errors import ConfigError, CorruptLog, PeerProtocolError
from raftkv_trio.raft.types import HardState
from raftkv_trio.storage.disk import Disk, DiskFile
from raftkv_trio.storage.log_reader import (
    LogReader,
    SegmentName,
    last_run,
    possible_ends,
    read_segment,
    segments,
)
from raftkv_trio.storage.node_storage import (
    Identity,
    is_unfinished,
    read_identity,
    read_known,
    read_origin,
    read_removed,
)
from raftkv_trio.storage.record import (
    decode_header,
    decode_payload,
    decode_record,
    end_of_data,
    is_torn,
    next_record,
)
from raftkv_trio.storage.snapshot_file import PartReader, SnapshotId, decode_meta

_READ_BYTES = 1024 * 1024


class Problem(NamedTuple):
    """Something wrong; `offset` in bytes, None where it is not about one place."""

    file: Path
    offset: int | None
    what: str


class SegmentSeen(NamedTuple):
    """A segment that counts.

    Attributes:
        records: those that verify.
        used_bytes, size_bytes: up to where it is written, and preallocated.
    """

    file: Path
    first_index: int
    records: int
    used_bytes: int
    size_bytes: int


class SnapshotSeen(NamedTuple):
    """A snapshot's file; `is_whole` if all of it verifies."""

    file: Path
    id: SnapshotId
    size_bytes: int
    is_whole: bool


class Leftover(NamedTuple):
    """What nobody needs; `is_data` if it may hold something all the same."""

    file: Path
    why: str
    is_data: bool


class Torn(NamedTuple):
    """What a crash left half-written at the end of the log."""

    file: Path
    offset: int
    size_bytes: int


@dataclass(slots=True)
class Findings:
    """What there is. What could not be read is None, or is not there.

    Attributes:
        snapshot: the one that the log continues; None where the log cannot say for sure.
        entries: the first and the last index behind it.
        known_directory_ids: those of the other members.
        origin: the hash of the backup that the directory was restored from.
        removed: the index at which the cluster has removed this node, which does not start again.
        is_log_sound: a start would accept the log.
        is_unfinished: a first start was cut short, and nothing was acknowledged; the next one makes all anew.
    """

    path: Path
    identity: Identity | None = None
    known_directory_ids: dict[int, bytes] | None = None
    origin: bytes | None = None
    removed: int | None = None
    hard_state: HardState | None = None
    snapshot: SnapshotId | None = None
    entries: tuple[int, int] | None = None
    segments: list[SegmentSeen] = field(default_factory=list)
    snapshots: list[SnapshotSeen] = field(default_factory=list)
    torn: Torn | None = None
    leftovers: list[Leftover] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    is_log_sound: bool = False
    is_unfinished: bool = False

    @property
    def is_snapshot_whole(self) -> bool:
        """Whether the one that the log continues is."""
        return any(seen.is_whole and seen.id == self.snapshot for seen in self.snapshots)


@contextmanager
def hold_directory(disk: Disk, path: Path) -> Iterator[None]:
    """Hold the lock of a node's directory; raises ConfigError where there is none or it is in use."""
    try:
        lock = _open_lock(disk, path / "lock")
    except OSError as error:
        raise ConfigError(
            f"{path} is no data directory of raftkv-trio, or not this user's: {error.strerror}"
        ) from error
    try:
        if not lock.lock():
            raise ConfigError(f"data directory {path} is in use by a running node; stop it first")
        yield
    finally:
        lock.close()


def _open_lock(disk: Disk, path: Path) -> DiskFile:
    """To write, for which NFS asks; but a copy that nobody can write to is read all the same."""
    try:
        return disk.open(path)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return disk.open(path, read_only=True)


def check(disk: Disk, path: Path) -> Findings:
    """Read all of a directory that is held by `hold_directory`; raises ConfigError for a newer format."""
    findings = Findings(path)
    with _noting(findings, path / "wal"):
        findings.is_unfinished = is_unfinished(disk, path)
    if findings.is_unfinished:
        return findings
    with _noting(findings, path / "identity"):
        if not disk.exists(path / "identity"):
            raise CorruptLog("is missing; it is written last when a directory is made")
        findings.identity = read_identity(disk, path)
    with _noting(findings, path / "peers"):
        findings.known_directory_ids = read_known(disk, path)
    with _noting(findings, path / "origin"):
        findings.origin = read_origin(disk, path)
    with _noting(findings, path / "removed"):
        findings.removed = read_removed(disk, path)
    _check_log(disk, findings)
    with _noting(findings, path / "snap"):
        _check_snapshots(disk, findings)
    for directory in (path, path / "wal"):
        with _noting(findings, directory):
            for name in disk.list_directory(directory):
                if name.endswith(".tmp"):
                    findings.leftovers.append(
                        Leftover(directory / name, "it was never finished", is_data=False)
                    )
    return findings


@contextmanager
def _noting(findings: Findings, file: Path) -> Iterator[None]:
    """Whatever keeps a part from being read is a problem, and the rest is read."""
    try:
        yield
    except CorruptLog as error:
        what = str(error) if error.offset is None else "does not verify"
        problem = Problem(error.file or file, error.offset, what)
    except OSError as error:
        problem = Problem(file, None, error.strerror or str(error))
    else:
        return
    if problem not in findings.problems:  # a file may be read twice
        findings.problems.append(problem)


# ---------------------------------------------------------------- the log


def _check_log(disk: Disk, findings: Findings) -> None:
    directory = findings.path / "wal"
    names: list[SegmentName] = []
    with _noting(findings, directory):
        names = segments(disk, directory)
    counting = last_run(names)
    before = len(findings.problems)
    identity = None if findings.identity is None else findings.identity.encode()
    ends = counting[-1:]
    with _noting(findings, directory / str(counting[-1]) if counting else directory):
        ends = possible_ends(disk, directory, counting)
    for name in counting:
        with _noting(findings, directory / str(name)):
            said = _check_segment(disk, directory, name, findings, may_end=name in ends)
            identity = identity or said
    if identity is None:
        return
    is_damaged = len(findings.problems) > before
    reader = LogReader(disk, directory, identity)
    try:
        reader.read()
    except (CorruptLog, OSError) as error:
        if not is_damaged:  # otherwise it is one of those that were found
            with _noting(findings, directory):
                raise error
    else:
        findings.is_log_sound = True
        findings.snapshot = reader.contents.snapshot
        _find_unused_segments(findings, names, counting, reader)
    contents = reader.contents
    findings.hard_state = contents.hard_state
    if contents.entries:
        findings.entries = contents.entries[0].index, contents.entries[-1].index


def _check_segment(
    disk: Disk, directory: Path, name: SegmentName, findings: Findings, *, may_end: bool
) -> bytes | None:
    """Verify every record; returns the identity that the segment says it is of."""
    path = directory / str(name)
    data = read_segment(disk, path)
    end, offset, records = end_of_data(data), 0, 0
    identity = None
    while offset < end:
        header = decode_header(data, offset)
        payload = decode_payload(data, offset, header, name.number) if header else None
        if header is not None and payload is not None:
            if offset == 0:
                identity = _identity_in(header.type, payload)
            records += 1
            offset += header.record_bytes
            continue
        if may_end and is_torn(data, offset, name.number):
            if offset:
                findings.torn = Torn(path, offset, end - offset)
            break
        behind = next_record(data, offset, name.number)
        what = "a record does not verify, and nothing behind it does"
        if behind is not None:
            what = f"a record does not verify; the next one that does is at offset {behind}"
        findings.problems.append(Problem(path, offset, what))
        offset = end if behind is None else behind
    findings.segments.append(SegmentSeen(path, name.first_index, records, min(offset, end), len(data)))
    return identity


def _identity_in(kind: int, payload: bytes) -> bytes | None:
    try:
        return decode_record(kind, payload).identity
    except PeerProtocolError:
        return None  # which the log's reader will refuse


def _find_unused_segments(
    findings: Findings, names: list[SegmentName], counting: list[SegmentName], reader: LogReader
) -> None:
    directory = findings.path / "wal"
    for name in names:
        if name not in counting:
            why = f"the snapshot at index {reader.contents.snapshot.index} covers it"
            findings.leftovers.append(Leftover(directory / str(name), why, is_data=True))
    if reader.unused is not None:
        path = directory / str(reader.unused)
        findings.segments = [seen for seen in findings.segments if seen.file != path]
        findings.leftovers.append(
            Leftover(path, "nothing was written to it but its beginning", is_data=False)
        )


# ---------------------------------------------------------------- snapshots


def _check_snapshots(disk: Disk, findings: Findings) -> None:
    directory = findings.path / "snap"
    newest = findings.snapshot
    for name in disk.list_directory(directory):
        snapshot, path = SnapshotId.parse(name), directory / name
        if name.endswith(".tmp"):
            findings.leftovers.append(Leftover(path, "it was never finished", is_data=False))
        elif snapshot is None:
            continue
        elif name.endswith(".part"):
            if newest is not None and snapshot.index <= newest.index:
                why = "it was being received, and a newer one is here"
                findings.leftovers.append(Leftover(path, why, is_data=False))
        elif newest is not None and snapshot.index > newest.index:
            findings.leftovers.append(Leftover(path, "the log does not know of it", is_data=True))
        else:
            _check_snapshot(disk, path, snapshot, findings)
    if newest is not None and newest not in [seen.id for seen in findings.snapshots]:
        path = directory / newest.file_name
        findings.problems.append(Problem(path, None, "is missing, and the log continues it"))


def _check_snapshot(disk: Disk, path: Path, snapshot: SnapshotId, findings: Findings) -> None:
    size_bytes, is_whole = 0, False
    with _noting(findings, path):
        file = disk.open(path, read_only=True)
        try:
            size_bytes = file.size()
            reader, offset, header = PartReader(path), 0, b""
            while data := file.read_at(offset, _READ_BYTES):
                parts = reader.feed(data)
                header = header or b"".join(parts[:1])
                offset += len(data)
        finally:
            file.close()
        if not reader.is_whole:
            raise reader.missing()
        if decode_meta(path, header).id != snapshot:
            raise CorruptLog("holds another snapshot than its name says", path)
        is_whole = True
    findings.snapshots.append(SnapshotSeen(path, snapshot, size_bytes, is_whole))
