"""Every decoder against bytes that are nearly right: its documented error, and no more items than bytes.

The inputs are valid encodings, changed at random places: so most get past the first checks. A run of a few
hundred is in the plain suite, and one of 100,000 a decoder in `tox -e long`. A failure names seed and input.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cbor2
import pytest

from raftkv_trio import Committed
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import CorruptLog, DecodeError, PeerProtocolError, UpgradeNeeded
from raftkv_trio.kv import (
    ROOT,
    Access,
    Actor,
    AddRole,
    AddUser,
    AuthCommand,
    Compare,
    Delete,
    EnableAuth,
    Get,
    GrantPermission,
    GrantRole,
    InvalidTxn,
    Permission,
    Put,
    Store,
    Txn,
    decode_command,
    encode_txn,
)
from raftkv_trio.local.control import decode_request
from raftkv_trio.node.snapshot_contents import check_contents
from raftkv_trio.payload.entries import check_entries
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.payload.proposal import ProposalId, decode_proposal, encode_proposal
from raftkv_trio.peers.framing import FrameDecoder, PartAssembler
from raftkv_trio.peers.handshake_frames import (
    Hello,
    JoinAnswer,
    Purpose,
    Welcome,
    decode_admission,
    decode_hello,
    decode_introduction,
    decode_join_answer,
    decode_notice,
    decode_proof,
    decode_welcome,
    encode_hello,
    encode_join_answer,
    encode_welcome,
)
from raftkv_trio.peers.wire import (
    Forward,
    ForwardChange,
    FramePart,
    Refused,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotRefused,
    SnapshotTaken,
    SnapshotWanted,
    decode_peer_frame,
    decode_snapshot_frame,
    encode_forward,
    encode_forward_change,
    encode_messages,
    encode_refused,
    encode_snapshot_frame,
)
from raftkv_trio.raft.confchange import conf_change_entry
from raftkv_trio.raft.types import ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot
from raftkv_trio.storage.record import BATCH, LogRecord, decode_record
from raftkv_trio.storage.snapshot_file import NO_SNAPSHOT, PartReader, SnapshotMeta
from tests.storage.batches import snapshot_bytes

ID = ProposalId(2, 4711, 1)
ADDRESS = PeerAddress("127.0.0.1", 2380)
URL = ADDRESS.url
REQUEST = ChangeRequest((MemberChange(Action.ADD, 4, ADDRESS), MemberChange(Action.REMOVE, 1)))
PROPOSAL = encode_proposal(ID, b"command")
CHANGE = conf_change_entry(REQUEST.conf_change(ID))
META = SnapshotMeta(10, 2, ConfState(voters=(1, 2), learners=(3,)))
SNAP = Message(
    type=MessageType.SNAP, to=1, from_=2, term=3, snapshot=Snapshot(META.index, META.term, META.conf_state)
)
APP = Message(
    type=MessageType.APP,
    to=1,
    from_=2,
    term=3,
    log_term=2,
    index=4,
    entries=(Entry(3, 5, data=PROPOSAL), Entry(3, 6), Entry(3, 7, CHANGE.type, CHANGE.data)),
    commit=4,
    context=b"context",
)
TXN = Txn(
    (Compare.absent(b"/key"),),
    (Put(b"/key", b"value", 3), Get(b"/", b"\0", 10)),
    (Delete(b"/key"), Get(b"/key")),
)


def a_store() -> Store:
    store = Store()
    for number in range(20):
        store.run(Txn(success=(Put(b"/%d" % number, b"value"),)))
    return store


def a_store_with_users() -> Store:
    store = a_store()
    for command in USER_COMMANDS:
        store.run_auth_command(command)
    return store


USER_COMMANDS: list[AuthCommand] = [
    AddUser(ROOT, b"record"),
    GrantRole(ROOT, ROOT),
    AddRole("r"),
    GrantPermission("r", Permission(Access.READ, b"/", b"0")),
    GrantPermission("r", Permission(Access.WRITE, b"/", b"1")),
    EnableAuth(),
]
USER = Actor(ROOT, 3)
COMMANDS = [encode_txn(TXN), encode_txn(TXN, USER), *map(encode_txn, USER_COMMANDS)]
USER_CHUNKS = list(a_store_with_users().snapshot())
CHUNKS = list(a_store().snapshot())
ENVELOPE = Envelope.of({1: ADDRESS, 2: ADDRESS, 3: ADDRESS})
SNAPSHOT_FILE = snapshot_bytes(META, tuple(CHUNKS))


class Decoder(NamedTuple):
    """What is fuzzed: a decoder, valid inputs of it, and the errors that it documents."""

    decode: Callable[[bytes], object]
    valid: Sequence[bytes]
    errors: tuple[type[Exception], ...]


def payload_of(frame: bytes) -> bytes:
    return frame[8:]


def decode_stream(data: bytes) -> object:
    """As `Incoming` reads a stream: frames, and parts of frames."""
    decoder, assembler = FrameDecoder(), PartAssembler()
    frames: list[object] = []
    for begin in range(0, len(data), 50):
        decoder.feed(data[begin : begin + 50])
        for payload in decoder:
            frame = decode_peer_frame(payload)
            if isinstance(frame, FramePart) and (whole := assembler.add(frame.data, is_last=frame.is_last)):
                frame = decode_peer_frame(whole)
            frames.append(frame)
    return frames


def read_parts(data: bytes) -> object:
    """The parts of a snapshot's file, in pieces."""
    reader = PartReader(Path("/file"))
    return [part for begin in range(0, len(data), 70) for part in reader.feed(data[begin : begin + 70])]


