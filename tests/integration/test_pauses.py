"""A leader that is paused: the others go on, and it tells no client what is no longer true."""

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.testing import (
    History,
    Outcome,
    Register,
    RegisterGet,
    RegisterPut,
    RegisterRequest,
    check_linearizable,
)
from tests.integration.clients import Client, RegisterHistory, RegisterOperation
from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster
from tests.integration.proxy import Proxy

KEY = "/key"
PAUSE_S = 5.0


@pytest.mark.parametrize("hears_them", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_a_halted_leader_serves_nothing_stale(
    tmp_path: Path, http: httpx.AsyncClient, hears_them: bool
) -> None:
    """SIGSTOP of the leader for 5 s: a new one meanwhile, and afterwards the old one answers as it must.

    Requests gather in its sockets, each sent after writes that the others acknowledged. It reads them when
    it goes on: at the same time as what its peers have sent, or while it does not hear them and takes itself
    for the leader.
    """
    history: RegisterHistory = History(trio.current_time)
    async with open_cluster(tmp_path) as (cluster, proxies):
        at_old, at_others = (
            Client(name, cluster, http, history, random.Random(1)) for name in ("old", "others")
        )
        await cluster.wait_ready(http)
        old = await cluster.leader(http)
        others = [node_id for node_id in cluster.ids if node_id != old]
        term = (await cluster.status(http, old))["term"]
        async with trio.open_nursery() as background:
            background.start_soon(ask_for_ever, at_others.put, *others)
            background.start_soon(ask_for_ever, at_others.get, *others)
            background.start_soon(ask_for_ever, at_old.get, old)
            await answers(history, at_old, RegisterGet, more=20)
            async with trio.open_nursery() as gathered:
                if not hears_them:
                    proxies[old].hold()
                cluster.halt(old)
                resume_at = trio.current_time() + PAUSE_S
                gathered.start_soon(at_old.put, old, KEY)
                async with trio.open_nursery() as senders:
                    senders.start_soon(send_every, POLL_S, at_old, old, gathered)
                    await cluster.leader(http, *others)
                    await answers(history, at_others, RegisterPut, more=20)
                    await trio.sleep_until(resume_at)
                    senders.cancel_scope.cancel()
                cluster.resume(old)
            proxies[old].release()
            await answers(history, at_old, RegisterGet, more=20)
            background.cancel_scope.cancel()
        status = await cluster.status(http, old)
    assert status["role"] == "follower"
    assert status["term"] > term
    check_linearizable(history, Register())


@asynccontextmanager
async def open_cluster(directory: Path) -> AsyncIterator[tuple[Cluster, Mapping[int, Proxy]]]:
    cluster = Cluster(directory, arguments=("--request-timeout", "2"), is_proxied=True)
    with trio.fail_after(3 * PATIENCE_S):
        async with cluster.open_proxies() as proxies:
            try:
                cluster.start()
                yield cluster, proxies
            finally:
                cluster.kill()


async def ask_for_ever(ask: Callable[[int, str], Awaitable[RegisterOperation]], *node_ids: int) -> None:
    for node_id in itertools.cycle(node_ids):
        await ask(node_id, KEY)


async def send_every(interval_s: float, client: Client, node_id: int, nursery: trio.Nursery) -> None:
    while True:
        nursery.start_soon(client.get, node_id, KEY)
        await trio.sleep(interval_s)


async def answers(
    history: RegisterHistory, client: Client, kind: type[RegisterRequest], *, more: int
) -> None:
    """Wait until a client has been answered that many more requests of this kind."""

    def count() -> int:
        return sum(
            o.client == client.name and isinstance(o.request, kind) and o.outcome is Outcome.COMPLETED
            for o in history.operations
        )

    wanted = count() + more
    while count() < wanted:  # noqa: ASYNC110 - the answers come from other processes
        await trio.sleep(POLL_S)
