"""What a stopped node's data directory holds, and what is wrong with it. All is read, and nothing is written.

Something is wrong if a start would refuse the directory, for another reason than that the node was removed,
or if a file that is kept does not verify. What a start repairs by itself, a torn tail or files that a crash
left, is reported and not wrong. After damage the reading goes on with the next record that verifies, so that
all damage is found at once. What the log adds up to is reported as of the first damage.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from raftkv_trio.errors import CorruptLog, UpgradeNeeded
from raftkv_trio.node.snapshot_contents import check_contents
from raftkv_trio.offline.findings import Findings, Leftover, Problem, SegmentSeen, SnapshotSeen, TornTailSeen
from raftkv_trio.offline.segment_scan import Damaged, Torn, Verified, identity_in, scan_segment
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import raised_to
from raftkv_trio.state_machine import StateMachine
from raftkv_trio.storage import Disk, SnapshotId, verify_snapshot
from raftkv_trio.storage.data_directory import is_unfinished, open_to_all
from raftkv_trio.storage.log_reader import LogReader
from raftkv_trio.storage.record import end_of_data
from raftkv_trio.storage.segments import SegmentName, last_run, list_segments, possible_ends, read_segment
from raftkv_trio.storage.small_files import (
    AUTH_RESET,
    read_auth_reset,
    read_identity,
    read_lost,
    read_origin,
    read_peers,
    read_removed,
)
from raftkv_trio.storage.snapshot_file import read_parts


def check(disk: Disk, path: Path, machine: StateMachine | None = None) -> Findings:
    """Read all of a directory that is held by `hold_directory`; raises ConfigError if its format is newer.

    With a `machine` the contents of its snapshots are checked too: whether a start could restore them.
    """
    findings = Findings(path)
    # Each part is read for itself, so that damage to one does not hide damage to another.
    with _noting(findings, path):
        findings.open_to_all = list(open_to_all(disk, path))
    with _noting(findings, path / "wal"):
        findings.is_unfinished = is_unfinished(disk, path)
    if findings.is_unfinished:
        return findings
    with _noting(findings, path / "identity"):
        if not disk.exists(path / "identity"):
            raise CorruptLog("is missing; it is written last when a directory is made")
        findings.identity = read_identity(disk, path)
    with _noting(findings, path / "peers"):
        findings.known_members = sorted(read_peers(disk, path))
    with _noting(findings, path / "origin"):
        findings.origin = read_origin(disk, path)
    with _noting(findings, path / "removed"):
        findings.removed = read_removed(disk, path)
    with _noting(findings, path / "lost"):
        findings.lost = read_lost(disk, path)
    with _noting(findings, path / AUTH_RESET):
        findings.auth_reset = read_auth_reset(disk, path)
    _check_log(disk, findings)
    with _noting(findings, path / "snap"):
        _check_snapshots(disk, findings, machine)
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
    """Turn what keeps a part from being read into a problem, so that the other parts are read."""
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
        names = list_segments(disk, directory)
    counting = last_run(names)
    before = len(findings.problems)
    identity = None if findings.identity is None else findings.identity.encode()
    # If the last segment cannot be read, nothing excuses what does not verify in the one before.
    ends = counting[-1:]
    with _noting(findings, directory / str(counting[-1]) if counting else directory):
        ends = possible_ends(disk, directory, counting)
    for name in counting:
        with _noting(findings, directory / str(name)):
            said = _check_segment(disk, directory, name, findings, may_end=name in ends)
            identity = identity or said
    # The segments themselves say whose they are. Without that and without the file nothing can be read.
    if identity is None:
        return
    is_damaged = len(findings.problems) > before
    # The same reader as at a start: only it decides whether a start would accept the log.
    reader = LogReader(disk, directory, identity)
    try:
        reader.read()
    except (CorruptLog, OSError) as error:
        # It stops at the first damage, which the scan has found already, unless the records verify and do
        # not fit together: a segment that is missing, or one of another directory.
        if not is_damaged:
            with _noting(findings, directory):
                raise error
    else:
        findings.is_log_sound = True
        findings.snapshot = reader.contents.snapshot
        _find_unused_segments(findings, names, counting, reader)
    contents = reader.contents  # up to where it came
    findings.hard_state = contents.hard_state
    if contents.entries:
        findings.entries = contents.entries[0].index, contents.entries[-1].index
    if findings.is_log_sound:
        # What is wrong with the snapshot's file is noted where the snapshots are checked.
        with suppress(CorruptLog, UpgradeNeeded, OSError):
            parts = read_parts(disk, findings.path / "snap" / contents.snapshot.file_name)
            levels = [Envelope.decode(next(islice(parts, 1, None), b"")).level]
            findings.feature_level = max(levels + [raised_to(entry) or 0 for entry in contents.entries])


def _check_segment(
    disk: Disk, directory: Path, name: SegmentName, findings: Findings, *, may_end: bool
) -> bytes | None:
    """Verify every record of a segment; returns the identity that it was written for."""
    path = directory / str(name)
    data = read_segment(disk, path)
    used_bytes, records = end_of_data(data), 0
    for found in scan_segment(data, name.number, may_end=may_end):
        match found:
            case Verified():
                records += 1
            case Torn(offset, size_bytes):
                used_bytes = offset
                if offset:  # a segment without a whole record has no tail; the reader says what it is
                    findings.torn = TornTailSeen(path, offset, size_bytes)
            case Damaged(offset, next_offset):
                what = "a record does not verify, and nothing behind it does"
                if next_offset is not None:
                    what = f"a record does not verify; the next one that does is at offset {next_offset}"
                findings.problems.append(Problem(path, offset, what))
    findings.segments.append(SegmentSeen(path, name.first_index, records, used_bytes, len(data)))
    return identity_in(data, name.number)


def _find_unused_segments(
    findings: Findings, names: list[SegmentName], counting: list[SegmentName], reader: LogReader
) -> None:
    """Report the segments that are there and not part of the log, which is sound."""
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


def _check_snapshots(disk: Disk, findings: Findings, machine: StateMachine | None) -> None:
    directory = findings.path / "snap"
    # None if the log is damaged: then no snapshot can be called obsolete or unknown, and all are verified.
    newest = findings.snapshot
    for name in disk.list_directory(directory):
        snapshot, path = SnapshotId.parse(name), directory / name
        if name.endswith((".tmp", ".part")):  # a start removes them
            findings.leftovers.append(Leftover(path, "it was never finished", is_data=False))
        elif snapshot is None:
            continue
        elif newest is not None and snapshot.index > newest.index:
            findings.leftovers.append(Leftover(path, "the log does not know of it", is_data=True))
        else:
            _check_snapshot(disk, path, snapshot, findings, machine)
    if newest is not None and newest not in [seen.id for seen in findings.snapshots]:
        path = directory / newest.file_name
        findings.problems.append(Problem(path, None, "is missing, and the log continues it"))


def _check_snapshot(
    disk: Disk, path: Path, snapshot: SnapshotId, findings: Findings, machine: StateMachine | None
) -> None:
    size_bytes, is_whole = 0, False
    with _noting(findings, path):
        size_bytes = _size_bytes(disk, path)
        meta = verify_snapshot(disk, path).meta
        if meta.id != snapshot:
            raise CorruptLog("holds another snapshot than its name says", path)
        if machine is not None:
            check_contents(machine, meta, islice(read_parts(disk, path), 1, None))
        is_whole = True
    findings.snapshots.append(SnapshotSeen(path, snapshot, size_bytes, is_whole))


def _size_bytes(disk: Disk, path: Path) -> int:
    file = disk.open(path, read_only=True)
    try:
        return file.size()
    finally:
        file.close()