DECODERS = {
    "stream": Decoder(
        decode_stream,
        [encode_messages([APP, SNAP]) * 2, encode_forward(Forward(3, ((ID, b"x"),)))],
        (PeerProtocolError,),
    ),
    "hello": Decoder(
        decode_hello,
        [payload_of(encode_hello(Hello(cluster_id=7, sender=2, nonce=b"n" * 16, receiver=1, peer_url=URL)))],
        (PeerProtocolError,),
    ),
    "welcome": Decoder(
        decode_welcome,
        [payload_of(encode_welcome(Welcome(version=3, node_id=1, nonce=b"n" * 16, reason="no")))],
        (PeerProtocolError,),
    ),
    "proof": Decoder(decode_proof, [cbor2.dumps([7, True, [2, 1, 0], "http://e:1"])], (PeerProtocolError,)),
    "proof of version 3": Decoder(
        partial(decode_proof, version=3), [cbor2.dumps([7, True])], (PeerProtocolError,)
    ),
    "introduction": Decoder(
        decode_introduction,
        [cbor2.dumps([int(Purpose.MESSAGES), 4711, b"k" * 32, True, "no", [3, 2, 99], None])],
        (PeerProtocolError,),
    ),
    "introduction of version 3": Decoder(
        partial(decode_introduction, version=3),
        [cbor2.dumps([int(Purpose.MESSAGES), 4711, b"k" * 32, True, "no"])],
        (PeerProtocolError,),
    ),
    "admission": Decoder(
        decode_admission,
        [cbor2.dumps([4711, b"k" * 32, None, None, None])],
        (PeerProtocolError,),
    ),
    "join answer": Decoder(
        decode_join_answer,
        [cbor2.dumps(encode_join_answer(JoinAnswer(7, {1: URL, 2: URL}, None)))],
        (PeerProtocolError,),
    ),
    "notice": Decoder(decode_notice, [cbor2.dumps(["notice"])], (PeerProtocolError,)),
    "peer frame": Decoder(
        decode_peer_frame,
        [
            payload_of(encode_messages([APP, APP])),
            payload_of(encode_forward(Forward(3, ((ID, b"one"), (ID, b"two"))))),
            payload_of(encode_forward_change(ForwardChange(3, ID, REQUEST.encode()))),
            payload_of(encode_refused(Refused(3, (ID, ID), "reason", True))),
        ],
        (PeerProtocolError,),
    ),
    "snapshot frame": Decoder(
        decode_snapshot_frame,
        [
            payload_of(encode_snapshot_frame(frame))
            for frame in (
                SnapshotOffer(SNAP, 1000),
                SnapshotWanted(7),
                SnapshotRefused("no"),
                SnapshotPiece(b"piece"),
                SnapshotTaken(1000),
            )
        ],
        (PeerProtocolError,),
    ),
    "proposal": Decoder(decode_proposal, [PROPOSAL], (DecodeError,)),
    "conf change": Decoder(
        lambda data: check_entries([Entry(1, 1, EntryType.CONF_CHANGE_V2, data)]),
        [CHANGE.data],
        (DecodeError,),
    ),
    "change of members": Decoder(
        ChangeRequest.decode,
        [REQUEST.encode(), ChangeRequest((), raises_to=2).encode()],
        (DecodeError,),
    ),
    "envelope": Decoder(
        Envelope.decode,
        [ENVELOPE.encode(), replace(ENVELOPE, level=2, level_since=7).encode(), cbor2.dumps([1, {1: URL}])],
        (CorruptLog, UpgradeNeeded),
    ),
    "command": Decoder(
        decode_command,
        [encode_txn(TXN), encode_txn(TXN, USER), *map(encode_txn, USER_COMMANDS)],
        (InvalidTxn, UpgradeNeeded),
    ),
    "record": Decoder(
        lambda data: decode_record(BATCH, data),
        [LogRecord(HardState(3, 2, 4), APP.entries, NO_SNAPSHOT, b"i").encode()],
        (DecodeError,),
    ),
    "chunks": Decoder(
        lambda data: Store().verify(iter([CHUNKS[0], data, CHUNKS[-1]])),
        CHUNKS[1:2],
        (CorruptLog, UpgradeNeeded),
    ),
    "restored chunks": Decoder(
        lambda data: Store().restore(iter([data, *CHUNKS[1:]])), CHUNKS[:1], (CorruptLog, UpgradeNeeded)
    ),
    "chunk of permissions": Decoder(
        lambda data: Store().verify(iter([*USER_CHUNKS[:2], data, *USER_CHUNKS[3:]])),
        USER_CHUNKS[2:3],
        (CorruptLog, UpgradeNeeded),
    ),
    "chunk of users": Decoder(
        lambda data: Store().restore(iter([*USER_CHUNKS[:3], data, *USER_CHUNKS[4:]])),
        USER_CHUNKS[3:4],
        (CorruptLog, UpgradeNeeded),
    ),
    "snapshot's file": Decoder(read_parts, [SNAPSHOT_FILE], (CorruptLog,)),
    "control socket": Decoder(
        decode_request, [json.dumps(["stop", ["node1", "node2"], "SIGINT"]).encode()], (DecodeError,)
    ),
    "snapshot's content": Decoder(
        lambda data: check_contents(Store(), META, iter([data, *CHUNKS])), [ENVELOPE.encode()], (CorruptLog,)
    ),
}


