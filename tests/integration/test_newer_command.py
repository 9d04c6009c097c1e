"""A rolling upgrade: commands that an upgraded node knows, on nodes that do not know them yet."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cbor2
import pytest
import trio

from raftkv_trio import Committed, Node, NodeConfig, run_node
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import CommandRefused, NoLeader, UpgradeNeeded, leaves
from raftkv_trio.kv import Put, Store, Txn, encode_txn
from tests.conftest import find_free_ports
from tests.restarting import RestartingNode

OF_VERSION_6 = cbor2.dumps([6, [], [], [], "what version 6 adds"])
PATIENCE_S = 60.0


def put(key: bytes) -> bytes:
    return encode_txn(Txn(success=(Put(key, b"v"),)))


class UpgradedStore(Store):
    """The store of a later release: a command of version 6 puts a key."""

    def apply(self, batch: Sequence[Committed]) -> list[Any]:
        return super().apply([self._known(committed) for committed in batch])

    def check_command(self, command: bytes) -> None:
        pass

    def _known(self, committed: Committed) -> Committed:
        if committed.command == OF_VERSION_6:
            return Committed(committed.term, committed.index, put(b"/of version 6"))
        return committed


class Upgradable(RestartingNode):
    """Node of a cluster, whose release changes with a restart."""

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        self.store = Store()

    @property
    def keys(self) -> list[bytes]:
        return [record.key for record in self.store.range(b"/")]

    async def run(self, store: Store, *, task_status: trio.TaskStatus[None]) -> None:
        self.store = store
        await self.run_with(store, task_status=task_status)


class Cluster:
    """Nodes by id, and the nursery in which they run: a node that ends raises there."""

    def __init__(self, directory: Path, count: int, nursery: trio.Nursery, settings: dict[str, Any]) -> None:
        addresses = {i: PeerAddress("127.0.0.1", p) for i, p in enumerate(find_free_ports(count), start=1)}
        self._nursery = nursery
        self.nodes = {
            i: Upgradable(
                NodeConfig(
                    node_id=i,
                    members=addresses,
                    data_dir=directory / str(i),
                    tick_interval_s=0.05,
                    segment_bytes=2**20,
                    **settings,
                )
            )
            for i in addresses
        }

    async def start(self, node_id: int, store: Store) -> None:
        await self._nursery.start(self.nodes[node_id].run, store)

    async def upgrade(self, node_id: int) -> None:
        await self.nodes[node_id].stop()
        await self.start(node_id, UpgradedStore())

    async def lead(self, node_id: int) -> Node:
        """Have this one lead, and return it."""
        node = self.nodes[node_id].running
        await until(lambda: node.status().leader_id is not None)
        leader_id = node.status().leader_id
        assert leader_id is not None
        if leader_id != node_id:
            await self.nodes[leader_id].running.transfer_leadership(node_id)
        await until(lambda: all(n.running.status().leader_id == node_id for n in self.nodes.values()))
        return node


@asynccontextmanager
async def running(directory: Path, *stores: Store, **settings: Any) -> AsyncIterator[Cluster]:
    """A node for each store, with ids from 1 on."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(directory, len(stores), nursery, settings)
        for node_id, store in enumerate(stores, start=1):
            await cluster.start(node_id, store)
        with trio.fail_after(PATIENCE_S):
            yield cluster
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Poll: what is waited for shows in a node's status, where no event can be awaited."""
    while not condition():  # noqa: ASYNC110 - see above
        await trio.sleep(0.01)


def newer_versions(node: Upgradable) -> int:
    return node.running.measures().refusals["newer_version"]


async def test_a_node_takes_none_of_its_clients(tmp_path: Path) -> None:
    """It says why, and goes on; so does its next start."""
    async with running(tmp_path, Store()) as cluster:
        node = await cluster.lead(1)
        last_index = node.status().last_index
        with pytest.raises(CommandRefused, match=r"version 6; .* up to 5: upgrade this node .* not applied"):
            await node.propose(OF_VERSION_6)
        assert node.status().last_index == last_index
        await node.propose(put(b"/after"))
        assert node.measures().proposals["command_refused"] == 1
        await cluster.nodes[1].stop()
        await cluster.start(1, Store())
        await cluster.nodes[1].running.wait_readable()
        assert cluster.nodes[1].keys == [b"/after"]


