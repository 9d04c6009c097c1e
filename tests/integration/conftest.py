"""Three real nodes, started; and an HTTP client."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.integration.cluster import PATIENCE_S, Cluster


@pytest.fixture
def arguments() -> Sequence[str]:
    """Of every node; a test module may have its own."""
    return ()


@pytest.fixture
def cluster(tmp_path: Path, arguments: Sequence[str]) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, arguments=arguments)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    no_limits = httpx.Limits()
    async with httpx.AsyncClient(timeout=PATIENCE_S, limits=no_limits) as http:
        yield http
