"""A data directory that a node has used, a cluster, and certificates."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT

import pytest

from tests.cli.certificates import HOSTS, URLS, cert
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


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, the certificates of nodes 1 and 2, and that of a client, as the commands make them."""
    directory = tmp_path_factory.mktemp("cert")
    cert(directory, "init", "--cluster", URLS)
    cert(directory, "node", "1", *HOSTS)
    cert(directory, "node", "2", "10.0.0.2")
    cert(directory, "client", "root")
    return directory / "certs"
