"""Files that commands write for their users: whole, private, and in the place of nothing else."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from raftkv_trio.errors import ConfigError
from raftkv_trio.user_files import check_new_file, new_file

PATIENCE_S = 60


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


@pytest.fixture(params=[True, False], ids=["links", "no links"])
def any_file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hard links, and without, as FAT, which a test cannot mount."""

    def refuse(*paths: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if not request.param:
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("replaces", [False, True])
def test_a_new_file(any_file_system: None, tmp_path: Path, replaces: bool) -> None:
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
    """It is replaced only if that is asked for; another name of it keeps the content, and its mode."""
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o644)
    os.link(file, tmp_path / "other")
    with pytest.raises(ConfigError, match="exists already"), new_file(file, replaces=False):
        pytest.fail("it began")
    with new_file(file, replaces=True) as temporary:
        temporary.write_text("new")
    assert (file.read_text(), (tmp_path / "other").read_text()) == ("new", "old")
    assert [path.stat().st_mode & 0o777 for path in (file, tmp_path / "other")] == [0o600, 0o644]
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


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


def test_a_file_that_appears_meanwhile(any_file_system: None, tmp_path: Path) -> None:
    """It belongs to somebody else, and stays."""
    file = tmp_path / "file"
    with pytest.raises(ConfigError, match="exists already"):
        write(file, lambda: file.write_text("of another program"), replaces=False)
    assert file.read_text() == "of another program"
    assert os.listdir(tmp_path) == ["file"]


def test_two_that_make_the_same_file(any_file_system: None, tmp_path: Path) -> None:
    """One of them wins, and the other says that the file exists: no moment lets both believe that it won."""
    rounds = 300
    line_up = Barrier(2)

    def make(number: int, text: str) -> bool:
        try:
            with new_file(tmp_path / str(number), replaces=False) as temporary:
                temporary.write_text(text)
                line_up.wait(PATIENCE_S)  # both have seen that there is none
        except ConfigError:
            return False
        return True

    texts = ("one", "other")
    with ThreadPoolExecutor(2) as threads:
        for number in range(rounds):
            won = list(threads.map(partial(make, number), texts))
            assert sorted(won) == [False, True], number
            assert (tmp_path / str(number)).read_text() == texts[won.index(True)]
    assert len(os.listdir(tmp_path)) == rounds


def test_a_pipe_that_appears_at_the_last_moment(tmp_path: Path) -> None:
    """It stays, though a file may be replaced."""
    line_up = Barrier(2)

    def make_pipe(path: Path) -> bool:
        line_up.wait(PATIENCE_S)
        try:
            os.mkfifo(path)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(1) as thread:
        for number in range(1000):
            file = tmp_path / str(number)
            has_pipe = thread.submit(make_pipe, file)
            try:
                write(file, lambda: line_up.wait(PATIENCE_S))
            except ConfigError:
                assert has_pipe.result()
            else:
                assert not has_pipe.result(), number
            assert file.is_fifo() is has_pipe.result()


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
