"""Real processes of two versions: from the one before feature levels to this one, node by node."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import trio

from raftkv_trio.payload.levels import HIGHEST
from tests.integration.cluster import PATIENCE_S, POLL_S
from tests.integration.members import members, wait_role, wait_said
from tests.upgrade.mixed import MixedCluster, Writer, mixed

UPGRADE = "knows feature levels up to 1, and the cluster of node"


async def test_a_rolling_upgrade_under_load(
    old_program: Path, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """No acknowledged write is lost, old members read all that they are sent, and then the level rises."""
    with mixed(old_program, tmp_path, 3, founders=3, old=(1, 2, 3)) as cluster:
        await cluster.wait_ready(http)
        assert "feature_level" not in await cluster.status(http, 1), "this is not the old program"
        writers = [Writer(f"writer-{number}", cluster, http) for number in range(3)]
        async with trio.open_nursery() as nursery:
            for writer in writers:
                nursery.start_soon(writer.run)
            last = await cluster.leader(http)
            first, second = sorted({1, 2, 3} - {last})
            await cluster.replace(http, first)
            # A new leader sends an old member a snapshot, and it goes on from there.
            await cluster.transfer(http, first)
            await fall_behind(http, cluster, second, leader=first)
            cluster.start(second)
            await wait_said(cluster, second, "restored the snapshot at index")
            await cluster.wait_ready(http)
            assert (await cluster.status(http, first))["feature_level"] == 1
            await cluster.replace(http, second)
            # What old members could not read is refused by new ones.
            refused = await put_once(http, cluster, second)
            assert refused.status_code == 503
            assert "is not known by all members; upgrade them" in refused.text
            # An old leader leads two new members.
            await cluster.transfer(http, last)
            for node_id in (first, second):
                await cluster.wait_level(http, 1, node_id)
            await cluster.replace(http, last)
            await cluster.wait_level(http, HIGHEST, 1, 2, 3)
            assert (await put_once(http, cluster, second)).status_code == 204
            written = sum(len(writer.acknowledged) for writer in writers)
            while sum(len(writer.acknowledged) for writer in writers) < written + 10:  # noqa: ASYNC110
                await trio.sleep(POLL_S)
            nursery.cancel_scope.cancel()
        await cluster.wait_equal(http)
        async with trio.open_nursery() as nursery:
            for writer in writers:
                nursery.start_soon(check_all, http, cluster, last, writer.acknowledged)
        # All at once, from what is on the disks.
        await trio.to_thread.run_sync(cluster.kill)
        cluster.start()
        await cluster.wait_ready(http)
        await cluster.wait_level(http, HIGHEST, 1, 2, 3)
        await cluster.wait_equal(http)


async def put_once(http: httpx.AsyncClient, cluster: MixedCluster, asked: int) -> httpx.Response:
    """The answer to a write that needs feature level 2."""
    url, headers = cluster.url(asked, "/once"), {"idempotency-key": "once"}
    return await http.put(url, content="value", headers=headers)


async def check_all(
    http: httpx.AsyncClient, cluster: MixedCluster, asked: int, acknowledged: Mapping[str, str]
) -> None:
    """Everything that was acknowledged can be read."""
    for key, value in acknowledged.items():
        assert (await http.get(cluster.url(asked, key))).text == value


async def fall_behind(http: httpx.AsyncClient, cluster: MixedCluster, node_id: int, *, leader: int) -> None:
    """Kill a node, and wait until the leader has no entries for it any more."""
    had = (await cluster.status(http, node_id))["last_index"]
    await trio.to_thread.run_sync(cluster.kill, node_id)
    with trio.fail_after(PATIENCE_S):
        while (await cluster.status(http, leader))["snapshot_index"] < had + 50:  # noqa: ASYNC110
            await trio.sleep(POLL_S)


async def test_an_old_program_does_not_get_into_a_new_cluster(
    old_program: Path, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """Both sides say in one sentence what to do; the cluster goes on, and takes the node upgraded."""
    with mixed(old_program, tmp_path, 3, founders=2, old=(3,)) as cluster:
        await cluster.wait_ready(http)
        await cluster.wait_level(http, HIGHEST, 1, 2)
        leader = await cluster.leader(http)
        answer = await http.post(cluster.url(leader, "/3"), content=cluster.peer_url(3))
        assert answer.status_code == 204, answer.text
        cluster.start(3)
        await wait_said(cluster, 3, UPGRADE)
        await wait_said(cluster, leader, f"{UPGRADE} {leader} has level {HIGHEST}; upgrade node 3")
        term = (await cluster.status(http, leader))["term"]
        assert (await http.put(cluster.url(leader, "/key"), content="value")).status_code == 204
        assert (await members(http, cluster, leader))[3]["role"] == "learner"
        await trio.to_thread.run_sync(cluster.kill, 3)
        cluster.old_ids.clear()
        cluster.start(3)
        await wait_role(http, cluster, leader, 3, "voter")
        assert (await cluster.status(http, leader))["term"] == term
        # Nor does it open a directory of the new level.
        await trio.to_thread.run_sync(cluster.stop, 3)
        cluster.old_ids.add(3)
        cluster.start(3)
        assert await trio.to_thread.run_sync(cluster.wait_exit, 3) != 0
        assert "upgrade this node" in cluster.log(3).read_text()


async def test_members_that_began_at_different_levels_refuse_each_other(
    old_program: Path, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """One host was forgotten when a new cluster was made: what it began with fits no other member."""
    with mixed(old_program, tmp_path, 3, founders=3, old=(3,)) as cluster:
        await wait_said(cluster, 3, UPGRADE)
        assert await trio.to_thread.run_sync(cluster.stop, 3) == 0
        cluster.old_ids.clear()
        cluster.start(3)
        await wait_said(cluster, 3, "have begun this cluster with different versions of raftkv-trio")
        leader = await cluster.leader(http, 1, 2)
        assert (await http.put(cluster.url(leader, "/key"), content="value")).status_code == 204
