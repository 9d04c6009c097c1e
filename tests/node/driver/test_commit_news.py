"""Appends that tell only a commit index: they wait for something to leave with, and nobody waits for them."""

import pytest
import trio
import trio.testing

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.node.driver.commit_news import EAGER_S, WAIT_S
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.wire import Forward
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.world import ThreadWorker
from tests.node.driver.turns import Turns


class Leader(Turns):
    """Node 1 leads nodes 2 and 3, and both have the whole log."""

    def __init__(self) -> None:
        super().__init__()
        self.term = self.lead()
        self.acknowledge()
        self.parts.driver.tick_due()  # what waited leaves with the heartbeats
        self.run()
        self.transport.sent.clear()

    def acknowledge(self, *peer_ids: int) -> None:
        """These nodes have all entries; without ids both do."""
        for peer_id in peer_ids or (2, 3):
            last = self.parts.raw.last_index
            answer = Message(type=MessageType.APP_RESP, to=1, from_=peer_id, term=self.term, index=last)
            self.receive_from(peer_id, [answer])

    def write(self) -> None:
        """A client of this node writes, and both followers acknowledge."""
        self.parts.proposals.submit(b"x")
        self.run()
        self.acknowledge()

    def appends(self) -> list[tuple[int, int, int]]:
        """What was sent since the last call: to whom, how many entries, and the commit index."""
        return [
            (message.to, len(message.entries), message.commit)
            for message in self.transport.take(MessageType.APP)
        ]


@pytest.fixture
async def leader() -> Leader:
    return Leader()


async def test_it_leaves_with_the_next_entries(leader: Leader) -> None:
    """Of two writes in a row no follower is sent more than two appends, and each learns what is committed."""
    leader.write()
    written = leader.parts.raw.commit
    leader.write()
    assert leader.appends() == [(2, 1, written - 1), (3, 1, written - 1), (2, 1, written), (3, 1, written)]


async def test_it_leaves_with_a_heartbeat(leader: Leader) -> None:
    """The next tick takes it along, before a timer does."""
    leader.write()
    leader.appends()
    leader.parts.driver.tick_due()
    leader.run()
    assert leader.appends() == [(2, 0, leader.parts.raw.commit), (3, 0, leader.parts.raw.commit)]


async def test_it_leaves_alone_after_a_while(autojump_clock: trio.testing.MockClock, leader: Leader) -> None:
    """If nothing else does, a follower hears of the last write by then, once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leader.parts.news.run, ThreadWorker())
        await trio.testing.wait_all_tasks_blocked()
        leader.write()
        leader.appends()
        await trio.sleep(WAIT_S / 2)
        leader.run()
        assert leader.appends() == []
        await trio.sleep(WAIT_S)
        leader.run()
        assert leader.appends() == [(2, 0, leader.parts.raw.commit), (3, 0, leader.parts.raw.commit)]
        await trio.sleep(10 * WAIT_S)
        leader.run()
        assert leader.appends() == []
        nursery.cancel_scope.cancel()


async def test_who_forwards_is_told_at_once(autojump_clock: trio.testing.MockClock, leader: Leader) -> None:
    """A follower's own clients wait until it has applied what they wrote; the other follower can wait."""
    forward = Forward(leader.term, ((ProposalId(2, 7, 1), b"x"),))
    leader.receive_from(2, forward)
    leader.appends()
    leader.acknowledge()
    assert leader.appends() == [(2, 0, leader.parts.raw.commit)]
    await trio.sleep(EAGER_S + 0.1)
    leader.write()
    assert [append for append in leader.appends() if not append[1]] == []


async def test_who_reads_is_told_before_the_answer(leader: Leader) -> None:
    """The reader must know the answer's index to be committed; the round's heartbeat brings that."""
    leader.write()
    leader.transport.sent.clear()
    leader.receive_from(3, [Message(type=MessageType.READ_INDEX, to=1, from_=3, context=bytes(24))])
    to_reader = [message for message in leader.transport.sent if message.to == 3]
    assert [message.type for message in to_reader] == [MessageType.APP, MessageType.HEARTBEAT]
    assert to_reader[0].commit == leader.parts.raw.commit


async def test_a_change_of_the_members_does_not_wait(leader: Leader) -> None:
    """Once it is applied, the core sends nothing to those that it removes, and they should hear of it."""
    address = PeerAddress.parse("http://four:4")
    change = ChangeRequest((MemberChange(Action.ADD, 4, address),))
    leader.parts.proposals.submit(change.encode(), is_change=True)
    leader.run()
    leader.appends()
    leader.acknowledge(2)
    assert leader.appends() == [(2, 0, leader.parts.raw.commit), (3, 0, leader.parts.raw.commit)]


async def test_what_waits_is_dropped_with_the_leadership(leader: Leader) -> None:
    """Who leads no more tells nobody what is committed."""
    leader.write()
    leader.transport.sent.clear()
    leader.receive(Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=leader.term + 1))
    leader.parts.driver.tick_due()
    leader.run()
    assert leader.appends() == []