async def test_a_leader_appends_none_that_an_upgraded_follower_forwards(tmp_path: Path) -> None:
    """It is certainly not applied, and its client learns why; when an upgraded node leads, it is applied."""
    async with running(tmp_path, Store(), UpgradedStore(), UpgradedStore()) as cluster:
        leader = await cluster.lead(1)
        last_index = leader.status().last_index
        given_up, waiting = [cluster.nodes[2].running.submit(OF_VERSION_6) for _ in range(2)]
        await until(lambda: newer_versions(cluster.nodes[1]) >= 3)
        await until(lambda: given_up.term is None and given_up.deferred_because is not None)
        error = given_up.give_up()
        assert isinstance(error, NoLeader)
        assert "node 1, which leads, could not apply the command: a command is of version 6" in str(error)
        assert leader.status().last_index == last_index
        await cluster.nodes[3].running.propose(put(b"/after"))
        await cluster.lead(2)
        await waiting.wait()
        assert cluster.nodes[2].keys == [b"/after", b"/of version 6"]


async def test_a_follower_appends_none_of_an_upgraded_leader(tmp_path: Path) -> None:
    """It has all before that, says so, and neither ends nor hinders the others; upgraded, it catches up."""
    async with running(tmp_path, UpgradedStore(), UpgradedStore(), Store()) as cluster:
        leader = await cluster.lead(1)
        behind = cluster.nodes[3]
        # Queued in one turn, so that one append has them all.
        proposals = [leader.submit(c) for c in (put(b"/a"), put(b"/b"), OF_VERSION_6, put(b"/c"))]
        for proposal in proposals:
            await proposal.wait()
        await until(lambda: behind.keys == [b"/a", b"/b"])
        await until(lambda: newer_versions(behind) > 0)
        term = leader.status().term
        for number in range(20):
            await leader.propose(put(b"/d%d" % number))
        health = behind.running.status().health
        assert health is not None
        assert "node 1 has sent" in health
        assert "upgrade this node" in health
        index = (await proposals[2].wait()).index
        assert behind.running.status().last_index == index - 1
        assert leader.status().term == term
        assert behind.running.status().leader_id == 1
        # Another leader finds where that log ends, and gets no further.
        await cluster.lead(2)
        await cluster.nodes[2].running.propose(put(b"/e"))
        await until(lambda: "node 2 has sent" in (behind.running.status().health or ""))
        # It starts again as it was.
        await behind.stop()
        await cluster.start(3, Store())
        await until(lambda: "node 2 has sent" in (behind.running.status().health or ""))
        assert behind.keys == [b"/a", b"/b"]

        await cluster.upgrade(3)
        await until(lambda: behind.keys == cluster.nodes[2].keys)
        assert behind.running.status().health is None


async def test_a_snapshot_may_hold_what_it_has_done(tmp_path: Path) -> None:
    """A state that this release can read is taken: a node that stays behind gets on by it."""
    settings = {"snapshot_entries": 20, "catch_up_entries": 0, "max_catch_up_bytes": 1}
    async with running(tmp_path, UpgradedStore(), UpgradedStore(), Store(), **settings) as cluster:
        leader = await cluster.lead(1)
        await leader.propose(OF_VERSION_6)
        behind = cluster.nodes[3]
        await until(lambda: behind.running.status().health)
        for number in range(60):
            await leader.propose(put(b"/%d" % number))
        await until(lambda: b"/of version 6" in behind.keys)
        await until(lambda: behind.running.status().health is None)


async def test_a_majority_of_older_nodes_commits_none(tmp_path: Path) -> None:
    """Nobody ends; the write is applied when one of them is upgraded."""
    async with running(tmp_path, UpgradedStore(), Store(), Store()) as cluster:
        leader = await cluster.lead(1)
        proposal = leader.submit(OF_VERSION_6)
        await until(lambda: all(newer_versions(cluster.nodes[i]) for i in (2, 3)))
        assert not proposal.is_settled
        assert [cluster.nodes[i].running.status().leader_id for i in (2, 3)] == [1, 1]
        await cluster.upgrade(2)
        await proposal.wait()
        await until(lambda: cluster.nodes[2].keys == [b"/of version 6"])


async def test_one_that_is_committed_ends_an_older_node(tmp_path: Path) -> None:
    """Whoever goes back to an older release: it applies what comes before, and ends, at each start."""
    async with running(tmp_path, UpgradedStore()) as cluster:
        node = cluster.nodes[1]
        await node.running.propose(put(b"/before"))
        index = (await node.running.submit(OF_VERSION_6).wait()).index
        await node.stop()

    async def run(store: Store) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(run_node, node.config, store)
            await trio.sleep_forever()

    for _ in range(2):
        store = Store()
        with trio.fail_after(PATIENCE_S), pytest.raises(BaseExceptionGroup) as caught:
            await run(store)
        (error,) = leaves(caught.value)
        assert isinstance(error, UpgradeNeeded)
        assert str(error) == (
            f"entry {index} holds a command of version 6; this program knows versions up to 5: upgrade this"
            " node to the version of raftkv-trio that the other members run"
        )
        assert [record.key for record in store.range(b"/")] == [b"/before"]
