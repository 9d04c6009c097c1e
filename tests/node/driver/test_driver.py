"""The driver turn by turn: a node without its tasks, whose peers are this test."""

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from raftkv_trio.addresses import parse_cluster
from raftkv_trio.config import NodeConfig
from raftkv_trio.kv import Store
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.peers.outbox import Item
from raftkv_trio.raft.types import Message, MessageType, StateRole
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.world import World


class RecordingTransport:
    """Keeps what the driver sends."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        self.sent += [item for item in items if isinstance(item, Message)]
        return True

    def send_snapshot(self, message: Message) -> bool:
        self.sent.append(message)
        return True

    def take(self, kind: MessageType) -> list[Message]:
        taken = [message for message in self.sent if message.type is kind]
        self.sent.clear()
        return taken


class Turns:
    """Node 1 of three: what it receives, and all the turns that follow from it."""

    def __init__(self) -> None:
        rng = random.Random(1)
        members = parse_cluster("http://one:1,http://two:2,http://three:3")
        config = NodeConfig(node_id=1, members=members, data_dir=Path("/data"), segment_bytes=64 * 1024)
        storage = open_directory(SimulatedDisk(rng), config, rng)
        self.transport = RecordingTransport()
        self.parts = NodeParts(config, Store(), storage, World(random=rng), transport=self.transport)
        self.parts.driver.start()

    def receive(self, *messages: Message) -> None:
        """What node 2 says, in one frame."""
        self.parts.inbox.try_put((2, messages), 0)
        self.run()

    def run(self) -> None:
        writer = self.parts.log_writer
        while self.parts.driver.wakeup.is_set:
            self.parts.driver.wakeup.clear()
            self.parts.driver.turn()
            if write := writer.take():
                writer.write(write)
                writer.written(write)

    def lead(self) -> int:
        """Win an election with node 2; the term."""
        self.parts.raw.campaign()
        self.parts.driver.wakeup.set()
        self.run()
        term = self.parts.raw.term
        for kind in (MessageType.PRE_VOTE_RESP, MessageType.VOTE_RESP):
            term += kind is MessageType.PRE_VOTE_RESP
            self.receive(Message(type=kind, to=1, from_=2, term=term))
        assert self.parts.raw.role is StateRole.LEADER
        return term


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
