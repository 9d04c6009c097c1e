"""The peer port among strangers: whatever they send, or if nothing, the members hear each other."""

import logging
import random
import struct
from collections import deque
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import cbor2
import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.peers.entrance import MAX_HANDSHAKES
from raftkv_trio.peers.framing import encode_frame
from raftkv_trio.peers.handshake_frames import Hello, encode_hello
from raftkv_trio.peers.incoming import REJECTION_INTERVAL_S
from raftkv_trio.peers.proofs import MAX_HANDSHAKE_BYTES
from raftkv_trio.peers.wire import Forward, Refused, encode_forward, encode_messages, encode_refused
from raftkv_trio.raft.types import Entry, Message, MessageType
from tests.peers.handmade import CLUSTER_ID
from tests.peers.members import BareMember, admitted, connected, running

HELLO = Hello(cluster_id=CLUSTER_ID, sender=2, nonce=b"n" * 16, receiver=1)
STRANGERS = 20


def frame_of(payload: bytes) -> bytes:
    """A frame whose length and CRC are right, whatever is in it."""
    return struct.pack(">II", len(payload), crc32(payload)) + payload


def random_item(rng: random.Random, depth: int = 0) -> object:
    if depth < 3 and rng.random() < 0.4:
        return [random_item(rng, depth + 1) for _ in range(rng.randrange(8))]
    return rng.choice(
        [
            rng.getrandbits(rng.choice([1, 8, 64, 80])) * rng.choice([1, -1]),
            rng.randbytes(rng.randrange(40)),
            "text",
            None,
            True,
            float("nan"),
            {"a": 1},
            cbor2.CBORTag(rng.choice([0, 1, 4, 5, 28, 30, 35, 36, 37, 258, 260, 9999]), "?"),
        ]
    )


def first_bytes(rng: random.Random) -> bytes:
    """What a stranger may begin with; none of it is a handshake that fits."""
    hello = encode_hello(HELLO)
    match rng.randrange(9):
        case 0:
            return rng.randbytes(rng.randrange(1, 200))
        case 1:
            return hello[: rng.randrange(1, len(hello))]
        case 2:
            return struct.pack(">II", rng.randrange(MAX_HANDSHAKE_BYTES + 1, 2**32), 0) + rng.randbytes(20)
        case 3:
            return frame_of(b"\x81" * rng.randrange(9, MAX_HANDSHAKE_BYTES) + b"\x00")
        case 4:
            return encode_hello(replace(HELLO, versions=(4, rng.randrange(4, 2**32))))
        case 5:
            return encode_hello(replace(HELLO, cluster_id=CLUSTER_ID + 1 + rng.getrandbits(32)))
        case 6:
            return encode_hello(replace(HELLO, receiver=rng.choice([0, 2, 2**63 - 1])))
        case 7:
            position = rng.randrange(8, len(hello))
            payload = bytearray(hello[8:])
            payload[position - 8] ^= 1 << rng.randrange(8)
            return frame_of(bytes(payload))
        case _:
            return encode_frame([random_item(rng) for _ in range(rng.choice([1, 5, 6, 13]))])


async def abuse(address: PeerAddress, data: bytes) -> None:
    """Send it, say no more, and be cut off."""
    stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass  # they did not even read it


@pytest.mark.usefixtures("unpaced")
async def test_ten_thousand_first_frames_of_strangers(
    tmp_path: Path, addresses: dict[int, PeerAddress], caplog: pytest.LogCaptureFixture
) -> None:
    """Each is cut off, with a reason in the log at most once a second, and the members' messages arrive."""
    rng = random.Random(5)
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
    attacks = deque(first_bytes(rng) for _ in range(10_000))

    async def stranger() -> None:
        while attacks:
            await abuse(addresses[1], attacks.popleft())

    caplog.set_level(logging.WARNING, "raftkv_trio.peers.incoming")
    async with running(one, two):
        await connected(two, 1)
        began = trio.current_time()
        async with trio.open_nursery() as strangers:
            for _ in range(STRANGERS):
                strangers.start_soon(stranger)
            for commit in range(100):
                assert two.peers.offer(1, [two.heartbeat(1, commit)])
                assert await one.received(1)
        seconds = trio.current_time() - began
        assert one.peers.incoming.handshakes_under_way == 0
        assert two.peers.outgoing[1].outbox.is_open
    said = [record for record in caplog.records if "is closed" in record.getMessage()]
    assert 0 < len(said) <= seconds / REJECTION_INTERVAL_S + 2


async def test_thousands_of_silent_connections(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """No more than a bound of them is held, and a member of another host is let in meanwhile.

    One of the same host may have to give way to them, and comes again.
    """
    one = BareMember(1, addresses, tmp_path / "1")
    silent: deque[trio.SocketStream] = deque()
    async with running(one):
        for number in range(400):
            silent.append(await trio.open_tcp_stream("127.0.0.1", addresses[1].port))
            if len(silent) > 2 * MAX_HANDSHAKES:
                assert not await silent[0].receive_some()  # it was closed for those that came later
                await silent.popleft().aclose()
            assert one.peers.incoming.handshakes_under_way <= MAX_HANDSHAKES + 1
            if number % 130 == 129:
                async with await admitted(addresses[1], local_host="127.0.0.2") as member:
                    await member.send_all(encode_messages([Message(type=MessageType.BEAT, to=1, from_=2)]))
                    assert not await member.receive_some()
        for stream in silent:
            await stream.aclose()


def frames_of_a_member(rng: random.Random) -> bytes:
    proposal_id = ProposalId(2, rng.getrandbits(60), 1)
    data = encode_proposal(proposal_id, rng.randbytes(30))
    entries = tuple(Entry(1, index, data=data) for index in range(2, 5))
    message = Message(type=MessageType.APP, to=1, from_=2, term=1, index=1, log_term=1, entries=entries)
    return rng.choice(
        [
            encode_messages([message, replace(message, type=MessageType.HEARTBEAT)]),
            encode_forward(Forward(1, ((proposal_id, b"command"),))),
            encode_refused(Refused(1, (proposal_id,), "reason")),
        ]
    )


def damaged(rng: random.Random) -> bytes:
    """A member's frame with something wrong in it, behind a CRC that fits."""
    payload = bytearray(frames_of_a_member(rng)[8:])
    match rng.randrange(3):
        case 0:
            del payload[rng.randrange(len(payload)) :]
        case 1:
            payload[rng.randrange(len(payload))] = rng.randrange(256)
        case _:
            payload = bytearray(cbor2.dumps([rng.randrange(7), random_item(rng)]))
    return frame_of(bytes(payload))


async def test_damaged_frames_of_a_member(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """Behind the handshake, too, a frame is taken or ends its connection; nothing else happens."""
    rng = random.Random(6)
    one = BareMember(1, addresses, tmp_path / "1")
    taken = 0
    async with running(one):
        for _ in range(1000):
            async with await admitted(addresses[1]) as member:
                await member.send_all(damaged(rng))
                await member.send_eof()
                assert not await member.receive_some()
            taken += len(one.inbox.drain())
    assert taken < 500


async def test_a_frame_too_large_for_a_member(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """A length over the limit ends the connection when its header is seen, before the bytes have come."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one), await admitted(addresses[1]) as member:
        await member.send_all(struct.pack(">II", 2**32 - 1, 0))
        assert not await member.receive_some()