def changed(rng: random.Random, data: bytes) -> bytes:
    """`data` with something else at a few places: a bit, a byte, an item, a piece of it again, or nothing."""
    buffer = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(buffer) + 1)
        match rng.randrange(7):
            case 0 if at < len(buffer):
                buffer[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(buffer):
                buffer[at] = rng.randrange(256)
            case 2:
                del buffer[at : at + rng.randrange(1, 9)]
            case 3:
                begin = rng.randrange(len(buffer) + 1)
                buffer[at:at] = buffer[begin : begin + rng.randrange(1, 40)]
            case 4:
                buffer[at:at] = rng.choice(TELLING)
            case 5 if at < len(buffer):
                buffer[at : at + 1] = rng.choice(TELLING)
            case _:
                buffer[at:at] = rng.randbytes(rng.randrange(1, 5))
    return bytes(buffer)


#: Items that are easily wrong: large lengths and numbers, tags, lists and maps of wrong sizes, other types.
TELLING = [
    b"\x9b" + b"\xff" * 8,
    b"\xbb" + b"\xff" * 8,
    b"\x5b" + b"\xff" * 8,
    b"\x7b\x00\x00\x00\x7f" + b"\xff" * 4,
    b"\x1b" + b"\xff" * 8,
    b"\x3b" + b"\xff" * 8,
    b"\x80",
    b"\xa0",
    b"\xa1\x00\x00",
    b"\xa1\x81\x00\x00",
    b"\x81" * 9,
    b"\x9f\xff",
    b"\xc2\x49" + b"\xff" * 9,
    b"\xd8\x1c\x81\xd8\x1d\x00",
    b"\xd9\x01\x02\x80",
    b"\xf6",
    b"\xf5",
    b"\xf7",
    b"\xfb" + b"\x7f\xf8" + b"\x00" * 6,
    b"\xe0",
    b"\x40",
    b"\x62\xff\xfe",
    b"\x00",
]


def size_of(value: object) -> int:
    """How many objects a decoded value is made of, at any depth."""
    if isinstance(value, list | tuple | set | frozenset):
        return 1 + sum(map(size_of, value))
    if isinstance(value, dict):
        return 1 + sum(size_of(key) + size_of(item) for key, item in value.items())
    fields: Any = getattr(value, "__dataclass_fields__", ())
    return 1 + sum(size_of(getattr(value, name)) for name in fields)


def fuzz(name: str, count: int) -> None:
    decode, valid, errors = DECODERS[name]
    rng = random.Random(name)
    refused = 0
    for data in valid:
        decode(data)  # or nothing below would show anything
    for number in range(count):
        data = changed(rng, rng.choice(valid))
        try:
            value = decode(data)
        except errors:
            refused += 1
        except Exception as error:
            raise AssertionError(f"input {number} of {name}: {data.hex()}") from error
        else:
            # Some fields have a default, and no bytes.
            assert size_of(value) <= 2 * len(data) + 40, data.hex()
    assert refused


@pytest.mark.parametrize("name", DECODERS)
def test_some_hundred_inputs(name: str) -> None:
    """Only the documented errors come out, and what is decoded is no larger than the input."""
    fuzz(name, 300)


@pytest.mark.long
@pytest.mark.parametrize("name", DECODERS)
def test_a_hundred_thousand_inputs(name: str) -> None:
    """The same, long enough that two changes meet."""
    fuzz(name, 100_000)


def test_every_command_has_a_result() -> None:
    """Bytes that are no txn are rejected, and a newer version's are not; nothing else is raised."""
    rng, store = random.Random(1), a_store_with_users()
    for number in range(600):
        command = changed(rng, encode_txn(TXN, USER if number % 2 else None))
        try:
            (result,) = store.apply([Committed(term=1, index=number, command=command)])
        except UpgradeNeeded:
            continue
        assert result is not None
