"""What tests of clusters that change their members share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster

#: Snapshots are frequent, and few entries are kept behind them: a node that joins late needs one.
FREQUENT = ("--snapshot-entries", "500", "--catch-up-entries", "100")


@contextmanager
def started(
    directory: Path, size: int, *, founders: int, arguments: tuple[str, ...] = FREQUENT
) -> Iterator[Cluster]:
    """`founders` of `size` nodes run; all that run at the end are killed."""
    cluster = Cluster(directory, size, arguments, founders=founders)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


async def members(http: httpx.AsyncClient, cluster: Cluster, asked: int) -> dict[int, dict[str, Any]]:
    """The members by id, as one node sees them."""
    answer = (await http.get(cluster.url(asked, "/-/members"))).raise_for_status()
    return {member["id"]: member for member in answer.json()}


async def wait_role(
    http: httpx.AsyncClient, cluster: Cluster, asked: int, member_id: int, role: str | None
) -> None:
    """Until a node sees another one in this role, or, with None, as no member."""
    with trio.fail_after(PATIENCE_S):
        while (await members(http, cluster, asked)).get(member_id, {}).get("role") != role:  # noqa: ASYNC110
            await trio.sleep(POLL_S)


async def wait_said(cluster: Cluster, node_id: int, words: str) -> None:
    """Until a node has said this."""
    with trio.fail_after(PATIENCE_S):
        while words not in cluster.log(node_id).read_text():  # noqa: ASYNC110 - it is another process
            await trio.sleep(POLL_S)


async def add(http: httpx.AsyncClient, cluster: Cluster, asked: int, node_id: int) -> None:
    """Add a node through another one, start it, and wait until it votes."""
    answer = await http.post(cluster.url(asked, f"/{node_id}"), content=cluster.peer_url(node_id))
    assert answer.status_code == 204, answer.text
    cluster.start(node_id)
    await wait_role(http, cluster, asked, node_id, "voter")


async def fill(http: httpx.AsyncClient, cluster: Cluster, asked: int, count: int, value: str) -> None:
    """Write this value under /0x, /1x ..., with some requests under way at once."""

    async def some(first: int) -> None:
        for number in range(first, count, 20):
            answer = await http.put(cluster.url(asked, f"/{number}x"), content=value)
            assert answer.status_code == 204, answer.text

    async with trio.open_nursery() as nursery:
        for first in range(20):
            nursery.start_soon(some, first)


async def wait_alike(http: httpx.AsyncClient, cluster: Cluster, *node_ids: int) -> None:
    """Until these nodes have applied the same, come to the same state and know the same members."""

    async def view(node_id: int) -> tuple[object, ...]:
        status = await cluster.status(http, node_id)
        seen = await members(http, cluster, node_id)
        urls = tuple(sorted((i, member["url"], member["role"]) for i, member in seen.items()))
        return status["applied_index"], status["state_hash"], urls

    with trio.fail_after(PATIENCE_S):
        while len({await view(node_id) for node_id in node_ids}) > 1:  # noqa: ASYNC110
            await trio.sleep(POLL_S)
