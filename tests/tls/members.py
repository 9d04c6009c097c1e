"""Members with certificates, each with its streams alone."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import PeerTls
from raftkv_trio.tls.network import TlsNetwork, open_tls_network
from tests.peers.members import BareMember, running


@asynccontextmanager
async def member(
    node_id: int, addresses: dict[int, PeerAddress], directory: Path, tls: PeerTls | None
) -> AsyncIterator[tuple[BareMember, TlsNetwork | None]]:
    """A member that runs; without TLS if `tls` is None."""
    where = directory / f"data-{node_id}"
    if tls is None:
        node = BareMember(node_id, addresses, where)
        async with running(node):
            yield node, None
        return
    async with open_tls_network(tls) as network:
        node = BareMember(node_id, addresses, where, network=network)
        async with running(node):
            yield node, network


def words_in(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return any(re.search(words, message) for message in caplog.messages)
