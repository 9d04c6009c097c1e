"""A small disk for each node: a tmpfs that the test mounts, fills and unmounts."""

import errno
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "rkf"
_FILLER = "filler"
_BLOCK_BYTES = 4096


class Disks:
    """A mount for each node below `directory`."""

    def __init__(self, directory: Path, size_kib: int) -> None:
        self._directory = directory
        self._size_kib = size_kib

    def mount_point(self, node_id: int) -> Path:
        return self._directory / f"disk-{node_id}"

    def mount(self, node_id: int) -> None:
        self.mount_point(node_id).mkdir()
        options = ["-t", "tmpfs", "-o", f"size={self._size_kib}k,mode=700"]
        source = f"{_PREFIX}{os.getpid()}-{node_id}"
        subprocess.run(
            ["mount", *options, source, self.mount_point(node_id)], check=True, capture_output=True
        )

    def fill(self, node_id: int) -> None:
        """Take all the room that there is now; the node may make some again by removing what it has."""
        descriptor = os.open(self._filler(node_id), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                os.write(descriptor, bytes(_BLOCK_BYTES))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(descriptor)

    def free(self, node_id: int) -> None:
        """Give back what `fill` has taken."""
        self._filler(node_id).unlink()

    def _filler(self, node_id: int) -> Path:
        return self.mount_point(node_id) / _FILLER


@contextmanager
def open_disks(directory: Path, node_ids: Iterable[int], *, size_kib: int) -> Iterator[Disks]:
    """Needs root; what dead earlier runs left mounted is unmounted first. No node may run at the end."""
    for pid in {int(pid) for pid, _ in _mounts() if not os.path.exists(f"/proc/{pid}")}:
        _unmount(pid)
    try:
        disks = Disks(directory, size_kib)
        for node_id in node_ids:
            disks.mount(node_id)
        yield disks
    finally:
        _unmount(os.getpid())


def _unmount(pid: int) -> None:
    for owner, mount_point in _mounts():
        if int(owner) == pid:
            subprocess.run(["umount", mount_point], check=True, capture_output=True)


def _mounts() -> list[tuple[str, str]]:
    """The pid and the mount point of each disk of this suite."""
    mounts = Path("/proc/self/mounts").read_text()
    return re.findall(rf"^{_PREFIX}(\d+)-\d+ (\S+) tmpfs ", mounts, re.MULTILINE)
