"""What may be mended of a stopped node's directory without anybody's judgement: nothing here loses an entry.

A torn tail is cut off as a start would; files that were never finished go; what nobody needs but may hold
something is moved to `aside/`. What does not verify in the log, or in the snapshot that it continues, is left
as it is: it may have been acknowledged, and only other members have it (`mend.py`).
"""

from pathlib import Path

from raftkv_trio.config import DEFAULT_SEGMENT_BYTES
from raftkv_trio.offline.findings import Findings
from raftkv_trio.storage import Disk
from raftkv_trio.storage.wal import open_log


def repair(disk: Disk, findings: Findings) -> list[str]:
    """Mend what `check` found in a directory that is still held; a sentence on each thing that was done.

    Raises OSError and StorageError; what was done until then is durable, and may be done again.
    """
    done: list[str] = []
    for leftover in findings.leftovers:
        if leftover.is_data:
            done.append(move_aside(disk, findings.path, leftover.file))
        else:
            disk.unlink(leftover.file)
            disk.sync_directory(leftover.file.parent)
            done.append(f"removed {leftover.file}: {leftover.why}")
    # What was begun behind a torn tail is gone by now: a start would remove it too.
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
    if findings.snapshot is not None:
        done += [
            move_aside(disk, findings.path, seen.file)
            for seen in findings.snapshots
            if not seen.is_whole and seen.id != findings.snapshot
        ]
    return done


def move_aside(disk: Disk, path: Path, file: Path) -> str:
    """Keep a file of the directory `path` in its `aside/`; says so. Raises OSError."""
    aside = path / "aside"
    disk.make_directory(aside)
    disk.sync_directory(path)
    name = f"{file.parent.name}-{file.name}"
    taken = disk.list_directory(aside)
    number = 1
    while (kept := name if number == 1 else f"{name}.{number}") in taken:
        number += 1
    disk.rename(file, aside / kept)
    for directory in (aside, file.parent):  # in this order: it may be in both after a crash, but not in none
        disk.sync_directory(directory)
    return f"moved {file} to {aside / kept}"
