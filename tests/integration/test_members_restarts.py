"""Restarts of real processes after changes of their members, with the flags of their first start."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig
from raftkv_trio.errors import ConfigError, NodeRemoved
from raftkv_trio.node.node import run_node
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.proofs import key_towards
from raftkv_trio.raft.types import ConfState
from raftkv_trio.state_machine import Committed
from raftkv_trio.storage import Bootstrap, OsDisk
from tests.integration.cluster import PATIENCE_S
from tests.integration.members import add, fill, members, started, wait_alike, wait_said


@pytest.mark.parametrize("writes", [0, pytest.param(600, marks=pytest.mark.long)])
async def test_all_restart_after_changes(tmp_path: Path, http: httpx.AsyncClient, writes: int) -> None:
    """kill -9 of all at once: they know each other as before, from a snapshot or from the log alone."""
    with started(tmp_path, 4, founders=3) as cluster:
        await cluster.wait_ready(http)
        await add(http, cluster, 1, 4)
        assert (await http.delete(cluster.url(4, "/2"))).status_code == 204
        assert cluster.wait_exit(2) == 0
        await fill(http, cluster, 4, writes, "value")
        assert (await http.put(cluster.url(1, "/key"), content=b"value")).status_code == 204
        cluster.kill()
        cluster.start(1, 3, 4)
        await cluster.wait_ready(http)
        assert (await http.get(cluster.url(3, "/key"))).text == "value"
        for node_id in (1, 3, 4):
            assert set(await members(http, cluster, node_id)) == {1, 3, 4}
        cluster.kill(1)
        assert (await http.put(cluster.url(4, "/key"), content=b"later")).status_code == 204
        await wait_alike(http, cluster, 3, 4)


async def test_a_node_that_was_down_learns_that_it_was_removed(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """It ends well when it comes back, then starts no more; and the term of the others stays."""
    with started(tmp_path, 3, founders=3) as cluster:
        await cluster.wait_ready(http)
        cluster.kill(3)
        asked = await cluster.leader(http)
        assert (await http.delete(cluster.url(asked, "/3"))).status_code == 204
        term = (await cluster.status(http, asked))["term"]
        cluster.start(3)
        assert cluster.wait_exit(3) == 0
        cluster.start(3)
        assert cluster.wait_exit(3) == 2
        assert "node 3 was removed from its cluster" in cluster.log(3).read_text()
        assert (await cluster.status(http, asked))["term"] == term


async def test_a_node_that_was_down_finds_those_that_moved(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """Both other members have moved; it learns their addresses when they dial it."""
    with started(tmp_path, 3, founders=3) as cluster:
        await cluster.wait_ready(http)
        cluster.kill(2)
        for node_id, asked in ((1, 3), (3, 1)):
            url = cluster.move(node_id)
            moved = await http.put(cluster.url(asked, f"/-/members/{node_id}"), json={"url": url})
            assert moved.status_code == 200, moved.text
            cluster.kill(node_id)
            cluster.start(node_id)
            await cluster.wait_ready(http)
        cluster.start(2)
        await cluster.wait_ready(http)
        assert (await http.put(cluster.url(2, "/key"), content=b"value")).status_code == 204
        await wait_alike(http, cluster, *cluster.ids)


async def test_with_a_secret_a_node_is_found_of_which_nobody_can_tell(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """All members that a node knows were removed while it was down, and the other newcomer has crashed. The
    two that are left are a majority, and the secret shows that they are of one cluster."""
    secret = tmp_path / "secret"
    secret.write_text("of no use anywhere else, and long enough")
    secret.chmod(0o600)
    arguments = ("--cluster-secret-file", str(secret))
    with started(tmp_path, 5, founders=3, arguments=arguments) as cluster:
        await cluster.wait_ready(http)
        cluster.kill(3)
        for newcomer in (4, 5):
            await add(http, cluster, 1, newcomer)
        for founder in (1, 2):
            assert (await http.delete(cluster.url(4, f"/{founder}"))).status_code == 204
            assert cluster.wait_exit(founder) == 0
        assert (await http.put(cluster.url(4, "/key"), content=b"value")).status_code == 204
        cluster.kill(5)
        cluster.start(3)
        await cluster.wait_ready(http)
        assert (await http.get(cluster.url(3, "/key"))).text == "value"
        assert (await http.put(cluster.url(3, "/key"), content=b"later")).status_code == 204
        await wait_alike(http, cluster, 3, 4)


@pytest.mark.parametrize("is_alone", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_a_node_killed_before_its_directory_was_marked_ends_at_its_next_start(
    tmp_path: Path, http: httpx.AsyncClient, is_alone: bool
) -> None:
    """Its removal is applied again; it waits to be told of it by a member, and then starts no more."""
    with started(tmp_path, 3, founders=3) as cluster:
        await cluster.wait_ready(http)
        asked = await cluster.leader(http)
        gone = next(node_id for node_id in cluster.ids if node_id != asked)
        assert (await http.delete(cluster.url(asked, f"/{gone}"))).status_code == 204
        assert cluster.wait_exit(gone) == 0
        (cluster.data_dir(gone) / "removed").unlink()
        if is_alone:
            cluster.kill()
        cluster.start(gone)
        if is_alone:
            await wait_said(cluster, gone, "until a remaining member confirms its removal")
            for node_id in cluster.ids:
                if node_id != gone:
                    cluster.start(node_id)
        assert cluster.wait_exit(gone) == 0
        cluster.start(gone)
        assert cluster.wait_exit(gone) == 2


async def test_the_one_that_is_left_leads_though_it_was_killed(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """It knows after a kill that the other is removed, whose vote it could never have again."""
    with started(tmp_path, 2, founders=2) as cluster:
        await cluster.wait_ready(http)
        assert (await http.delete(cluster.url(1, "/2"))).status_code == 204
        assert cluster.wait_exit(2) == 0
        cluster.kill(1)
        cluster.start(1)
        await cluster.wait_ready(http)


async def test_a_snapshot_that_holds_its_own_removal_ends_a_node(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """It was killed when its log began behind that already, and before its directory was marked."""
    members = {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(free_ports(2), start=1)}
    gone, left = (
        NodeConfig(node_id=i, members=members, data_dir=tmp_path / str(i), segment_bytes=1024 * 1024)
        for i in members
    )
    envelope = Envelope(members=Envelope.of({2: members[2]}).members, removed={1: 7})
    bootstrap = Bootstrap(
        cluster_id=gone.cluster_id,
        conf_state=ConfState(voters=(2,)),
        envelope=envelope.encode(),
        index=7,
        term=2,
    )
    storages = {
        config.node_id: open_directory(OsDisk(), config, random.Random(), bootstrap)
        for config in (gone, left)
    }
    # They have met: a stranger's word would not end it.
    for own_id, other_id in ((1, 2), (2, 1)):
        key = key_towards(storages[other_id].identity.directory_id, own_id)
        storages[own_id].remember_key(other_id, key)
    for storage in storages.values():
        storage.close(clean=False)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_node, left, InitialState())
            with pytest.raises(ExceptionGroup) as raised:
                await run_node(gone, InitialState())
            nursery.cancel_scope.cancel()
    assert raised.group_contains(NodeRemoved, match="by entry 7")
    with pytest.raises(ConfigError, match="does not start again"):
        await run_node(gone, InitialState())


class InitialState:
    """A state machine that nothing happens to."""

    def apply(self, entries: Sequence[Committed]) -> Sequence[object]:
        return [None] * len(entries)

    def snapshot(self) -> Iterator[bytes]:
        return iter(())

    def restore(self, chunks: Iterable[bytes]) -> None:
        assert not list(chunks)
