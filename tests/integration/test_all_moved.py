"""All members move at once: real processes, the command on each directory, and the cluster goes on."""

import sys
from pathlib import Path

import httpx
import trio

from tests.integration.cluster import Cluster


async def test_all_members_move_at_once(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """With other ports no member finds another; with the addresses set on each, nothing is lost."""
    cluster = Cluster(tmp_path)
    cluster.start()
    try:
        await cluster.wait_ready(http)
        assert (await http.put(cluster.url(1, "/key"), content=b"before")).status_code == 204
        for node_id in cluster.ids:
            cluster.stop(node_id)
        pairs = [f"{node_id}={cluster.move(node_id)}" for node_id in cluster.ids]
        for node_id in cluster.ids:
            command = ["member", "set-addresses", str(cluster.data_dir(node_id)), *pairs]
            done = await trio.run_process(
                [sys.executable, "-m", "raftkv_trio", *command], capture_stdout=True, capture_stderr=True
            )
            said = done.stdout.decode().splitlines()
            assert said[0] == f"{cluster.data_dir(node_id)}: node {node_id} of {','.join(pairs)}"
            assert said[-1].startswith("do the same in the directory of every other member")
        cluster.start()
        await cluster.wait_ready(http)
        for node_id in cluster.ids:
            assert (await http.get(cluster.url(node_id, "/key"))).content == b"before"
        assert (await http.put(cluster.url(3, "/key"), content=b"after")).status_code == 204
        members = (await http.get(cluster.url(1, "/-/members"))).json()
        assert [f"{member['id']}={member['url']}" for member in members] == pairs
    finally:
        cluster.kill()
