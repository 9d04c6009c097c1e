"""ReadIndex rounds: a read never uses a round that was issued before it came."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from raftkv_trio.errors import NoLeader
from raftkv_trio.node.freshness import Freshness
from raftkv_trio.node.reads import UNANSWERED_TICKS, AppliedIndex, PendingReads
from raftkv_trio.raft.types import ReadState
from raftkv_trio.sync import Wakeup


@pytest.fixture
def rounds() -> PendingReads:
    freshness = Freshness(lambda: 0, lambda: 0.0)
    return PendingReads(node_id=1, boot_nonce=2, wakeup=Wakeup(), freshness=freshness)


def reader(rounds: PendingReads, got: list[int]) -> Callable[[], Awaitable[object]]:
    async def read() -> None:
        index = await rounds.wait_index()
        assert index is not None
        got.append(index)

    return read


async def test_a_read_that_comes_while_a_round_is_out_waits_for_the_next(rounds: PendingReads) -> None:
    """Only those that came before a round was issued are answered by it; the rest share the next one."""
    got: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader(rounds, got))
        await trio.testing.wait_all_tasks_blocked()
        first = rounds.next_context()
        assert first is not None
        nursery.start_soon(reader(rounds, got))
        nursery.start_soon(reader(rounds, got))
        await trio.testing.wait_all_tasks_blocked()
        assert rounds.next_context() is None, "one round at a time"
        rounds.answered([ReadState(5, first)])
        await trio.testing.wait_all_tasks_blocked()
        assert got == [5]
        second = rounds.next_context()
        assert second is not None
        assert second != first
        rounds.answered([ReadState(9, second)])
    assert got == [5, 9, 9]


@pytest.mark.parametrize("answered", [0, 1, 2], ids=["first", "second", "third"])
@pytest.mark.parametrize("loss", ["leader change", "silence"])
async def test_an_answer_to_any_attempt_of_a_round_ends_the_round(
    rounds: PendingReads, loss: str, answered: int
) -> None:
    """A round is issued again under a new context, and a late answer to an earlier context counts too.

    Each attempt was made after all reads of the round had arrived. An answer to an earlier round does not
    count, nor one to another node, or to an earlier start of this node.
    """
    got: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader(rounds, got))
        await trio.testing.wait_all_tasks_blocked()
        earlier = rounds.next_context()
        assert earlier is not None
        nursery.start_soon(reader(rounds, got))
        await trio.testing.wait_all_tasks_blocked()
        rounds.answered([ReadState(1, earlier)])
        attempts: list[bytes] = []
        for _ in range(3):
            context = rounds.next_context()
            assert context is not None
            assert context not in (earlier, *attempts)
            attempts.append(context)
            if loss == "leader change":
                rounds.leader_changed()
            else:
                for _ in range(UNANSWERED_TICKS):
                    assert rounds.next_context() is None
                    rounds.tick()
        strange = [bytes([context[0] ^ 1]) + context[1:] for context in attempts]
        other_start = [context[:15] + bytes([context[15] ^ 1]) + context[16:] for context in attempts]
        rounds.answered([ReadState(2, context) for context in (earlier, *strange, *other_start, b"")])
        await trio.testing.wait_all_tasks_blocked()
        assert got == [1]
        rounds.answered([ReadState(9, attempts[answered])])
        await trio.testing.wait_all_tasks_blocked()
        assert got == [1, 9]
        nursery.start_soon(reader(rounds, got))
        await trio.testing.wait_all_tasks_blocked()
        last = rounds.next_context()
        assert last is not None
        rounds.answered([ReadState(3, context) for context in attempts])
        await trio.testing.wait_all_tasks_blocked()
        assert got == [1, 9]
        rounds.answered([ReadState(10, last)])
    assert got == [1, 9, 10]


async def test_closing_tells_all_who_wait(rounds: PendingReads) -> None:
    """Reads of the round that is out, of the one that gathers, and later ones all raise NoLeader."""
    refused: list[str] = []

    async def read() -> None:
        with pytest.raises(NoLeader) as caught:
            await rounds.wait_index()
        refused.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert rounds.next_context() is not None
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        rounds.close("the node is stopping")
    await read()
    assert refused == ["the node is stopping"] * 3


async def test_a_read_ends_at_its_deadline_and_the_others_go_on(rounds: PendingReads) -> None:
    """Of a round that is out, and of the one that gathers, those end whose deadline has passed."""
    got: dict[tuple[str, float], int | None] = {}

    async def read(which: str, deadline: float) -> None:
        got[which, deadline] = await rounds.wait_index(deadline)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, "out", 10.0)
        nursery.start_soon(read, "out", 12.0)
        await trio.testing.wait_all_tasks_blocked()
        context = rounds.next_context()
        assert context is not None
        nursery.start_soon(read, "gathering", 10.0)
        nursery.start_soon(read, "gathering", 12.0)
        await trio.testing.wait_all_tasks_blocked()
        rounds.end_overdue(9.9)
        await trio.testing.wait_all_tasks_blocked()
        assert got == {}
        rounds.end_overdue(10.0)
        await trio.testing.wait_all_tasks_blocked()
        assert got == {("out", 10.0): None, ("gathering", 10.0): None}
        rounds.answered([ReadState(5, context)])
        await trio.testing.wait_all_tasks_blocked()
        assert got["out", 12.0] == 5
        context = rounds.next_context()
        assert context is not None
        rounds.answered([ReadState(6, context)])
    assert got["gathering", 12.0] == 6


async def test_a_cancelled_reader_leaves_the_round_to_the_others(rounds: PendingReads) -> None:
    """One of two readers gives up; the other is answered."""
    got: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader(rounds, got))
        async with trio.open_nursery() as impatient:
            impatient.start_soon(reader(rounds, got))
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        context = rounds.next_context()
        assert context is not None
        rounds.answered([ReadState(5, context)])
    assert got == [5]


async def test_waiting_for_an_applied_index_wakes_in_order() -> None:
    """Those who wait for an index are woken when it is reached, and not before."""
    applied = AppliedIndex(3)
    woken: list[int] = []

    async def wait(index: int) -> None:
        await applied.wait(index)
        woken.append(index)

    async with trio.open_nursery() as nursery:
        for index in (6, 5, 3, 5):
            nursery.start_soon(wait, index)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == [3]
        applied.advance(5)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == [3, 5, 5]
        applied.advance(10)
    assert woken == [3, 5, 5, 6]
