"""`max-stale=N` on real processes, measured by a probe with a clock of its own."""

import itertools
from pathlib import Path

import httpx
import pytest
import trio

from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster

MAX_STALE_S = 1
PAUSE_S = 3.0


class Probe:
    """Writes numbers in ascending order, and reads them with `max-stale` from one node.

    Attributes:
        answered: how many reads were answered, and how many of them with a number.
    """

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient) -> None:
        self._cluster = cluster
        self._http = http
        self._acknowledged = [(0.0, 0)]  # when each number was acknowledged
        self.answered = 0

    async def write(self, *node_ids: int) -> None:
        """Write for ever, each number to the next of these nodes."""
        for number, node_id in zip(itertools.count(1), itertools.cycle(node_ids), strict=False):
            done = await self._http.put(self._cluster.url(node_id, "/number"), content=b"%d" % number)
            if done.status_code == 204:
                self._acknowledged.append((trio.current_time(), number))

    async def read(self, node_id: int) -> None:
        """Read once; the answer must hold what was acknowledged so long before the request was sent."""
        sent_at = trio.current_time()
        # From before this moment, as the node must have it, whatever happens while the request waits.
        owed = max(number for at, number in self._acknowledged if at <= sent_at - MAX_STALE_S)
        headers = {"Cache-Control": f"max-stale={MAX_STALE_S}"}
        answer = await self._http.get(self._cluster.url(node_id, "/number"), headers=headers)
        if answer.status_code == 503:
            return
        assert answer.status_code == 200
        assert int(answer.content) >= owed, f"sent at {sent_at:.2f}"
        self.answered += 1

    async def read_for_ever(self, node_id: int) -> None:
        """Send a read every few milliseconds, whether the one before is answered or not."""
        async with trio.open_nursery() as reads:
            while True:
                reads.start_soon(self.read, node_id)
                await trio.sleep(POLL_S)

    async def wait_answered(self, more: int) -> None:
        wanted = self.answered + more
        while self.answered < wanted:  # noqa: ASYNC110 - the answers come from other processes
            await trio.sleep(POLL_S)


@pytest.mark.parametrize("is_leader", [True, False], ids=["leader", "follower"])
async def test_a_pause_makes_no_answer_older(
    tmp_path: Path, http: httpx.AsyncClient, is_leader: bool
) -> None:
    """SIGSTOP for 3 s: what gathers in its sockets meanwhile is answered truly or not at all."""
    cluster = Cluster(tmp_path, arguments=("--request-timeout", "2"))
    with trio.fail_after(3 * PATIENCE_S):
        try:
            cluster.start()
            await cluster.wait_ready(http)
            leader = await cluster.leader(http)
            paused = leader if is_leader else leader % 3 + 1
            probe = Probe(cluster, http)
            assert (await http.put(cluster.url(leader, "/number"), content=b"0")).status_code == 204
            # A read that may be a second old could still miss it, so wait until this node has it.
            assert (await http.get(cluster.url(paused, "/number"))).content == b"0"
            async with trio.open_nursery() as background:
                background.start_soon(probe.write, *(i for i in cluster.ids if i != paused))
                background.start_soon(probe.read_for_ever, paused)
                await probe.wait_answered(20)
                cluster.halt(paused)
                await trio.sleep(PAUSE_S)
                cluster.resume(paused)
                await probe.wait_answered(50)
                background.cancel_scope.cancel()
        finally:
            cluster.kill()
