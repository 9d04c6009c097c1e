"""No file descriptor is free: a node's disk waits until one is, and the log goes on where it was."""

import errno
import logging
import os
import random
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from raftkv_trio.raft.types import ConfState, Entry, HardState
from raftkv_trio.storage import Bootstrap, NodeStorage, OsDisk, open_storage

PATIENCE_S = 30
SEGMENT_BYTES = 4096


@contextmanager
def no_free_file() -> Iterator[None]:
    """This process may open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def wait_logged(caplog: pytest.LogCaptureFixture, words: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while words not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def opened(path: Path) -> NodeStorage:
    return open_storage(
        OsDisk(waits_for_files=True),
        path,
        node_id=1,
        bootstrap=Bootstrap(cluster_id=5, conf_state=ConfState(voters=(1,)), envelope=b"envelope"),
        rng=random.Random(1),
        segment_bytes=SEGMENT_BYTES,
    )


@pytest.mark.parametrize("has_spare", [True, False])
def test_the_log_waits_with_its_next_segment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, has_spare: bool
) -> None:
    """A write that needs a new segment is a slow one, says so once, and loses nothing."""
    caplog.set_level(logging.WARNING)
    storage = opened(tmp_path / "data")
    entries = [Entry(2, index, data=bytes(500)) for index in range(2, 30)]
    if has_spare:
        storage.tidy()

    def write() -> None:
        for entry in entries:
            storage.append(HardState(2, 1, 1), [entry])

    writer = Thread(target=write)
    with no_free_file():
        writer.start()
        wait_logged(caplog, "Too many open files; waiting for a free one")
        assert writer.is_alive()
    writer.join(PATIENCE_S)
    assert not writer.is_alive()
    storage.close(clean=False)
    storage = opened(tmp_path / "data")
    assert storage.take_entries() == entries
    assert len(list((tmp_path / "data" / "wal").glob("*.wal"))) > 2
    storage.close(clean=True)
    assert len(caplog.records) == 1


def test_a_command_does_not_wait(tmp_path: Path) -> None:
    """What is not a node is told at once."""
    with no_free_file(), pytest.raises(OSError, match="Too many open files") as caught:
        OsDisk().open(tmp_path / "file", create=True)
    assert caught.value.errno == errno.EMFILE
