"""Nodes that do not hear each other, on a real network of their own."""

import random
from pathlib import Path

import pytest
import trio

from raftkv_trio.testing import History, Register, check_linearizable
from tests.faults.namespaced import open_namespaced
from tests.integration.clients import Client, RegisterHistory

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("both_ways", [True, False])
async def test_a_leader_that_is_cut_off_is_replaced(tmp_path: Path, both_ways: bool) -> None:
    """The others elect one and go on; the old one, heard by the others or not, serves nothing stale."""
    history: RegisterHistory = History(trio.current_time)
    async with open_namespaced(tmp_path) as (cluster, http):
        client = Client("client", cluster, http, history, random.Random(1))
        old = await cluster.leader(http)
        others = [node_id for node_id in cluster.ids if node_id != old]
        await client.put(old, "/key")
        assert client.status == 204
        for other in others:
            cluster.network.cut(other, old)
            if both_ways:
                cluster.network.cut(old, other)
        await cluster.leader(http, *others)
        await client.put(others[0], "/key")
        assert client.status == 204
        await client.get(old, "/key")
        assert client.status == 503
        cluster.network.heal()
        await cluster.wait_ready(http)
        await client.get(old, "/key")
        assert client.status == 200
    check_linearizable(history, Register())
