"""A member whose data directory is set back to an older copy: real nodes in one process, real directories."""

import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
import trio

from raftkv_trio import ChangeRefused, ChangeRequest, MemberChange, NoLeader, PeerAddress
from raftkv_trio.errors import leaves
from raftkv_trio.kv import Put, Txn, encode_txn
from raftkv_trio.offline.inspection import inspect_directory
from raftkv_trio.offline.report import as_text
from raftkv_trio.payload.membership import Action
from tests.conftest import find_free_ports
from tests.rest.serving import Served, open_server

PATIENCE_S = 30.0


def put(key: bytes) -> bytes:
    return encode_txn(Txn(success=(Put(key, b"value"),)))


async def wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - another task of the node makes it true
            await trio.sleep(0.02)


class Nodes:
    """Nodes 1 to 3, each a task of `nursery`; each keeps its directory and its peer port."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self._directory = directory
        self._nursery = nursery
        self._members = {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(find_free_ports(3), 1)}
        self._running: dict[int, tuple[trio.Event, trio.Event]] = {}
        self.served: dict[int, Served] = {}

    async def start(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self.served[node_id] = await self._nursery.start(self._run, node_id)

    async def _run(self, node_id: int, task_status: trio.TaskStatus[Served]) -> None:
        stop, stopped = self._running[node_id] = trio.Event(), trio.Event()
        listen = self._members[node_id]
        async with open_server(
            self.path(node_id), node_id=node_id, members=self._members, listen=listen
        ) as served:
            task_status.started(served)
            await stop.wait()
        stopped.set()

    async def stop(self, *node_ids: int) -> None:
        for node_id in node_ids:
            del self.served[node_id]
            stop, stopped = self._running.pop(node_id)
            stop.set()
            await stopped.wait()

    def path(self, node_id: int) -> Path:
        return self._directory / str(node_id)

    def leads(self, node_id: int) -> bool:
        return self.served[node_id].node.status().role == "leader"

    def health(self, node_id: int) -> str:
        return self.served[node_id].node.status().health or "ok"


@asynccontextmanager
async def with_a_rolled_back_follower(directory: Path) -> AsyncIterator[tuple[Nodes, int, int, int]]:
    """Three nodes; the ids of the leader, a healthy follower, and one that has lost entries."""
    copy = directory / "copy"
    async with trio.open_nursery() as nursery:
        nodes = Nodes(directory, nursery)
        await nodes.start(1, 2, 3)
        await wait_until(lambda: any(map(nodes.leads, nodes.served)))
        leader = next(filter(nodes.leads, nodes.served))
        healthy, back = [i for i in (1, 2, 3) if i != leader]
        node = nodes.served[leader].node
        await node.propose(put(b"before"))
        last = node.status().last_index
        await wait_until(lambda: nodes.served[back].node.status().applied_index == last)
        await nodes.served[back].node.take_snapshot()  # so that it has a snapshot of all that it will apply
        await nodes.stop(back)
        shutil.copytree(nodes.path(back), copy)
        await nodes.start(back)
        for number in range(20):
            await node.propose(put(b"%d" % number))
        last = node.status().last_index
        await wait_until(lambda: [m.match for m in node.members()] == [last] * 3)
        await nodes.stop(back)
        shutil.rmtree(nodes.path(back))
        shutil.copytree(copy, nodes.path(back))
        await nodes.start(back)
        yield nodes, leader, healthy, back
        nursery.cancel_scope.cancel()


async def test_it_says_so_and_takes_no_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is not healthy, serves nobody, counts in no quorum check, and says in one line what to do."""
    caplog.set_level(logging.WARNING)
    async with with_a_rolled_back_follower(tmp_path) as (nodes, leader, healthy, back):
        await wait_until(lambda: "acknowledged" in nodes.health(back))
        assert f"remove node {back}" in nodes.health(back)
        answer = await nodes.served[back].ask(b"GET /-/healthy")
        assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
        assert b"acknowledged" in answer.content
        with pytest.raises(NoLeader, match="acknowledged"):
            await nodes.served[back].node.propose(put(b"x"))
        with pytest.raises(NoLeader, match="acknowledged"):
            await nodes.served[back].node.wait_readable()
        with pytest.raises(NoLeader, match="acknowledged"):
            await nodes.served[back].node.take_snapshot()
        node = nodes.served[leader].node
        await wait_until(lambda: [m.id for m in node.members() if not m.is_active] == [back])
        await trio.sleep(2)
        await node.propose(put(b"after"))
        with pytest.raises(ChangeRefused, match="no quorum"):
            node.dry_run_change(ChangeRequest((MemberChange(Action.REMOVE, healthy),)))
        assert node.dry_run_change(ChangeRequest((MemberChange(Action.REMOVE, back),))) is None
    lines = [record for record in caplog.records if "acknowledged" in record.getMessage()]
    assert len(lines) == 1


async def test_the_leader_steps_down_without_others_that_acknowledge(tmp_path: Path) -> None:
    """With the rolled-back member alone it has no quorum; nobody is elected until the healthy one is back."""
    async with with_a_rolled_back_follower(tmp_path) as (nodes, leader, healthy, back):
        await wait_until(lambda: "acknowledged" in nodes.health(back))
        await nodes.stop(healthy)
        await wait_until(lambda: not nodes.leads(leader))
        await trio.sleep(3)
        assert not any(map(nodes.leads, nodes.served))
        await nodes.start(healthy)
        await wait_until(lambda: nodes.leads(leader) or nodes.leads(healthy))


async def test_it_does_not_start_again(tmp_path: Path) -> None:
    """After a restart no leader might know what is lost, so the directory remembers it; `check` says so."""
    async with with_a_rolled_back_follower(tmp_path) as (nodes, _, _, back):
        await wait_until((nodes.path(back) / "lost").exists)
        await nodes.stop(back)
        with pytest.raises(ExceptionGroup) as refused:
            await nodes.start(back)
        assert any("does not start again; remove it" in str(error) for error in leaves(refused.value))
        assert "it does not start again" in as_text(inspect_directory(nodes.path(back), repairs=False))


async def test_a_removed_one_ends(tmp_path: Path) -> None:
    """It hears of its removal although it listens to nobody's log any more."""
    async with with_a_rolled_back_follower(tmp_path) as (nodes, leader, _, back):
        await wait_until(lambda: "acknowledged" in nodes.health(back))
        removal = ChangeRequest((MemberChange(Action.REMOVE, back),))
        with trio.fail_after(PATIENCE_S):
            await nodes.served[leader].node.change_members(removal).wait()
            await nodes.served[back].node.removed.wait()
