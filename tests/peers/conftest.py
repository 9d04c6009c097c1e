"""Fixtures for the streams between members."""

from collections.abc import Callable

import pytest

from raftkv_trio.addresses import PeerAddress


@pytest.fixture
def addresses(free_ports: Callable[[int], list[int]]) -> dict[int, PeerAddress]:
    return {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(free_ports(2), start=1)}
