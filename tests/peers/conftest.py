"""Fixtures for the streams between members."""

from collections.abc import Callable

import pytest

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.peers import entrance
from tests.peers import hostile


@pytest.fixture
def addresses(free_ports: Callable[[int], list[int]]) -> dict[int, PeerAddress]:
    return {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(free_ports(2), start=1)}


@pytest.fixture(params=["tcp", "mtls"])
def security(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the nodes that `besieged` runs, and those that attack them, speak to each other."""
    monkeypatch.setattr(hostile, "IS_SECURED", request.param == "mtls")
    return str(request.param)


@pytest.fixture
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of this process let others introduce themselves as often as they like."""
    for name in ("RATE_OF_HOST", "RATE_OF_ALL"):
        monkeypatch.setattr(entrance, name, 1_000_000)
