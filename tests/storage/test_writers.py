"""Who may write to a data directory: whoever can, can replace what the node has promised."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from shutil import rmtree

import pytest

from raftkv_trio.errors import ConfigError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage import Bootstrap, OsDisk
from raftkv_trio.storage.data_directory import open_storage

BOOTSTRAP = Bootstrap(cluster_id=1, conf_state=ConfState(voters=(1,)), envelope=Envelope(members={}).encode())


def open_and_close(path: Path) -> None:
    open_storage(
        OsDisk(), path, node_id=1, bootstrap=BOOTSTRAP, rng=Random(1), segment_bytes=64 * 1024
    ).close(clean=True)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_directories_that_are_made(no_umask: None, tmp_path: Path) -> None:
    """Only this user may use them, and those above them that had to be made, whatever the umask."""
    open_and_close(tmp_path / "a" / "b" / "data")
    for made in ("a", "a/b", "a/b/data", "a/b/data/wal", "a/b/data/snap"):
        assert (tmp_path / made).stat().st_mode & 0o777 == 0o700
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o702, 0o1777])
@pytest.mark.parametrize("part", ["", "wal", "snap"])
@pytest.mark.parametrize("is_new", [True, False])
def test_every_user_may_write(tmp_path: Path, mode: int, part: str, is_new: bool) -> None:
    """Such a directory is refused before anything is made or read; after the named command it opens."""
    path = tmp_path / "its data"
    if is_new:
        (path / part).mkdir(parents=True)
    else:
        open_and_close(path)
    (path / part).chmod(mode)
    before = sorted(path.rglob("*"))
    with pytest.raises(ConfigError, match="every user of this machine may write to ") as refused:
        open_and_close(path)
    assert sorted(path.rglob("*")) == before
    assert str(refused.value).endswith(f"run: chmod o-w '{path / part}'")
    # A volume of a pod, which the node's user may not change. Other advice would be to leave the data there.
    named = f"name a directory in it with `data_dir`, such as {path / 'data'}, "
    assert (named in str(refused.value)) is (is_new and not part)
    if is_new and not part:
        open_and_close(path / "data")
        rmtree(path / "data")
    (path / part).chmod(mode & ~0o002)
    open_and_close(path)


@pytest.mark.parametrize("mode", [0o770, 0o775, 0o2770])
def test_the_group_may_write(tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int) -> None:
    """A warning names the command that ends it, and the directory opens: its group was chosen by somebody."""
    path = tmp_path / "data"
    open_and_close(path)
    path.chmod(mode)
    with caplog.at_level(logging.WARNING):
        open_and_close(path)
    (record,) = caplog.records
    assert record.getMessage().endswith(f"run: chmod g-w {path}")


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_only_this_user_may_write(tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int) -> None:
    """Nothing is said of such a directory; who may read its names can read no file."""
    path = tmp_path / "data"
    open_and_close(path)
    path.chmod(mode)
    open_and_close(path)
    assert caplog.records == []
