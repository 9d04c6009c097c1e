"""How many connections may introduce themselves at once, and how often."""

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from raftkv_trio.peers.entrance import (
    BURST_OF_ALL,
    BURST_OF_HOST,
    MAX_HANDSHAKES,
    MIN_HANDSHAKE_S,
    RATE_OF_ACCEPTING,
    RATE_OF_ALL,
    RATE_OF_HOST,
    Entrance,
    GaveWay,
)
from raftkv_trio.world import TrioClock


class Visitors:
    """Connections of several hosts, each of which introduces itself at once."""

    def __init__(self) -> None:
        self.entrance = Entrance(TrioClock())
        self.came: Counter[str] = Counter()
        self.gave_way: list[str] = []

    async def visit(self, host: str, name: str) -> None:
        """Introduce itself in no time."""

        async def handshake() -> None:
            self.came[host] += 1

        await self._come(host, name, handshake)

    async def stay(self, host: str, name: str) -> None:
        """Say nothing."""
        await self._come(host, name, trio.sleep_forever)

    async def _come(self, host: str, name: str, handshake: Callable[[], Awaitable[None]]) -> None:
        try:
            await self.entrance.admit(host, handshake)
        except GaveWay:
            self.gave_way.append(name)

    async def keep_coming(self, host: str) -> None:
        while True:
            await self.visit(host, host)


async def test_a_host_that_comes_too_often_waits_and_no_other_does(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """In the long run at its rate."""
    visitors = Visitors()
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(visitors.keep_coming, "stranger")
            await trio.sleep(10)
            for number in range(BURST_OF_HOST):
                with trio.fail_after(0.1):
                    await visitors.visit("member", str(number))
    assert visitors.came["member"] == BURST_OF_HOST
    assert 20 * RATE_OF_HOST <= visitors.came["stranger"] <= 20 * RATE_OF_HOST + BURST_OF_HOST + 1


async def test_many_hosts_have_a_rate_in_common(autojump_clock: trio.testing.MockClock) -> None:
    """However many they are; a member's host waits for each of them once."""
    visitors, hosts = Visitors(), 50
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            for number in range(hosts):
                nursery.start_soon(visitors.keep_coming, f"stranger {number}")
            await trio.sleep(10)
            with trio.fail_after((hosts + 2) / RATE_OF_ALL):
                await visitors.visit("member", "member")
    assert 20 * RATE_OF_ALL <= visitors.came.total() <= 20 * RATE_OF_ALL + BURST_OF_ALL + 2


async def test_a_host_waits_once_for_each_other(autojump_clock: trio.testing.MockClock) -> None:
    """However many connections each of them has."""
    visitors = Visitors()
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(visitors.keep_coming, f"stranger {number % 3}")
            await trio.sleep(5)
            with trio.fail_after((3 + 2) / RATE_OF_ALL):
                await visitors.visit("member", "member")


async def test_the_oldest_of_the_host_that_has_the_most_gives_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whoever came before it from other hosts stays."""
    visitors = Visitors()
    async with trio.open_nursery() as nursery:
        for number in range(MAX_HANDSHAKES):
            host = "few" if number < 5 else "many"
            nursery.start_soon(visitors.stay, host, f"{host} {number}")
            await trio.testing.wait_all_tasks_blocked()
        await visitors.visit("new", "new")
        assert visitors.gave_way == ["many 5"]
        assert len(visitors.entrance) == MAX_HANDSHAKES - 1
        nursery.cancel_scope.cancel()
    assert len(visitors.entrance) == 0


async def test_accepting_slows_down_when_there_are_too_many(autojump_clock: trio.testing.MockClock) -> None:
    """And goes on: whoever is next in the backlog may be a member of another host."""
    visitors = Visitors()
    async with trio.open_nursery() as nursery:
        for number in range(MAX_HANDSHAKES):
            with trio.fail_after(0):
                await visitors.entrance.wait_room()
            nursery.start_soon(visitors.stay, "silent", str(number))
            await trio.testing.wait_all_tasks_blocked()
        began_at = trio.current_time()
        for _ in range(RATE_OF_ACCEPTING + 1):
            await visitors.entrance.wait_room()
        assert trio.current_time() - began_at == pytest.approx(1.0, abs=0.02)
        nursery.cancel_scope.cancel()


async def test_under_a_flood_turns_come_as_before(mock_clock: trio.testing.MockClock) -> None:
    """Also if the loop is slow, so that more come in each of its rounds than have a turn."""
    visitors = Visitors()
    async with trio.open_nursery() as nursery:
        for number in range(2000):
            nursery.start_soon(visitors.visit, "stranger", str(number))
            await trio.lowlevel.checkpoint()
            mock_clock.jump(0.1 / RATE_OF_HOST if number % 2 else 0.0)
        nursery.cancel_scope.cancel()
    assert visitors.came["stranger"] >= BURST_OF_HOST + 100 * 0.5


async def test_whoever_has_its_turn_has_time_to_introduce_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Though others of its host have come before, and come meanwhile, and say nothing."""
    visitors = Visitors()

    async def introduce_itself() -> None:
        await trio.sleep(0.9 * MIN_HANDSHAKE_S)
        visitors.came["admitted"] += 1

    async with trio.open_nursery() as nursery:
        for number in range(MAX_HANDSHAKES):
            nursery.start_soon(visitors.stay, "same", f"before {number}")
        await trio.sleep(1.1 * MIN_HANDSHAKE_S)
        nursery.start_soon(visitors.entrance.admit, "same", introduce_itself)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(3 * MAX_HANDSHAKES):
            nursery.start_soon(visitors.stay, "same", f"meanwhile {number}")
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(MIN_HANDSHAKE_S)
        assert visitors.came["admitted"] == 1
        nursery.cancel_scope.cancel()
