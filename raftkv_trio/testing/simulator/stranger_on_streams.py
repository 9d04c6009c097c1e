"""A Byzantine stranger at level 2: it dials members, and says over the real wire what may harm them."""

from collections.abc import Callable
from random import Random

import trio

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.levels import HIGHEST, Levels
from raftkv_trio.peers.connection import CONNECTION_ERRORS, receive_payload
from raftkv_trio.peers.framing import FrameDecoder, FrameKind
from raftkv_trio.peers.handshake import new_nonce, say_hello
from raftkv_trio.peers.handshake_frames import Hello, Introduction, Purpose
from raftkv_trio.peers.proofs import Conversation, key_towards
from raftkv_trio.peers.wire import (
    SnapshotOffer,
    SnapshotPiece,
    encode_peer_frame,
    encode_snapshot_frame,
)
from raftkv_trio.raft.types import ConfState, Message, MessageType, Snapshot
from raftkv_trio.testing.simulator.simulated_member import SimulatedMember
from raftkv_trio.testing.world.stranger import (
    INTERVAL_S,
    STRANGER_ID,
    Overheard,
    draw_frame,
    with_wrong_ids,
)
from raftkv_trio.testing.world.stream_network import StreamNetwork

PATIENCE_S = 5.0


class StrangerOnStreams:
    """A process that dials members and speaks to them until `end`.

    Args:
        victims: the members that run at present.
    """

    def __init__(
        self, network: StreamNetwork, random: Random, victims: Callable[[], list[SimulatedMember]]
    ) -> None:
        self._network = network
        self._random = random
        self._victims = victims
        self._directory_id = random.randbytes(16)
        self._scope = trio.CancelScope()

    def end(self) -> None:
        """Let it say nothing more; its connections are closed."""
        self._scope.cancel()

    async def run(self) -> None:
        """Speak to one member after the other. What they do to the connection does not matter."""
        self._network.join(STRANGER_ID, self)
        with self._scope:
            while True:
                await self._network.sleep(self._random.uniform(*INTERVAL_S))
                victims = self._victims()
                if not victims:
                    continue
                try:
                    with trio.fail_after(PATIENCE_S):
                        await self._meet(self._random.choice(victims))
                except (PeerProtocolError, *CONNECTION_ERRORS):
                    pass  # as it must be
        self._network.leave(STRANGER_ID)

    async def _meet(self, victim: SimulatedMember) -> None:
        random, parts = self._random, victim.parts
        assert parts is not None
        heard = Overheard(parts.raw.term, parts.raw.last_index)
        cluster_id = parts.storage.identity.cluster_id
        async with await self._network.connect(STRANGER_ID, victim.id, _at_once) as stream:
            match random.randrange(10):
                case 0:
                    await stream.send_all(random.randbytes(random.randrange(1, 200)))
                case 1:
                    sender = random.choice((STRANGER_ID, victim.id))
                    await self._introduce(stream, victim.id, 0, Purpose.JOIN, sender)
                case 2:
                    conversation = await self._introduce(stream, victim.id, cluster_id, Purpose.ALIVE)
                    notice = conversation.sealed(FrameKind.NOTICE, ["there are two of you"], None)
                    await conversation.send(notice)
                case 3:
                    await self._introduce(stream, victim.id, cluster_id, Purpose.SNAPSHOT)
                    await self._offer_snapshot(stream, victim.id, heard)
                case _:
                    await self._introduce(stream, victim.id, cluster_id, Purpose.MESSAGES)
                    await self._say(stream, victim.id, heard)

    async def _introduce(
        self,
        stream: trio.abc.Stream,
        victim_id: int,
        cluster_id: int,
        purpose: Purpose,
        sender: int = STRANGER_ID,
    ) -> Conversation:
        hello = Hello(
            cluster_id=cluster_id,
            sender=sender,
            nonce=new_nonce(self._random),
            receiver=victim_id,
            peer_url=f"http://node{STRANGER_ID}:9021",
        )
        conversation = Conversation(stream, None)
        await say_hello(conversation, hello)
        key = key_towards(self._directory_id, victim_id)
        nonce, levels = self._random.getrandbits(62), Levels(HIGHEST)  # no reason to refuse it
        introduction = Introduction(purpose, nonce, key, False, None, levels)
        await conversation.send(conversation.sealed(FrameKind.INTRODUCTION, introduction, key))
        await conversation.receive_sealed(FrameKind.ADMISSION)
        return conversation  # refused or not, it goes on to speak

    async def _say(self, stream: trio.abc.Stream, victim_id: int, heard: Overheard) -> None:
        members = [victim.id for victim in self._victims()]
        for _ in range(self._random.randint(1, 5)):
            frame = draw_frame(self._random, victim_id, heard)
            if members and self._random.random() < 0.1:
                frame = with_wrong_ids(self._random, frame, members)
            await stream.send_all(encode_peer_frame(frame))
        await self._network.sleep(self._random.uniform(*INTERVAL_S))  # so that all of it can be taken

    async def _offer_snapshot(self, stream: trio.abc.Stream, victim_id: int, heard: Overheard) -> None:
        snapshot = Snapshot(heard.last_index + 5, heard.term + 1, ConfState((STRANGER_ID,)))
        message = Message(
            type=MessageType.SNAP, to=victim_id, from_=STRANGER_ID, term=heard.term + 1, snapshot=snapshot
        )
        data = self._random.randbytes(100)
        await stream.send_all(encode_snapshot_frame(SnapshotOffer(message, len(data))))
        await receive_payload(stream, FrameDecoder())
        await stream.send_all(encode_snapshot_frame(SnapshotPiece(data)))
        await receive_payload(stream, FrameDecoder())


async def _at_once() -> None:
    """It is never paused."""
