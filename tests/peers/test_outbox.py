"""What leaves first: urgent messages pass megabytes of entries, and neither waits for ever."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.framing import PART_BYTES, FrameDecoder, PartAssembler
from raftkv_trio.peers.outbox import (
    FRAME_BYTES,
    MAX_URGENT_BYTES,
    Item,
    Outbox,
    is_urgent,
    size_of,
    size_of_frame,
)
from raftkv_trio.peers.wire import (
    Forward,
    ForwardChange,
    FramePart,
    PeerFrame,
    Refused,
    decode_peer_frame,
    encode_messages,
)
from raftkv_trio.raft.types import Entry, Message, MessageType
from tests.peers.handmade import Side
from tests.peers.members import BareMember, running, until
from tests.raft.cores import three

HEADER_BYTES = 8  # of a frame


def beat(commit: int = 0) -> Message:
    return Message(type=MessageType.HEARTBEAT, to=2, from_=1, term=1, commit=commit)


def append(index: int, size: int = 0) -> Message:
    entries = (Entry(1, index + 1, data=bytes(size)),) if size else ()
    return Message(type=MessageType.APP, to=2, from_=1, term=1, log_term=1, index=index, entries=entries)


def forward(size: int, number: int = 0) -> Forward:
    return Forward(1, ((ProposalId(1, 2, number), bytes(size)),))


class Received:
    """What the frames say that a peer got, in order.

    Attributes:
        said: raft messages one by one, and all other frames.
    """

    def __init__(self) -> None:
        self.said: list[object] = []
        self._decoder, self._assembler = FrameDecoder(), PartAssembler()

    def feed(self, data: bytes) -> None:
        self._decoder.feed(data)
        for payload in self._decoder:
            frame: PeerFrame | FramePart = decode_peer_frame(payload)
            if isinstance(frame, FramePart):
                whole = self._assembler.add(frame.data, is_last=frame.is_last)
                if whole is None:
                    continue
                frame = decode_peer_frame(whole)
            self.said += frame if isinstance(frame, list) else [frame]


def opened(*items: Item, max_bytes: int = 1 << 20) -> Outbox:
    outbox = Outbox(max_bytes)
    outbox.open()
    assert outbox.offer(items)
    return outbox


def drained(outbox: Outbox, received: Received) -> None:
    while outbox.has_items:
        received.feed(outbox.next_frame())


async def test_a_heartbeat_passes_entries_that_wait() -> None:
    """It does not wait for megabytes that were queued before it, nor for the rest of a large message."""
    outbox = opened(append(1, 500_000), append(2, 200), append(3, 900_000), max_bytes=1 << 21)
    received = Received()
    received.feed(outbox.next_frame())
    assert outbox.offer([beat(7)])
    frame = outbox.next_frame()
    assert len(frame) < 2 * PART_BYTES
    received.feed(frame)
    assert received.said == [beat(7)]
    drained(outbox, received)
    assert received.said == [beat(7), append(1, 500_000), append(2, 200), append(3, 900_000)]


async def test_entries_do_not_wait_for_ever_behind_heartbeats() -> None:
    """With a heartbeat before every frame, a large message leaves all the same, a part with each frame."""
    outbox, received, frames = opened(append(1, 10 * PART_BYTES)), Received(), 0
    while append(1, 10 * PART_BYTES) not in received.said:
        assert outbox.offer([beat(frames)])
        received.feed(outbox.next_frame())
        frames += 1
    assert frames <= 12


@pytest.mark.parametrize("size", [0, 100, 100_000])
async def test_the_rest_keeps_its_order(size: int) -> None:
    """Appends without entries too: out of order, the follower would refuse them and be probed."""
    change = ForwardChange(1, ProposalId(1, 2, 3), b"request")
    items: list[Item] = [append(1, 100_000), append(2, size), forward(100), change, append(3, size)]
    items += [Refused(1, (ProposalId(2, 2, 3),), "reason"), append(4, 70_000), append(5), forward(size)]
    outbox, received = opened(*items), Received()
    drained(outbox, received)
    assert received.said == items


def test_what_is_urgent() -> None:
    """All raft messages that travel on a stream, except APP."""
    kinds = set(MessageType) - {MessageType.APP, MessageType.PROP, MessageType.SNAP}
    assert {kind for kind in MessageType if is_urgent(Message(type=kind, to=2, from_=1, term=1))} == kinds
    assert not is_urgent(forward(1))


async def test_heartbeats_are_taken_while_entries_fill_the_outbox() -> None:
    """A follower with a slow link must not lose its leader. What waits is bounded all the same."""
    outbox, received = opened(append(1, 900_000)), Received()
    assert not outbox.offer([append(2, 900_000), beat(7)])
    assert outbox.dropped_messages == 1
    drained(outbox, received)
    assert received.said == [beat(7), append(1, 900_000)]
    count = 0
    while outbox.offer([beat()]):
        count += 1
    assert count <= MAX_URGENT_BYTES


async def test_an_append_that_is_repeated_leaves_once() -> None:
    """While the first one waits, or leaves in parts. One that has left may be lost, and is repeated."""
    outbox, received = opened(append(1, 200_000)), Received()
    assert outbox.offer([append(1, 200_000)])
    received.feed(outbox.next_frame())
    assert outbox.offer([append(1, 200_000), beat()])
    drained(outbox, received)
    assert outbox.offer([append(1, 200_000)])
    assert outbox.offer([append(2, 200_000)])
    assert outbox.offer([append(2)])
    assert outbox.offer([append(2)])
    drained(outbox, received)
    first, second = append(1, 200_000), append(2, 200_000)
    assert received.said == [beat(), first, first, second, append(2), append(2)]


async def test_an_append_that_is_repeated_with_more_entries_brings_only_those() -> None:
    """Also behind other items: a leader that slows writers refuses commands of the peer that it probes."""
    entries = [Entry(term, index, data=bytes(100_000)) for term, index in ((1, 2), (1, 3), (2, 4), (3, 5))]

    def probe(count: int, previous: Entry | None = None) -> Message:
        index, log_term = (previous.index, previous.term) if previous else (1, 1)
        rest = tuple(entries[index - 1 : count])
        return Message(
            type=MessageType.APP, to=2, from_=1, term=3, log_term=log_term, index=index, entries=rest
        )

    refused = Refused(3, (ProposalId(2, 2, 3),), "reason")
    outbox, received = opened(probe(1)), Received()
    for count in (1, 3, 2, 3, 4, 4):
        assert outbox.offer([refused])
        assert outbox.offer([probe(count)])
    drained(outbox, received)
    appends = [item for item in received.said if item != refused]
    assert appends == [probe(1), probe(3, entries[0]), probe(4, entries[2])]
    # A probe from an earlier entry, and an append of another term, are not what waits.
    earlier = probe(4)
    later = replace(append(2, 100), term=4)
    outbox = opened(probe(4, entries[0]), later)
    assert outbox.offer([earlier])
    drained(outbox, received)
    assert received.said[-3:] == [probe(4, entries[0]), later, earlier]


async def test_a_probed_member_catches_up_on_a_slow_link() -> None:
    """While reads and writes go on. Each read sends a heartbeat, each answer lets the leader send again."""
    net = three(max_message_bytes=2**20, max_inflight_bytes=2**22)
    leader, follower = net.elect(1), net[2]
    outbox, received = opened(max_bytes=2**23), Received()
    sent_bytes = ticks = seen = 0

    def lost(message: Message) -> bool:
        if message.to == 2:
            outbox.offer([message])
        return message.to == 2

    net.lost = lost
    leader.raw.report_unreachable(2)
    net.propose(1, *[bytes(10_000)] * 60)
    while follower.raw.last_index < leader.raw.last_index:
        ticks += 1
        assert ticks < 30
        leader.raw.tick()
        net.propose(1, bytes(20_000))
        for read in range(20):
            leader.raw.read_index(b"read")
            net.settle()
            if read % 10 == 0 and outbox.has_items:  # about 1 Mbit/s
                frame = outbox.next_frame()
                sent_bytes += len(frame)
                received.feed(frame)
            for message in received.said[seen:]:
                assert isinstance(message, Message)
                follower.raw.step(message)
            seen = len(received.said)
            net.settle()
    assert sent_bytes < 1.1 * sum(len(entry.data) for entry in leader.log)


async def test_a_forward_of_which_a_part_has_left_comes_back() -> None:
    """Without its last part nobody can have read it, so its proposals may be forwarded again."""
    outbox = opened(forward(100_000, 1), forward(100_000, 2))
    outbox.next_frame()
    assert outbox.close() == [forward(100_000, 1), forward(100_000, 2)]
    outbox = opened(forward(100_000, 1), forward(100_000, 2))
    outbox.next_frame()
    outbox.next_frame()
    assert outbox.close() == [forward(100_000, 2)]
    outbox.open()
    outbox.offer([beat()])
    received = Received()
    drained(outbox, received)
    assert received.said == [beat()]


async def test_a_heartbeat_passes_a_full_outbox_on_a_slow_link(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """It arrives behind what is in the kernel's buffers and one part, whatever waits in the outbox."""
    one = BareMember(1, addresses, tmp_path / "1")
    (listener,) = await trio.open_tcp_listeners(addresses[2].port, host="127.0.0.1")
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    async with running(one), listener, await listener.accept() as stream:
        await Side(stream).answer()
        outbox = one.peers.outgoing[2].outbox
        await until(lambda: outbox.is_open)
        index = 1
        while one.peers.offer(2, [append(index, 900_000)]):
            await trio.testing.wait_all_tasks_blocked()
            index += 1
        assert one.peers.offer(2, [beat(7)])
        received, behind_bytes = Received(), 0
        while beat(7) not in received.said:
            data = await stream.receive_some(16 * 1024)
            behind_bytes += len(data)
            received.feed(data)
    assert behind_bytes < 500_000


