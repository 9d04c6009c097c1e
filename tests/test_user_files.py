"""Files that commands write for their users: whole, private, and in the place of nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError
from raftkv_trio.user_files import check_new_file, new_file


def write(file: Path, meanwhile: Callable[[], object], *, replaces: bool = True) -> None:
    with new_file(file, replaces=replaces) as temporary:
        temporary.write_text("new")
        meanwhile()


def make_link(path: Path) -> None:
    path.with_name("else").write_text("mine")
    path.symlink_to("else")


KINDS: dict[str, Callable[[Path], object]] = {
    "link": make_link,
    "broken link": lambda path: path.symlink_to("nowhere"),
    "directory": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("replaces", [False, True])
def test_a_new_file(tmp_path: Path, replaces: bool) -> None:
    """It has its name at the end only, and nobody else may read it, whatever the umask."""
    file = tmp_path / "file"
    before = os.umask(0)
    try:
        with new_file(file, replaces=replaces) as temporary:
            temporary.write_text("whole")
            assert not file.exists()
    finally:
        os.umask(before)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("whole", 0o600)
    assert os.listdir(tmp_path) == ["file"]


def test_a_regular_file(tmp_path: Path) -> None:
    """It is replaced only if that is asked for; another name of it keeps the content."""
    file = tmp_path / "file"
    file.write_text("old")
    os.link(file, tmp_path / "other")
    with pytest.raises(ConfigError, match="exists already"), new_file(file, replaces=False):
        pytest.fail("it began")
    with new_file(file, replaces=True) as temporary:
        temporary.write_text("new")
    assert (file.read_text(), (tmp_path / "other").read_text()) == ("new", "old")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_is_no_regular_file(tmp_path: Path, kind: str, when: str) -> None:
    """It is never replaced, also if it appears while the new file is being written."""
    file = tmp_path / "file"
    if when == "before":
        KINDS[kind](file)
    with pytest.raises(ConfigError, match="is not a regular file"):
        write(file, lambda: KINDS[kind](file))
    assert not file.is_file() or (tmp_path / "else").read_text() == "mine"
    assert not list(tmp_path.glob("*.part"))


def test_a_file_that_appears_meanwhile(tmp_path: Path) -> None:
    """It belongs to somebody else, and stays."""
    file = tmp_path / "file"
    with pytest.raises(ConfigError, match="exists already"):
        write(file, lambda: file.write_text("of another program"), replaces=False)
    assert file.read_text() == "of another program"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    """What was there stays as it was."""
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write(file, lambda: 1 // 0)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """One sentence says so, in the words of the caller."""
    with pytest.raises(ConfigError, match=r"^--keep x cannot be written: there is no directory "):
        check_new_file(tmp_path / "no" / "x", replaces=True, called="--keep x")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written: Not a directory"):
        check_new_file(tmp_path / "file" / "x", replaces=True)
