"""Attacks that load a node for as long as they run, each in a process of its own.

    python -m tests.peers.attackers ATTACK HOST:PORT NODE CLUSTER_ID MEMBER CLIENT_PORT TERM [FILE...]

Each says a line when it begins, and repeats itself as fast as the node lets it. The files
are for TLS, as `files_of` has them.
"""

import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import PeerTls
from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.node.reads import CONTEXT_BYTES
from raftkv_trio.payload.cbor import MAX_ITEMS, MAX_MEMBERS
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.framing import MAX_FRAME_BYTES, FrameKind, encode_frame
from raftkv_trio.peers.handshake_frames import Purpose
from raftkv_trio.peers.wire import (
    MAX_MESSAGES,
    Forward,
    ForwardChange,
    Members,
    Refused,
    SnapshotOffer,
    encode_forward,
    encode_forward_change,
    encode_members,
    encode_messages,
    encode_refused,
    encode_snapshot_frame,
)
from raftkv_trio.raft.types import ConfState, MessageType, Snapshot
from tests.peers.hostile import HostilePeer
from tests.test_strict_cbor import colliding, empty_lists

#: Connections at a time of those attacks that need many.
CONNECTIONS = 20
HALF_OPEN = 200
CLIENTS = 20
SILENCE_S = 1000.0


