"""The driver turn by turn: a node without its tasks, whose peers are this test."""

import logging
from dataclasses import replace

import pytest
import trio
import trio.testing

from raftkv_trio.raft.types import Entry, Message, MessageType, StateRole
from tests.node.driver.turns import Turns


@pytest.fixture
async def turns() -> Turns:
    return Turns()


async def test_heartbeats_that_gathered_get_one_answer(turns: Turns) -> None:
    """Of a thousand heartbeats in one turn only the newest is answered, which speaks for all."""
    rounds = [number.to_bytes(8, "big") for number in range(1, 1001)]
    turns.receive(
        *(Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=2, context=context) for context in rounds)
    )
    (answer,) = turns.transport.take(MessageType.HEARTBEAT_RESP)
    assert answer.context == rounds[-1]


async def test_answers_that_gathered_get_one_append(turns: Turns) -> None:
    """A follower that answers a thousand heartbeats at once is sent what it lacks once."""
    term = turns.lead()
    turns.parts.driver.tick_due()  # what was sent is not repeated before that
    turns.run()
    turns.transport.take(MessageType.APP)
    turns.receive(*[Message(type=MessageType.HEARTBEAT_RESP, to=1, from_=2, term=term)] * 1000)
    assert len(turns.transport.take(MessageType.APP)) == 1


async def test_a_log_that_is_asked_for_again_and_again_is_streamed_once(turns: Turns) -> None:
    """In one turn only the last refusal of an append counts, and the last of the highest answers."""
    term = turns.lead()
    (first,) = [message.index + 1 for message in turns.transport.take(MessageType.APP) if message.to == 2]
    for number in range(100):
        turns.parts.proposals.submit(b"%d" % number)
    turns.parts.driver.wakeup.set()
    turns.run()
    turns.transport.sent.clear()
    taken = Message(type=MessageType.APP_RESP, to=1, from_=2, term=term, index=first)
    lower = replace(taken, index=first - 1)
    refused = replace(taken, index=first + 1, reject=True, reject_hint=first)
    turns.receive(*[taken, refused, lower] * 100)
    sent = turns.transport.take(MessageType.APP)
    assert len(sent) <= 3
    assert max(message.entries[-1].index for message in sent if message.entries) == first + 100


async def test_a_refusal_to_lead_is_logged_once_a_minute(
    autojump_clock: trio.testing.MockClock, turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    """A leader that should not lead either asks again and again, for as long as both disks are full."""
    caplog.set_level(logging.INFO)
    term = turns.lead()
    turns.receive(Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=term + 1))
    turns.parts.proposals.disk_shortage = "the disk has no room"
    logged = []
    for _ in range(40):
        turns.receive(Message(type=MessageType.TIMEOUT_NOW, to=1, from_=2, term=term + 1))
        logged.append(sum("wants this node to lead" in record.getMessage() for record in caplog.records))
        await trio.sleep(3)
    assert (logged[0], logged[19], logged[-1]) == (1, 1, 2)
    assert turns.parts.raw.role is StateRole.FOLLOWER


async def test_what_is_applied_wakes_the_driver_if_something_waits(turns: Turns) -> None:
    """Of an applied batch the driver hears in its next turn, or at once if there is more to apply."""
    term = turns.lead()

    def acknowledge() -> None:
        last = turns.parts.raw.last_index
        turns.receive(Message(type=MessageType.APP_RESP, to=1, from_=2, term=term, index=last))

    def apply() -> None:
        turns.parts.applier._commits.receive_nowait()
        turns.parts._completions.applied()

    acknowledge()  # the applier has the first entry of the term now
    apply()
    assert not turns.parts.driver.wakeup.is_set
    for command in (b"one", b"two"):  # the applier gets the first, and the second one waits for it
        turns.parts.proposals.submit(command)
        turns.run()
        acknowledge()
    apply()
    assert turns.parts.driver.wakeup.is_set


def appends_of_node_2(turns: Turns, count: int) -> list[Message]:
    """Appends of one entry each, of a later term."""
    last, log_term = turns.parts.raw.last_index, turns.parts.raw.term
    term = log_term + 1
    return [
        Message(
            type=MessageType.APP,
            to=1,
            from_=2,
            term=term,
            index=index,
            log_term=log_term if index == last else term,
            entries=(Entry(term, index + 1),),
        )
        for index in range(last, last + count)
    ]


async def test_acknowledgements_leave_together(turns: Turns) -> None:
    """Of all appends that one turn steps, and one write makes durable, the leader hears in one frame."""
    turns.receive(*appends_of_node_2(turns, 8))
    assert len(turns.transport.take(MessageType.APP_RESP)) == 8
    assert turns.transport.offers == 1


async def test_a_change_of_an_earlier_leader_does_not_wait_for_a_tick(turns: Turns) -> None:
    """A new leader appends no change before all that it has inherited is applied; it hears that at once."""
    turns.receive(*appends_of_node_2(turns, 1))
    term = turns.lead()
    last = turns.parts.raw.last_index
    turns.receive(Message(type=MessageType.APP_RESP, to=1, from_=2, term=term, index=last))
    assert turns.parts.raw.is_changing
    turns.parts.applier._commits.receive_nowait()
    turns.parts._completions.applied()
    assert turns.parts.driver.wakeup.is_set
