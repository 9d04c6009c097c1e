"""Fixtures for members with certificates: two CAs of one name, and addresses."""

from pathlib import Path

import pytest

from raftkv_trio.addresses import PeerAddress
from tests.conftest import find_free_ports
from tests.peers.handmade import CLUSTER_ID
from tests.tls.certificates import Authority


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path, cluster_id=CLUSTER_ID)


@pytest.fixture
def other_ca(tmp_path: Path) -> Authority:
    (tmp_path / "other").mkdir()
    return Authority(tmp_path / "other", cluster_id=CLUSTER_ID)


@pytest.fixture
def addresses() -> dict[int, PeerAddress]:
    return {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(find_free_ports(2), start=1)}