class Attackers:
    """A stranger, and a member, against one node.

    Args:
        client_port: where the node serves clients.
        term: in which the node is.
    """

    def __init__(self, stranger: HostilePeer, member: HostilePeer, client_port: int, term: int) -> None:
        self.stranger, self.member = stranger, member
        self._client_port = client_port
        self._term = term

    # ------------------------------------------------------------ strangers

    async def hellos(self) -> None:
        """Handshakes, each of which is refused."""
        async with self.stranger.speaking():
            pass

    async def half_open(self) -> None:
        """A connection on which nothing is said, until the node closes it."""
        async with await self.stranger.connect() as connection:
            with trio.move_on_after(SILENCE_S):
                await connection.receive_some()

    # ------------------------------------------------------------ a member

    async def _flood(self, frame: bytes) -> None:
        """Say this without an end."""
        async with self.member.speaking() as stream:
            while True:
                await stream.connection.send_all(frame)

    async def terms(self) -> None:
        """Frames of as many messages as fit, each of which is refused."""
        message = self.member.message(MessageType.HEARTBEAT_RESP, term=2**62)
        await self._flood(encode_messages([message] * MAX_MESSAGES))

    async def heartbeats(self) -> None:
        """Frames of messages that say nothing new, each of which is taken."""
        message = self.member.message(MessageType.HEARTBEAT_RESP, term=self._term)
        await self._flood(encode_messages([message] * MAX_MESSAGES))

    async def contexts(self) -> None:
        """Reads whose contexts fill a frame."""
        message = self.member.message(MessageType.READ_INDEX, context=bytes(MAX_FRAME_BYTES - 100))
        await self._flood(encode_messages([message]))

    async def reads(self) -> None:
        """Reads that a leader has to answer."""
        messages = [
            self.member.message(MessageType.READ_INDEX, context=number.to_bytes(CONTEXT_BYTES, "big"))
            for number in range(MAX_MESSAGES)
        ]
        await self._flood(encode_messages(messages))

    async def commands(self) -> None:
        """Commands that are too large."""
        proposals = ((ProposalId(self.member.node_id, 1, 1), bytes(MAX_FRAME_BYTES - 100)),)
        await self._flood(encode_forward(Forward(self._term, proposals)))

    async def refusals(self) -> None:
        """Refusals of proposals that nobody has forwarded."""
        ids = tuple([ProposalId(1, 1, number) for number in range(10_000)])
        await self._flood(encode_refused(Refused(self._term, ids, "no")))

    async def repeats(self) -> None:
        """Answers that make a leader stream its log from the beginning, again and again."""
        taken = self.member.message(MessageType.APP_RESP, term=self._term, index=1)
        refused = replace(taken, index=2, reject=True, reject_hint=1)
        await self._flood(encode_messages([taken, refused] * (MAX_MESSAGES // 2)))

    async def members(self) -> None:
        """As many members as fit, for which nobody has asked."""
        addresses = {i: PeerAddress("127.0.0.1", i) for i in range(1, MAX_MEMBERS + 1)}
        await self._flood(encode_members(Members(addresses)))

    async def parts(self) -> None:
        """A frame in parts that are as small as they may be."""
        part = encode_frame([FrameKind.PART, [False, b"x"]])
        await self._flood(part * 10_000)

    async def changes(self) -> None:
        """Changes of the members, as large as they may be."""
        proposal_id = ProposalId(self.member.node_id, 1, 1)
        change = MemberChange(Action.UPDATE, 1000, PeerAddress("127.0.0.1", 1))
        request = ChangeRequest((change,) * 250).encode()
        await self._flood(encode_forward_change(ForwardChange(self._term, proposal_id, request)) * 100)

    async def snapshots_on_stream(self) -> None:
        """Messages with a snapshot that names as many members as fit."""
        ids = tuple(range(1, MAX_MEMBERS + 1))
        snapshot = Snapshot(1, 1, ConfState(ids, ids, ids, ids))
        message = self.member.message(MessageType.APP_RESP, term=self._term, snapshot=snapshot)
        await self._flood(encode_messages([message] * 10))

    async def collisions(self) -> None:
        """Keys that collide."""
        await self._once(colliding(195_000))

    async def items(self) -> None:
        """More items than a payload may have."""
        await self._once(empty_lists(300_000))

    async def lists(self) -> None:
        """As many items as a payload may have, none of which is a message."""
        await self._once(b"\x82\x03" + empty_lists(MAX_ITEMS - 10))

    async def nested(self) -> None:
        """About as large as a frame may be, of items that are all no message."""
        count = MAX_ITEMS - 10
        await self._once(b"\x82\x03\x9a" + count.to_bytes(4, "big") + (b"\x53" + bytes(19)) * count)

    async def _once(self, payload: bytes) -> None:
        async with self.member.speaking() as stream:
            await stream.send(struct.pack(">II", len(payload), crc32(payload)) + payload)
            await stream.wait_closed()

    async def snapshots(self) -> None:
        """Offers of one who does not lead."""
        snapshot = Snapshot(1_000_000, self._term, ConfState(voters=(1, 2, 3)))
        message = self.member.message(MessageType.SNAP, term=self._term, snapshot=snapshot)
        async with self.member.speaking(purpose=Purpose.SNAPSHOT) as stream:
            await stream.send(encode_snapshot_frame(SnapshotOffer(message, 10_000_000)))
            await stream.wait_closed()

    # ------------------------------------------------------------ clients, and browsers

    async def _ask(self, request: bytes) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self._client_port) as stream:
            for _ in range(100):
                await stream.send_all(request)
                if not await stream.receive_some(65536):
                    break

    async def pages(self) -> None:
        """Changes for a page of another origin."""
        head = b"PUT /stolen HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
        await self._ask(head + b"Content-Length: 1\r\n\r\nx")

    async def large_values(self) -> None:
        """Values that are larger than allowed."""
        await self._ask(b"PUT /large HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000000\r\n\r\n")

    async def backups(self) -> None:
        """Backups, most of which are too many."""
        async with await trio.open_tcp_stream("127.0.0.1", self._client_port) as stream:
            await stream.send_all(b"GET /-/backup HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while await stream.receive_some(65536):
                pass


#: How many tasks repeat each attack. A member has one stream; all others may come often.
ATTACKS: dict[str, tuple[Callable[[Attackers], Awaitable[None]], int]] = {
    "hellos": (Attackers.hellos, CONNECTIONS),
    "half-open": (Attackers.half_open, HALF_OPEN),
    "terms": (Attackers.terms, 1),
    "heartbeats": (Attackers.heartbeats, 1),
    "contexts": (Attackers.contexts, 1),
    "reads": (Attackers.reads, 1),
    "commands": (Attackers.commands, 1),
    "refusals": (Attackers.refusals, 1),
    "repeats": (Attackers.repeats, 1),
    "members": (Attackers.members, 1),
    "parts": (Attackers.parts, 1),
    "changes": (Attackers.changes, 1),
    "snapshots-on-stream": (Attackers.snapshots_on_stream, 1),
    "collisions": (Attackers.collisions, 1),
    "items": (Attackers.items, 1),
    "lists": (Attackers.lists, 1),
    "nested": (Attackers.nested, 1),
    "snapshots": (Attackers.snapshots, 4),
    "pages": (Attackers.pages, CLIENTS),
    "large-values": (Attackers.large_values, CLIENTS),
    "backups": (Attackers.backups, CLIENTS),
}
#: Those that come to the port of clients.
OF_CLIENTS = {"pages", "large-values", "backups"}


async def run(name: str, attackers: Attackers) -> None:
    """Attack until the process is killed."""
    attack, tasks = ATTACKS[name]

    async def repeat() -> None:
        while True:
            try:
                await attack(attackers)
            except (PeerProtocolError, OSError, trio.BrokenResourceError):
                await trio.sleep(0.001)  # refused

    async with trio.open_nursery() as nursery:
        print(name, flush=True)
        for _ in range(tasks):
            nursery.start_soon(repeat)


def files_of(tls: PeerTls | None) -> list[str]:
    """Certificate, key and CA of a peer, as arguments."""
    return (
        []
        if tls is None
        else [f"{tls.peer_cert_file}", f"{tls.peer_key_file}", f"{tls.peer_trusted_ca_file}"]
    )


def tls_of(files: Sequence[str]) -> PeerTls | None:
    """What `files_of` was made of."""
    if not files:
        return None
    certificate, key, authority = map(Path, files)
    return PeerTls(peer_cert_file=certificate, peer_key_file=key, peer_trusted_ca_file=authority)


def main(
    name: str, target: str, node: str, cluster_id: str, member: str, client_port: str, term: str, *files: str
) -> None:
    """See the head of this module; `files` are those of the stranger, and then those of the member."""
    host, port = target.split(":")
    address = PeerAddress(host, int(port))
    stranger, peer = [
        HostilePeer(
            address, target_id=int(node), cluster_id=int(cluster_id), node_id=node_id, tls=tls_of(own_files)
        )
        for node_id, own_files in ((99, files[:3]), (int(member), files[3:]))
    ]
    trio.run(run, name, Attackers(stranger, peer, int(client_port), int(term)))


if __name__ == "__main__":
    main(*sys.argv[1:])
