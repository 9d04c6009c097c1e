"""Nodes that do not hear each other, on a real network of their own."""

import random
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.testing import History, Register, check_linearizable
from tests.faults.namespaced import NamespacedCluster
from tests.faults.network import open_network
from tests.integration.clients import Client, RegisterHistory
from tests.integration.cluster import PATIENCE_S

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("both_ways", [True, False])
async def test_a_leader_that_is_cut_off_is_replaced(tmp_path: Path, both_ways: bool) -> None:
    """The others elect one and go on; the old one, heard by the others or not, serves nothing stale."""
    history: RegisterHistory = History(trio.current_time)
    with open_network(3) as network:
        cluster = NamespacedCluster(tmp_path, network, 3)
        try:
            cluster.start()
            async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
                await cluster.wait_ready(http)
                client = Client("client", cluster, http, history, random.Random(1))
                old = await cluster.leader(http)
                others = [node_id for node_id in cluster.ids if node_id != old]
                await client.put(old, "/key")
                assert client.status == 204
                for other in others:
                    network.cut(other, old)
                    if both_ways:
                        network.cut(old, other)
                await cluster.leader(http, *others)
                await client.put(others[0], "/key")
                assert client.status == 204
                await client.get(old, "/key")
                assert client.status == 503
                network.heal()
                await cluster.wait_ready(http)
                await client.get(old, "/key")
                assert client.status == 200
        finally:
            cluster.kill()
    check_linearizable(history, Register())
