"""What is written to a disk, counted by the disk."""

import os
from pathlib import Path

import pytest

from benchmarks.block_device import BlockDevice

SIZE_BYTES = 4 * 1024 * 1024


def test_what_is_durable_was_counted(tmp_path: Path) -> None:
    """All of it; what others write meanwhile is counted too."""
    device = BlockDevice(tmp_path)
    if (before := device.written_bytes()) is None:
        pytest.skip("the directory is on no block device that counts")
    with (tmp_path / "file").open("wb") as file:
        file.write(os.urandom(SIZE_BYTES))
        file.flush()
        os.fsync(file.fileno())
    written = device.written_since(before)
    assert written is not None
    assert written >= SIZE_BYTES


def test_nobody_counts_what_is_written_to_memory() -> None:
    device = BlockDevice(Path("/proc"))
    assert device.written_bytes() is None
    assert device.written_since(1) is None
