"""Repairs that need no other member's directory, and can lose no entry.

A torn tail is cut off, as a start would do it. Files that were never finished are removed. Files that no
start needs, but that may hold something, are moved to `aside/`. Damage to the log, or to the snapshot that it
continues, is left as it is: what is damaged may have been acknowledged, and only other members have it
(`rebuild_log.py`).
"""

from pathlib import Path

from raftkv_trio.config import DEFAULT_SEGMENT_BYTES
from raftkv_trio.offline.findings import Findings
from raftkv_trio.storage import Disk
from raftkv_trio.storage.wal import open_log


def repair(disk: Disk, findings: Findings) -> list[str]:
    """Repair what `check` found in a directory that is still held; returns a sentence on each repair.

    Raises OSError, StorageError; the repairs until then are durable, and the rest can be done again.
    """
    done: list[str] = []
    # Files with data are moved and never removed: the judgement that no start needs them rests on a log that
    # this program read, and an operator may know better.
    for leftover in findings.leftovers:
        if leftover.is_data:
            done.append(move_aside(disk, findings.path, leftover.file))
        else:
            disk.unlink(leftover.file)
            disk.sync_directory(leftover.file.parent)
            done.append(f"removed {leftover.file}: {leftover.why}")
    # A segment that was begun behind the torn tail is removed by now, as a start would do it. The log's own
    # recovery does the rest: it copies the tail, cuts it off, and makes all that is left durable.
    if findings.is_log_sound and findings.torn is not None and findings.identity is not None:
        log = open_log(
            disk, findings.path / "wal", findings.identity.encode(), segment_bytes=DEFAULT_SEGMENT_BYTES
        )
        log.close(clean=False)
        if log.torn_tail is not None:
            done.append(
                f"cut off the torn tail of {log.torn_tail.file} at offset {log.torn_tail.offset};"
                f" it is kept as {log.torn_tail.kept}"
            )
    # An older snapshot that is damaged serves nobody. The one that the log continues stays where it is: with
    # it moved away the directory would look as if it had been lost.
    done += [move_aside(disk, findings.path, seen.file) for seen in findings.unneeded_damage]
    return done


def move_aside(disk: Disk, path: Path, file: Path) -> str:
    """Move a file of the directory `path` to its `aside/`; returns a sentence on it. Raises OSError."""
    aside = path / "aside"
    disk.make_directory(aside)
    disk.sync_directory(path)
    name = f"{file.parent.name}-{file.name}"
    # A file of the same name may be there from an earlier repair; a rename would replace it.
    taken = disk.list_directory(aside)
    number = 1
    while (kept := name if number == 1 else f"{name}.{number}") in taken:
        number += 1
    disk.rename(file, aside / kept)
    # In this order: after a loss of power the file may be in both directories, but not in none.
    for directory in (aside, file.parent):
        disk.sync_directory(directory)
    return f"moved {file} to {aside / kept}"
