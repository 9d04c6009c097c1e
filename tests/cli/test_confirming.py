"""What cannot be undone is asked for at a terminal, and done after a yes only."""

import shutil
from pathlib import Path

import pytest

from raftkv_trio.storage import OsDisk
from raftkv_trio.storage.small_files import read_auth_reset
from tests.cli.program import CTRL_C, CTRL_D, typed
from tests.integration.cluster import Cluster
from tests.integration.test_auth_state import make_members

COMMANDS = [("auth", "reset", "1"), ("member", "force-new-cluster", "1", "--data-dir", "new")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a member of a cluster that checks users."""
    directory = tmp_path_factory.mktemp("made")
    cluster = Cluster(directory, 1)
    make_members(cluster)
    return cluster.data_dir(1)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
def test_nothing_is_changed_without_a_yes(made: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    """The exit code is 1, with a sentence, for another answer and for none; Ctrl-C ends the program."""
    shutil.copytree(made, tmp_path / "1")
    for answer in ("n", "", CTRL_D):
        code, shown = typed(*command, answers=[answer], directory=tmp_path)
        assert (code, shown.splitlines()[-1]) == (1, "raftkv-trio: nothing was changed")
    code, shown = typed(*command, answers=[CTRL_C], directory=tmp_path)
    assert code == 130
    assert "Traceback" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert read_auth_reset(OsDisk(), tmp_path / "1") is None
    code, shown = typed(*command, answers=["y"], directory=tmp_path)
    assert code == 0, shown
