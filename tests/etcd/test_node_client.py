"""Node's client `etcd3`, unmodified, against etcd and against a node."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.etcd.servers import PATIENCE_S, ApiServer, needs_etcd, open_etcd, open_node

PROGRAMS = Path(__file__).parent / "node_client"
INSTALL_S = 300.0

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        shutil.which("npm") is None, reason="npm is not installed (Debian: apt-get install nodejs npm)"
    ),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs, and with the client from npm's registry."""
    directory = tmp_path_factory.mktemp("node_client")
    shutil.copytree(PROGRAMS, directory, dirs_exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_S)
    assert installed.returncode == 0, installed.stderr
    return directory


@pytest.mark.parametrize("server", [pytest.param(open_etcd, marks=needs_etcd, id="etcd"), open_node])
@pytest.mark.parametrize("program", sorted(path.name for path in PROGRAMS.glob("*.js")))
def test_a_program(
    programs: Path, tmp_path: Path, server: Callable[[Path], AbstractContextManager[ApiServer]], program: str
) -> None:
    """What the program expects holds on etcd, and on a node."""
    with server(tmp_path) as running:
        command = ["node", program, str(running.port)]
        done = subprocess.run(command, cwd=programs, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
