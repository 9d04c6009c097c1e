"""What is offered to an idle stream leaves at once, and the rest by the stream's task: in order and whole."""

import random
from pathlib import Path

import trio
import trio.testing

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.peers.wire import Forward
from raftkv_trio.raft.types import Entry, Message, MessageType
from tests.peers.members import BareMember, connected, running, until


def append(index: int, size_bytes: int) -> Message:
    data = encode_proposal(ProposalId(1, 1, index), bytes(size_bytes))
    entries = (Entry(1, index + 1, data=data),)
    return Message(type=MessageType.APP, to=2, from_=1, term=1, index=index, entries=entries)


async def test_appends_of_all_sizes_arrive_in_order(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Small ones leave while they are offered, as far as the system takes them, and large ones later."""
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
    drawn = random.Random(0)
    offered: list[int] = []
    arrived: list[int] = []
    async with running(one, two):
        await connected(one, 2)

        async def receive() -> None:
            while True:
                for _, frame in await two.received(1):
                    assert isinstance(frame, list)
                    arrived.extend(message.index for message in frame)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            for index in range(1, 2000):
                if one.peers.offer(2, [append(index, drawn.choice((10, 1000, 50_000, 200_000)))]):
                    offered.append(index)
                if drawn.random() < 0.3:
                    await trio.lowlevel.checkpoint()
            await until(lambda: len(arrived) == len(offered))
            nursery.cancel_scope.cancel()
    assert arrived == offered
    assert len(offered) > 100


async def test_what_is_offered_to_a_stream_that_ends_comes_back(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """The address has changed, and the old stream's task has not run since: nothing more is sent on it."""
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
    forward = Forward(1, ((ProposalId(1, 2, 3), b"x"),))
    async with running(one, two):
        await connected(one, 2)
        await trio.testing.wait_all_tasks_blocked()
        one.peers.outgoing[2].redial(addresses[2])
        assert one.peers.offer(2, [forward])
        await until(lambda: bool(one.events.lost_peers))
    assert one.events.unsent_forwards == [forward]


async def test_small_messages_leave_without_the_task(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """They are on the stream when `offer` returns; a large one waits for the task."""
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
    async with running(one, two):
        await connected(one, 2)
        await trio.testing.wait_all_tasks_blocked()
        outgoing = one.peers.outgoing[2]
        assert one.peers.offer(2, [append(1, 100)])
        assert not outgoing.outbox.has_items
        small_bytes = outgoing.sent_bytes
        assert one.peers.offer(2, [append(2, 200_000)])
        assert outgoing.sent_bytes == small_bytes
        await until(lambda: outgoing.sent_bytes > 200_000)
