"""The majority is lost for good: one member goes on alone, and is joined by others."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig
from raftkv_trio.errors import ConfigError
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.offline.force_new_cluster import force_new_cluster
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.raft.confchange import conf_change_entry
from raftkv_trio.raft.types import ConfState, HardState
from raftkv_trio.storage import Bootstrap, OsDisk
from tests.cli.program import refusal, run, serving
from tests.conftest import find_free_ports
from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster
from tests.integration.members import wait_role

KEYS = 60


async def add(http: httpx.AsyncClient, cluster: Cluster, node_id: int) -> None:
    """Add a member, when all others acknowledge entries: on a busy machine one may be late for a second."""
    with trio.fail_after(PATIENCE_S):
        while True:
            added = await http.post(cluster.url(1, f"/{node_id}"), content=cluster.peer_url(node_id))
            if added.status_code == 204:
                return
            assert "which is no quorum" in added.text
            await trio.sleep(POLL_S)


async def test_one_member_goes_on_alone(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """It has all that was acknowledged, is of another cluster, takes writes, and grows under new ids."""
    cluster = Cluster(tmp_path, 5, ("--snapshot-entries", "25", "--catch-up-entries", "5"), founders=3)
    try:
        cluster.start()
        await cluster.wait_ready(http)
        for key in range(KEYS):
            node_id = key % 3 + 1
            assert (await http.put(cluster.url(node_id, f"/{key}k"), content=f"{key}")).status_code == 204
        await cluster.wait_equal(http)
        old_id = (await cluster.status(http, 1))["cluster_id"]
        cluster.kill()
        for node_id in (2, 3):
            shutil.rmtree(cluster.data_dir(node_id))
        old = cluster.data_dir(1).rename(tmp_path / "old")

        done = await trio.to_thread.run_sync(
            lambda: run(
                "member",
                "force-new-cluster",
                old,
                "--data-dir",
                cluster.data_dir(1),
                "--yes",
                directory=tmp_path,
            )
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "removed, never start them again: 2, 3" in done.stdout
        cluster.start(1)
        await cluster.wait_ready(http)
        status = await cluster.status(http, 1)
        assert status["cluster_id"] != old_id
        for key in range(KEYS):
            assert (await http.get(cluster.url(1, f"/{key}k"))).text == f"{key}"
        refused = await http.post(cluster.url(1, "/2"), content=cluster.peer_url(2))
        assert (refused.status_code, "never taken again" in refused.text) == (409, True)

        for node_id in (4, 5):
            await add(http, cluster, node_id)
            cluster.start(node_id)
            await wait_role(http, cluster, 1, node_id, "voter")
        await cluster.wait_ready(http)
        assert (await http.put(cluster.url(5, "/after"), content=b"it goes on")).status_code == 204
        assert (await http.get(cluster.url(4, "/59k"))).text == "59"
        await cluster.wait_equal(http)
    finally:
        cluster.kill()


def test_a_directory_that_holds_nothing_yet(tmp_path: Path) -> None:
    """A joiner that no snapshot has reached would only make an empty cluster."""
    own = PeerAddress("127.0.0.1", 1)
    joined = Bootstrap(
        cluster_id=5, conf_state=ConfState(), envelope=Envelope.of({4: own}).encode(), index=0, term=0
    )
    config = NodeConfig(node_id=4, members={4: own}, data_dir=tmp_path / "old")
    open_directory(OsDisk(), config, random.Random(), joined).close(clean=True)
    with pytest.raises(ConfigError, match="still to join"):
        force_new_cluster(tmp_path / "old", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def removal(directory: Path, *, commit: int) -> tuple[str, int]:
    """The directory of node 1 of three, whose log ends in its own removal; its peer URL and REST port."""
    peer_port, port = find_free_ports(2)
    members = {i: PeerAddress("127.0.0.1", peer_port if i == 1 else i) for i in (1, 2, 3)}
    config = NodeConfig(node_id=1, members=members, data_dir=directory)
    storage = open_directory(OsDisk(), config, random.Random())
    request = ChangeRequest((MemberChange(Action.REMOVE, 1),))
    entry = replace(conf_change_entry(request.conf_change(ProposalId(2, 1, 1))), term=2, index=2)
    storage.append(HardState(2, 2, commit), [entry])
    storage.close(clean=True)
    return members[1].url, port


def test_a_log_that_ends_in_its_own_removal(tmp_path: Path) -> None:
    """If no quorum is left to commit the removal, the node stays; it starts with the printed flags."""
    url, port = removal(tmp_path / "old", commit=1)
    done = run("member", "force-new-cluster", "old", "--data-dir", "new", "--yes", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "2; 1 of its entries may never have been acknowledged" in done.stdout
    told = done.stdout.split("serve it with ")[1].partition(";")[0].split()
    assert told == ["--id", "1", "--cluster", f"1={url}", "--data-dir", "new"]
    with serving(*told, "--port", str(port), directory=tmp_path, port=port) as node:
        node.wait_answer(200, "/-/ready")
        assert "WARNING" not in node.said.upper()
        assert [member["id"] for member in node.wait_answer(200, "/-/members").json()] == [1]


def test_a_removal_that_was_committed(tmp_path: Path) -> None:
    """A cluster goes on without its node, so that it must not go on without the cluster."""
    removal(tmp_path / "old", commit=2)
    command = ("member", "force-new-cluster", "old", "--data-dir", "new", "--yes")
    assert "node 1, which was removed from its cluster" in refusal(*command, directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_what_it_does_not_take(tmp_path: Path) -> None:
    """Without --yes and a terminal, without a directory, or onto one, nothing is made."""
    command = ("member", "force-new-cluster", "old", "--data-dir", "new")
    assert "confirm it with --yes" in refusal(*command, directory=tmp_path)
    assert "old is no data directory" in refusal(*command, "--yes", directory=tmp_path)
    (tmp_path / "new").mkdir()
    assert "new exists already" in refusal(*command, "--yes", directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
