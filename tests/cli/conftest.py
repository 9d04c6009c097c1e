"""A data directory that a node has used, and a cluster."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT

import pytest

from tests.cli.cluster import Cluster
from tests.cli.program import serving_alone


@pytest.fixture(scope="session")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of node 1 of `alone`."""
    directory = tmp_path_factory.mktemp("used")
    with serving_alone(directory=directory) as node:
        node.wait_answer(200, "/-/ready")
        assert node.end(SIGINT) == 0
    return directory / "raftkv-trio-1"


@pytest.fixture
def copied(used: Path, tmp_path: Path) -> Path:
    """A copy of it, named `data`."""
    shutil.copytree(used, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def cluster(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, free_ports(6))
    try:
        yield cluster
    finally:
        cluster.close()
