"""One of three real nodes is left: it refuses in time, says why, and what it says is true."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
import pytest
import trio

from raftkv_trio.testing import History, Register, check_linearizable
from tests.integration.clients import Client, RegisterHistory
from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster

REQUEST_TIMEOUT_S = 1.0


@pytest.fixture
def arguments() -> Sequence[str]:
    return ("--request-timeout", str(REQUEST_TIMEOUT_S))


@pytest.mark.parametrize("survivor_leads", [True, False])
async def test_a_minority_refuses_in_time_and_heals(
    cluster: Cluster, http: httpx.AsyncClient, survivor_leads: bool
) -> None:
    """One of three answers 503, or 504 to what it had appended or sent; with a second one all goes on."""
    history: RegisterHistory = History(trio.current_time)
    client = Client("client", cluster, http, history, random.Random(1))
    await cluster.wait_ready(http)
    await client.put(1, "/key")
    assert client.status == 204
    leader = await cluster.leader(http)
    survivor = leader if survivor_leads else leader % 3 + 1
    others = [node_id for node_id in cluster.ids if node_id != survivor]
    last_index = (await cluster.status(http, survivor))["last_index"]
    cluster.kill(*others)

    with in_time():
        await client.put(survivor, "/key")
    has_appended = (await cluster.status(http, survivor))["last_index"] > last_index
    if survivor_leads:
        assert client.status == (504 if has_appended else 503)
    else:
        assert not has_appended
        assert client.status in (503, 504)  # it may have been sent to the leader that was
    with in_time():
        await client.get(survivor, "/key")
    assert client.status == 503
    await wait_for_no_leader(cluster, http, survivor)
    for ask in (client.put, client.get):
        with in_time():
            await ask(survivor, "/key")
        assert client.status == 503
    health = (await cluster.status(http, survivor))["health"]
    assert health.startswith("no leader is known")
    assert all(f"node {other}: " in health for other in others)

    cluster.start(others[0])
    await cluster.wait_ready(http)
    for ask, node_id, status in (
        (client.get, survivor, 200),
        (client.put, others[0], 204),
        (client.get, survivor, 200),
    ):
        await ask(node_id, "/key")
        assert client.status == status
    assert (await cluster.status(http, survivor))["health"] is None
    check_linearizable(history, Register())


@contextmanager
def in_time() -> Iterator[None]:
    """An answer is due at the request timeout; five times that allows for a slow machine."""
    with trio.fail_after(5 * REQUEST_TIMEOUT_S):
        yield


async def wait_for_no_leader(cluster: Cluster, http: httpx.AsyncClient, node_id: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while (await cluster.status(http, node_id))["leader_id"] is not None:  # noqa: ASYNC110 - another process
            await trio.sleep(POLL_S)
