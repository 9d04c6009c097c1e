"""One node that leads alone, served; and an HTTP client of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.rest.serving import Served, open_client, open_server


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_server(tmp_path / "data") as served:
        yield served


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(served) as client:
        yield client
