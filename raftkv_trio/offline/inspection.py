"""The sequence behind `raftkv-trio check`: hold the directory, check it, and repair it if that is wanted."""

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
from raftkv_trio.storage import Disk, DiskFile, OsDisk


class Inspection(NamedTuple):
    """What was found, after what was done where repairs were asked for; None where they were not."""

    findings: Findings
    repairs: Sequence[str] | None

    @property
    def is_sound(self) -> bool:
        return not self.findings.problems


def inspect_directory(path: Path, *, repairs: bool, others: Sequence[Path] = ()) -> Inspection:
    """Check the directory of a stopped node, and repair it where that is wanted.

    Args:
        others: directories of other members, stopped too, from which what is damaged is taken.

    Raises ConfigError where one of them is none, or its node runs, or its format is a newer one, or the log
    cannot be made good; OSError and StorageError where a repair fails.
    """
    disk = OsDisk()
    with ExitStack() as held:
        for each in (path, *others):
            held.enter_context(hold_directory(disk, each))
        if not repairs:
            return Inspection(check(disk, path), None)
        done = []
        if finish_swap(disk, path):
            done.append(f"ended the repair of {path / 'wal'} that was cut short")
        if others:
            done += rebuild_small_files(disk, path, others)
        findings = check(disk, path)
        if others and not (findings.is_log_sound and findings.is_snapshot_whole):
            done += rebuild_log(disk, path, others)
            findings = check(disk, path)
        done += repair(disk, findings)
        return Inspection(check(disk, path) if done else findings, done)


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
