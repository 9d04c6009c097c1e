"""100,000 leases at one node: no task holds up the others for long because of them."""

import gc
import time
from collections import deque
from pathlib import Path

import pytest
import trio

from raftkv_trio.access.leases import Lessor
from raftkv_trio.cli.collector import THRESHOLDS
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.lease import LeaseHandlers
from raftkv_trio.kv import LeaseGranted
from raftkv_trio.schema import rpc_pb2
from tests.rest.serving import PATIENCE_S, open_server

LEASES, CLIENTS = 100_000, 200
LONGEST_S = 0.010
#: The first ones must not expire before the last ones are there, and been looked at.
TTL_S = 100


class Turns(trio.abc.Instrument):
    """How long each task keeps the event loop at a time, in seconds of this thread's processor time."""

    def __init__(self) -> None:
        self._began = 0.0
        self._own = trio.lowlevel.current_task()
        self._turns: deque[tuple[float, str]] = deque()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._began and task is not self._own:
            self._turns.append((time.thread_time() - self._began, task.name))

    def take(self, what: str) -> float:
        """The longest turn since the last call."""
        turns, self._turns = sorted(self._turns), deque()
        p99_s = turns[len(turns) * 99 // 100][0]
        print(f"{what}: p99 {1000 * p99_s:.1f} ms, longest {1000 * turns[-1][0]:.1f} ms of {turns[-1][1]}")
        return turns[-1][0]


@pytest.mark.timing
async def test_many_leases(tmp_path: Path) -> None:
    """While they are granted, idle, listed, kept alive in part, and all expire together."""
    thresholds = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)  # as `raftkv-trio serve` does
    gc.collect()
    gc.freeze()  # what a whole test run has made is no node's
    turns, longest, listed = Turns(), dict[str, float](), list[bytes]()
    try:
        async with open_server(tmp_path) as served, trio.open_nursery() as nursery:
            lessor = Lessor(served.replicated, 1)
            nursery.start_soon(lessor.run)

            async def grant(first: int) -> None:
                for lease_id in range(first, LEASES + 1, CLIENTS):
                    assert isinstance(await lessor.grant(lease_id, TTL_S), LeaseGranted)

            async def keep_alive(first: int) -> None:
                for lease_id in range(first, LEASES // 10, CLIENTS):
                    assert await lessor.keep_alive(lease_id).ttl_s(lease_id) == TTL_S

            async def list_all() -> None:
                handlers = LeaseHandlers(served.replicated, lessor)
                listed.append(await handlers.lease_leases(rpc_pb2.LeaseLeasesRequest(), Call({})))

            trio.lowlevel.add_instrument(turns)
            for what, work in (("granted", grant), ("kept alive", keep_alive)):
                async with trio.open_nursery() as clients:
                    for client in range(1, CLIENTS + 1):
                        clients.start_soon(work, client)
                longest[what] = turns.take(what)
            await trio.sleep(5)
            longest["idle"] = turns.take("idle")
            async with trio.open_nursery() as clients:
                clients.start_soon(list_all)
            longest["listed"] = turns.take("listed")
            assert len(rpc_pb2.LeaseLeasesResponse.FromString(listed.pop()).leases) == LEASES
            with trio.fail_after(TTL_S + PATIENCE_S):
                while len(served.store.leases):  # noqa: ASYNC110 - no event tells of an expiry
                    await trio.sleep(0.1)
            longest["expired"] = turns.take("expired")
            trio.lowlevel.remove_instrument(turns)
            nursery.cancel_scope.cancel()
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
    del longest["granted"]  # what 200 clients ask for at a time is another matter, without leases too
    assert max(longest.values()) < LONGEST_S, longest
