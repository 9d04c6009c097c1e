"""What `raftkv-trio check` does, step by step: hold the directory, check it, and repair it if asked to."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from raftkv_trio.errors import ConfigError
from raftkv_trio.offline.check import check
from raftkv_trio.offline.findings import Findings
from raftkv_trio.offline.rebuild_log import rebuild_log
from raftkv_trio.offline.rebuild_small_files import rebuild_small_files
from raftkv_trio.offline.repair import repair
from raftkv_trio.offline.replace_log import finish_swap
from raftkv_trio.state_machine import StateMachine
from raftkv_trio.storage import Disk, DiskFile, OsDisk
from raftkv_trio.storage.data_directory import check_writers


class Inspection(NamedTuple):
    """What was found at the end, and which repairs were made; None if none were asked for."""

    findings: Findings
    repairs: Sequence[str] | None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, after the repairs."""
        return not self.findings.problems and not self.findings.open_to_all


def inspect_directory(
    path: Path,
    *,
    repairs: bool,
    others: Sequence[Path] = (),
    disk: Disk | None = None,
    machine: StateMachine | None = None,
) -> Inspection:
    """Check the directory of a stopped node, and repair it if `repairs`.

    Args:
        others: the directories of other members, stopped too, from which damaged parts are taken. Nothing
            is written to them.
        machine: of the kind that the node replicates: with it the contents of snapshots are checked too.

    Raises:
        ConfigError: a path is no data directory, its node runs, its format is newer, the log cannot be
            rebuilt, or a directory to repair is writable for every user.
        OSError, StorageError: a repair failed; it can be done again.
    """
    disk = disk or OsDisk()
    with ExitStack() as held:
        # All of them, and until the end: a member that starts meanwhile could vote or acknowledge something
        # that the decision about the log does not know of.
        for each in (path, *others):
            held.enter_context(hold_directory(disk, each))
        if not repairs:
            return Inspection(check(disk, path, machine), None)
        # A repair trusts what it finds, so others must not be able to put anything there. `others` are copies
        # that somebody has just made, and nobody's data directories.
        check_writers(disk, path)
        done = []
        # First, since a check would find no log at all.
        if finish_swap(disk, path):
            done.append(f"ended the repair of {path / 'wal'} that was cut short")
        # Before the log: which directory it is of, and of which cluster, stands in `identity`.
        if others:
            done += rebuild_small_files(disk, path, others)
        findings = check(disk, path, machine)
        if others and not (findings.is_log_sound and findings.is_snapshot_whole):
            done += rebuild_log(disk, path, others)
            findings = check(disk, path, machine)
        # Last, with what is known of a log that is sound now: which files are obsolete.
        done += repair(disk, findings)
        return Inspection(check(disk, path, machine) if done else findings, done)


@contextmanager
def hold_directory(disk: Disk, path: Path) -> Iterator[None]:
    """Hold the lock of a node's directory; raises ConfigError if it is no data directory, or in use."""
    try:
        lock = _open_lock(disk, path / "lock")
    except FileNotFoundError as error:
        what = "is no data directory of raftkv-trio" if disk.exists(path) else "does not exist"
        raise ConfigError(f"{path} {what}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be opened as a data directory: {error.strerror}") from error
    try:
        if not lock.lock():
            raise ConfigError(f"data directory {path} is in use by a running node; stop it first")
        yield
    finally:
        lock.close()


def _open_lock(disk: Disk, path: Path) -> DiskFile:
    # For writing, since a lock on NFS needs that. What cannot be written, as a copy or a mount, can still be
    # checked.
    try:
        return disk.open(path)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return disk.open(path, read_only=True)