async def test_a_large_urgent_message_leaves_all_the_same() -> None:
    """It has a frame of its own, and those behind it follow."""
    outbox = Outbox(1 << 20)
    outbox.open()
    large = replace(beat(1), entries=(Entry(1, 1, data=bytes(FRAME_BYTES)),))
    asked = replace(beat(2), context=bytes(FRAME_BYTES))
    items = [large, asked, beat(3)]
    assert outbox.offer(items)
    peer = Received()
    for _ in items:
        assert outbox.has_items
        peer.feed(outbox.next_frame())
    assert peer.said == items


def test_the_context_counts() -> None:
    """The queue's bound is of all that a message holds."""
    assert size_of(replace(beat(), context=bytes(1000))) >= size_of(beat()) + 1000


def test_what_arrives_counts_with_what_it_takes_in_memory() -> None:
    """A frame of many small messages, or of a message with many small entries, is more than its bytes."""
    beats = [beat()] * 1000
    entries = tuple(Entry(1, index, data=b"v") for index in range(1, 1001))
    for messages in beats, [replace(append(0), entries=entries)]:
        payload = encode_messages(messages)[HEADER_BYTES:]
        frame = decode_peer_frame(payload)
        assert not isinstance(frame, FramePart)
        assert size_of_frame(frame) >= 64 * 1000 > len(payload)
    assert size_of_frame(forward(100)) == size_of(forward(100))
