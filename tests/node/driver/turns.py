"""A node without its tasks, whose turns are made one by one and whose peers are the test."""

import random
from collections.abc import Sequence
from pathlib import Path

from raftkv_trio.addresses import parse_cluster
from raftkv_trio.config import NodeConfig
from raftkv_trio.kv import Store
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.peers.outbox import Item
from raftkv_trio.peers.wire import PeerFrame
from raftkv_trio.raft.types import Message, MessageType, StateRole
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.world import World


class RecordingTransport:
    """Keeps what the driver sends."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.offers = 0

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        self.offers += 1
        self.sent += [item for item in items if isinstance(item, Message)]
        return True

    def send_snapshot(self, message: Message) -> bool:
        self.sent.append(message)
        return True

    def highest_level(self, peer_id: int) -> int | None:
        return None

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
        self.receive_from(2, messages)

    def receive_from(self, peer_id: int, frame: PeerFrame) -> None:
        """What a node says."""
        self.parts.inbox.try_put((peer_id, frame), 0)
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
