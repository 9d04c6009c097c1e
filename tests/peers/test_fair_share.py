"""How much one peer brings into a turn of the driver."""

import trio
import trio.testing

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.fair_share import MAX_A_TURN, RATE, FairShare, cost_of, pieces_of
from raftkv_trio.peers.wire import Forward, ForwardChange, Members, MembersQuery, PeerFrame, Refused
from raftkv_trio.raft.types import Entry, Message, MessageType
from raftkv_trio.sync import ByteBoundedQueue, Wakeup
from raftkv_trio.world import TrioClock

BEAT = Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=1)


def test_a_frame_is_cut_into_pieces_that_fit() -> None:
    """No message is lost, and none is moved; what is no raft message stays whole."""
    messages = [Message(type=MessageType.APP, to=1, from_=2, index=i) for i in range(2 * MAX_A_TURN + 1)]
    pieces = list(pieces_of(messages))
    assert [cost_of(piece) for piece in pieces] == [MAX_A_TURN, MAX_A_TURN, 1]
    joined: list[Message] = []
    for piece in pieces:
        assert isinstance(piece, list)
        joined += piece
    assert joined == messages
    assert list(pieces_of(MembersQuery())) == [MembersQuery()]


def test_what_a_message_holds_costs_too() -> None:
    """Entries, proposals, ids, members, and changes of them."""
    entries = tuple([Entry(1, i) for i in range(6400)])
    assert cost_of([Message(type=MessageType.APP, to=1, from_=2, entries=entries)]) == 801
    ids = tuple([ProposalId(2, 1, i) for i in range(600)])
    assert cost_of(Forward(1, tuple([(proposal_id, b"") for proposal_id in ids]))) == 76
    assert cost_of(Refused(1, ids, "no")) == 201
    assert cost_of(Members({i: PeerAddress("127.0.0.1", i) for i in range(1, 101)})) == 201
    assert cost_of(ForwardChange(1, ids[0], bytes(1600))) == 101


async def test_who_has_had_its_share_waits_for_the_turn(autojump_clock: trio.testing.MockClock) -> None:
    """However long that takes; after it a peer begins anew. What is too large goes alone."""
    inbox: ByteBoundedQueue[tuple[int, PeerFrame]] = ByteBoundedQueue(Wakeup(), 1000)
    share, passed = FairShare(inbox, TrioClock()), []

    async def bring(*costs: int) -> None:
        for cost in costs:
            await share.take(cost)
            passed.append(cost)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring, MAX_A_TURN - 1, 1, 2, 5 * MAX_A_TURN)
        for count in (2, 3):
            await trio.sleep(10)
            assert len(passed) == count
            inbox.drain()
        await trio.sleep(10)
        assert passed == [MAX_A_TURN - 1, 1, 2, 5 * MAX_A_TURN]


async def test_nobody_brings_more_than_a_rate(autojump_clock: trio.testing.MockClock) -> None:
    """In the long run, whatever the pieces are, and however soon the driver has taken each."""
    inbox: ByteBoundedQueue[tuple[int, PeerFrame]] = ByteBoundedQueue(Wakeup(), 1000)
    for cost in (1, 100, 10 * MAX_A_TURN):
        share, begun_at = FairShare(inbox, TrioClock()), trio.current_time()
        for _ in range(100_000 // cost):
            await share.take(cost)
            inbox.drain()
        assert trio.current_time() - begun_at >= 0.9 * 100_000 / RATE


async def test_what_is_refused_is_paid_for_later(autojump_clock: trio.testing.MockClock) -> None:
    """On the next stream. A small frame costs hardly anything, a huge one no more than a large one."""
    share, begun_at = FairShare(ByteBoundedQueue(Wakeup(), 1000), TrioClock()), trio.current_time()
    for size_bytes in (300_000, 4_000_000):
        share.charge_refused(size_bytes)
        await share.wait_paid()
        assert 0.4 < trio.current_time() - begun_at < 0.6
        begun_at = trio.current_time()
    share.charge_refused(100)
    await share.wait_paid()
    assert trio.current_time() - begun_at < 0.001
