"""The network of level 2: what the ends of a connection hear, and what they do not."""

from random import Random

import pytest
import trio
import trio.testing

from raftkv_trio.testing.world.message_network import Conditions
from raftkv_trio.testing.world.stream_network import StreamNetwork
from raftkv_trio.testing.world.timeline import Timeline, Trace

MINUTES_S = 600.0


class Pair:
    """Nodes 1 and 2, and a connection that node 1 has opened."""

    near: trio.abc.Stream

    def __init__(self, conditions: Conditions) -> None:
        self.timeline = Timeline()
        self.network = StreamNetwork(self.timeline, Random(1), Trace(self.timeline), conditions)
        self.heard: list[object] = []
        for node in (1, 2):
            self.network.join(node, None)

    async def pass_time(self, seconds: float) -> None:
        """Let virtual time pass, with all tasks in it."""
        end = self.timeline.now + seconds
        await trio.testing.wait_all_tasks_blocked()
        while self.timeline.next_at <= end:
            self.timeline.step()
            await trio.testing.wait_all_tasks_blocked()
        self.timeline.run_until(end)

    async def connect(self, nursery: trio.Nursery) -> None:
        self.network.listen(2, self._gate)

        async def dial() -> None:
            self.near = await self.network.connect(1, 2, self._gate)

        nursery.start_soon(dial)
        await self.pass_time(1)

    async def listen(self) -> None:
        """Note what comes on node 1's end."""
        try:
            self.heard.append(await self.near.receive_some())
        except trio.BrokenResourceError:
            self.heard.append("broken")

    async def _gate(self) -> None:
        return


@pytest.mark.parametrize("silence", [0.0, 1.0])
async def test_a_host_that_dies_says_nothing(silence: float) -> None:
    """Not for minutes, nor when it is back, until somebody sends; a process that ends is heard at once."""
    pair = Pair(Conditions(silence=silence))
    async with trio.open_nursery() as nursery:
        await pair.connect(nursery)
        nursery.start_soon(pair.listen)
        pair.network.leave(2)
        await pair.pass_time(MINUTES_S)
        assert pair.heard == ([] if silence else ["broken"])
        if not silence:
            return
        pair.network.join(2, None)
        await pair.pass_time(MINUTES_S)
        assert pair.heard == []
        await pair.near.send_all(b"are you there?")
        await pair.pass_time(1)
        assert pair.heard == ["broken"]


async def test_who_sends_to_a_dead_host_gives_up() -> None:
    """As TCP does, when nothing is acknowledged for a while."""
    pair = Pair(Conditions(silence=1.0))
    async with trio.open_nursery() as nursery:
        await pair.connect(nursery)
        nursery.start_soon(pair.listen)
        pair.network.leave(2)
        await pair.near.send_all(b"are you there?")
        await pair.pass_time(3)
        assert pair.heard == []
        await pair.pass_time(3)
        assert pair.heard == ["broken"]
