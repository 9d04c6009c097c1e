"""Snapshots between members, over real TCP: every wait for the peer has an end."""

import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.peers.connection import receive_payload
from raftkv_trio.peers.framing import FrameDecoder
from raftkv_trio.peers.handshake_frames import Purpose
from raftkv_trio.peers.snapshot_streams import FRAME_TIMEOUT_S, SnapshotConnection
from raftkv_trio.peers.wire import (
    SnapshotFrame,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotTaken,
    SnapshotWanted,
    decode_snapshot_frame,
    encode_snapshot_frame,
)
from raftkv_trio.raft.types import ConfState, Message, MessageType, Snapshot
from raftkv_trio.storage import OsDisk, SnapshotMeta
from raftkv_trio.storage.disk import DiskFile
from raftkv_trio.tcp_stream import TcpListener, TcpStream
from raftkv_trio.world import UNACKNOWLEDGED_S, TcpNetwork
from tests.peers.handmade import Side, dialled
from tests.peers.members import BareMember, connected, running, until

META = SnapshotMeta(index=10, term=2, conf_state=ConfState(voters=(1, 2)))


class ScriptedPeer:
    """Node 2, as the test wants it: it answers every Hello, and otherwise says what the test tells it to."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.streams: list[trio.SocketStream] = []
        self.main: trio.SocketStream | None = None

    async def snapshot_connection(self) -> "ScriptedConnection":
        """The next connection for a snapshot; one for messages is kept in `main`."""
        while True:
            stream = await self._listener.accept()
            self.streams.append(stream)
            introduction = await Side(stream).answer()
            if introduction.purpose is Purpose.SNAPSHOT:
                return ScriptedConnection(stream)
            self.main = stream


class ScriptedConnection:
    """One end of a snapshot's connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder()

    async def receive(self) -> SnapshotFrame:
        return decode_snapshot_frame(await receive_payload(self.stream, self._decoder))

    async def send(self, frame: SnapshotFrame) -> None:
        await self.stream.send_all(encode_snapshot_frame(frame))


@asynccontextmanager
async def scripted_peer(address: PeerAddress) -> AsyncIterator[ScriptedPeer]:
    (listener,) = await trio.open_tcp_listeners(address.port, host=address.host)
    # So that no more of a snapshot than this is on its way while the peer does not read.
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer = ScriptedPeer(listener)
    async with listener:
        yield peer
    for stream in peer.streams:
        await stream.aclose()


async def admitted_for_snapshot(address: PeerAddress) -> trio.SocketStream:
    """A connection for a snapshot on which node 1 has introduced itself to node 2, and was answered."""
    stream, side = await dialled(address, node_id=1)
    assert (await side.dial(2, purpose=Purpose.SNAPSHOT)).reason is None
    return stream


def with_snapshot(member: BareMember, chunk_bytes: int = 1000) -> BareMember:
    """The member, after it has taken the snapshot `META`."""
    file = member.storage.begin_snapshot(META, b"-")
    file.write([bytes(chunk_bytes)])
    file.finish()
    member.storage.continue_from(META)
    return member


def snapshot_message(member: BareMember, to: int = 2) -> Message:
    snapshot = Snapshot(META.index, META.term, META.conf_state)
    return Message(type=MessageType.SNAP, to=to, from_=member.node_id, term=3, snapshot=snapshot)


async def test_a_snapshot_arrives(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """The receiver's inbox gets the SNAP message once the file is there, and the sender is told."""
    one, two = (
        with_snapshot(BareMember(1, addresses, tmp_path / "1")),
        BareMember(2, addresses, tmp_path / "2"),
    )
    async with running(one, two):
        one.peers.send_snapshot(snapshot_message(one))
        ((sender, received),) = await two.received(1)
        await until(lambda: one.events.sent_snapshots == [(2, True)])
    assert sender == 1
    assert getattr(received, "message", None) == snapshot_message(one)


@pytest.mark.parametrize("answers", ["nothing", "wanted", "wanted, and reads"])
async def test_a_receiver_that_says_nothing_is_given_up(
    tmp_path: Path, addresses: dict[int, PeerAddress], mock_clock: trio.testing.MockClock, answers: str
) -> None:
    """Whatever answer a peer owes, after the deadline the transfer counts as failed, so that it is retried.

    A peer that reads nothing, and wants the same bytes at each connection, is given up at the second one:
    what lies in buffers is no progress.
    """
    mock_clock.rate = 1.0
    size_bytes = 8_000_000 if answers == "wanted" else 1000
    one = with_snapshot(BareMember(1, addresses, tmp_path / "1"), size_bytes)
    async with scripted_peer(addresses[2]) as peer, running(one):
        one.peers.send_snapshot(snapshot_message(one))
        for _ in range(1 if answers == "nothing" else 2):
            connection = await peer.snapshot_connection()
            assert isinstance(await connection.receive(), SnapshotOffer)
            if answers != "nothing":
                await connection.send(SnapshotWanted(0))
            if answers == "wanted, and reads":
                assert isinstance(await connection.receive(), SnapshotPiece)
            assert not one.events.sent_snapshots
            # Until the sender waits for the peer, and for nothing of its own.
            await until(lambda: one.peers.transfer(2) is not None or answers == "nothing")
            await trio.sleep(0.2)
            mock_clock.jump(FRAME_TIMEOUT_S + 1)
        await until(lambda: one.events.sent_snapshots)
    assert one.events.sent_snapshots == [(2, False)]


async def test_a_broken_stream_ends_the_snapshot_too(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """When the stream of messages to a peer ends, a transfer to it does not wait for its own deadline."""
    one = with_snapshot(BareMember(1, addresses, tmp_path / "1"))
    async with scripted_peer(addresses[2]) as peer, running(one):
        one.peers.send_snapshot(snapshot_message(one))
        connection = await peer.snapshot_connection()
        assert isinstance(await connection.receive(), SnapshotOffer)
        await until(lambda: peer.main is not None and one.peers.outgoing[2].outbox.is_open)
        assert not one.events.sent_snapshots
        assert peer.main is not None
        await trio.aclose_forcefully(peer.main)
        await until(lambda: one.events.sent_snapshots)
    assert one.events.sent_snapshots == [(2, False)]


async def test_a_snapshot_goes_on_where_it_was_when_the_stream_is_back(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """The stream's end is the end of one connection, not of the transfer: the core hears of no failure."""
    one = with_snapshot(BareMember(1, addresses, tmp_path / "1"))
    async with scripted_peer(addresses[2]) as peer, running(one):
        one.peers.send_snapshot(snapshot_message(one))
        connection = await peer.snapshot_connection()
        first_offer = await connection.receive()
        assert isinstance(first_offer, SnapshotOffer)
        await connection.send(SnapshotWanted(0))
        await until(lambda: one.peers.transfer(2) is not None and one.peers.outgoing[2].outbox.is_open)
        assert peer.main is not None
        await trio.aclose_forcefully(peer.main)
        with trio.fail_after(20):
            connection = await peer.snapshot_connection()
        assert await connection.receive() == first_offer
        assert not one.events.sent_snapshots
        await connection.send(SnapshotWanted(first_offer.size_bytes))
        await connection.send(SnapshotTaken(first_offer.size_bytes))
        await until(lambda: one.events.sent_snapshots)
    assert one.events.sent_snapshots == [(2, True)]


async def test_a_sender_that_says_nothing_is_given_up(
    tmp_path: Path, addresses: dict[int, PeerAddress], mock_clock: trio.testing.MockClock
) -> None:
    """A receiver keeps no transfer for ever in which nothing comes."""
    mock_clock.rate = 1.0
    two = BareMember(2, addresses, tmp_path / "2")
    offer = Message(
        type=MessageType.SNAP,
        to=2,
        from_=1,
        term=3,
        snapshot=Snapshot(META.index, META.term, META.conf_state),
    )
    async with running(two), await admitted_for_snapshot(addresses[2]) as stream:
        await stream.send_all(encode_snapshot_frame(SnapshotOffer(offer, 10_000)))
        await until(lambda: two.peers.transfer(1) is not None)
        mock_clock.jump(FRAME_TIMEOUT_S + 1)
        await until(lambda: two.peers.transfer(1) is None)


class HeldDisk(OsDisk):
    """Syncs a snapshot that is being received only when the test says so."""

    def __init__(self) -> None:
        self.is_syncing, self.may_sync = threading.Event(), threading.Event()

    def open(self, path: Path, *, create: bool = False, read_only: bool = False) -> DiskFile:
        file = super().open(path, create=create, read_only=read_only)
        return HeldFile(file, self) if path.suffix == ".part" else file


class HeldFile:
    def __init__(self, file: DiskFile, disk: HeldDisk) -> None:
        self._file, self._disk = file, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def datasync(self) -> None:
        self._disk.is_syncing.set()
        self._disk.may_sync.wait(60)
        self._file.datasync()


async def test_a_snapshot_counts_though_its_sender_has_gone(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Once the file is durable, its message reaches the driver, whatever becomes of the connection."""
    one = with_snapshot(BareMember(1, addresses, tmp_path / "1"))
    disk = HeldDisk()
    two = BareMember(2, addresses, tmp_path / "2", disk=disk)
    file = one.storage.open_snapshot(META.id)
    data = file.read_at(0, file.size())
    file.close()
    message = snapshot_message(one)
    one.storage.close(clean=True)
    async with running(two):
        async with await admitted_for_snapshot(addresses[2]) as stream:
            await stream.send_all(
                encode_snapshot_frame(SnapshotOffer(message, len(data)))
                + encode_snapshot_frame(SnapshotPiece(data))
            )
            await trio.to_thread.run_sync(disk.is_syncing.wait)
            # Closing resets the connection, so that the receiver can send nothing more.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        disk.may_sync.set()
        ((sender, received),) = await two.received(1)
    assert sender == 1
    assert getattr(received, "message", None) == message


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_both_ends_of_a_connection_notice_a_dead_host() -> None:
    """TCP probes an idle connection, and gives up one whose data is not acknowledged."""
    network = TcpNetwork()
    listener = await network.listen("127.0.0.1", 0)
    assert isinstance(listener, TcpListener)
    port = listener.socket.getsockname()[1]
    async with listener, await network.connect("127.0.0.1", port) as near, await listener.accept() as far:
        for stream in (near, far):
            assert isinstance(stream, TcpStream)
            assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            tcp = [
                stream.socket.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_USER_TIMEOUT)
            ]
            assert all(tcp)
            assert tcp[0] + tcp[1] < UNACKNOWLEDGED_S
            assert tcp[2] == 1000 * UNACKNOWLEDGED_S


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_tcp_waits_for_a_snapshot_s_receiver_as_long_as_its_sender_does() -> None:
    """A receiver that restores or syncs reads nothing meanwhile: its connection does not end by that."""
    network = TcpNetwork()
    listener = await network.listen("127.0.0.1", 0)
    assert isinstance(listener, TcpListener)
    port = listener.socket.getsockname()[1]
    async with listener, await network.connect("127.0.0.1", port) as near, await listener.accept() as far:
        for stream in (near, far):
            assert isinstance(stream, TcpStream)
            SnapshotConnection(stream)
            timeout_ms = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert timeout_ms == 1000 * FRAME_TIMEOUT_S


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPCNT"), reason="there is no such option")
async def test_a_system_without_some_of_the_options_is_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python may know an option that the kernel does not know; connections do without it."""
    monkeypatch.setattr(socket, "TCP_KEEPIDLE", 9999)
    network = TcpNetwork()
    listener = await network.listen("127.0.0.1", 0)
    assert isinstance(listener, TcpListener)
    port = listener.socket.getsockname()[1]
    async with listener, await network.connect("127.0.0.1", port) as near:
        assert isinstance(near, TcpStream)
        assert near.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3


class FullDisk(OsDisk):
    """Knows that it has no room, until the test makes some."""

    def __init__(self) -> None:
        self.has_room = False
        self.asked_at: list[float] = []

    def room(self, path: Path) -> int:
        self.asked_at.append(time.monotonic())
        return super().room(path) if self.has_room else 0


async def test_a_snapshot_that_was_replaced_is_no_failed_attempt(
    tmp_path: Path, addresses: dict[int, PeerAddress], caplog: pytest.LogCaptureFixture
) -> None:
    """Its file was purged before it was opened: the next one, which the core sends soon, is not held up."""
    one, two = (
        with_snapshot(BareMember(1, addresses, tmp_path / "1")),
        BareMember(2, addresses, tmp_path / "2"),
    )
    gone = snapshot_message(one)
    gone.snapshot = Snapshot(META.index - 1, META.term, META.conf_state)
    async with running(one, two):
        one.peers.send_snapshot(gone)
        await until(partial(has_ended, one, 1))
        one.peers.send_snapshot(snapshot_message(one))
        await until(partial(has_ended, one, 2))
    assert one.events.sent_snapshots == [(2, False), (2, True)]
    assert "failed" not in caplog.text


def has_ended(member: BareMember, number: int) -> bool:
    return len(member.events.sent_snapshots) == number


async def test_a_receiver_without_room_refuses_at_once_and_is_asked_less_and_less_often(
    tmp_path: Path, addresses: dict[int, PeerAddress], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of the snapshot is sent, each end says it in one line, and it arrives when there is room."""
    disk = FullDisk()
    one = with_snapshot(BareMember(1, addresses, tmp_path / "1"))
    two = BareMember(2, addresses, tmp_path / "2", disk=disk)
    async with running(one, two):
        await connected(one, 2)
        number = 0
        while len(disk.asked_at) < 3:
            number += 1
            one.peers.send_snapshot(snapshot_message(one))  # as the core does with each heartbeat
            await until(partial(has_ended, one, number))
            await trio.sleep(0.02)
        assert one.events.sent_snapshots == [(2, False)] * number
        pauses = [after - before for before, after in pairwise(disk.asked_at)]
        assert pauses[0] >= 0.25
        assert pauses[1] >= 0.5
        disk.has_room = True
        while one.events.sent_snapshots[-1] != (2, True):
            number += 1
            one.peers.send_snapshot(snapshot_message(one))
            await until(partial(has_ended, one, number))
            await trio.sleep(0.02)
        await two.received(1)
    lines = [record.getMessage() for record in caplog.records if "snapshot" in record.getMessage()]
    failures = [line for line in lines if "failed" in line]
    assert sorted(failures) == [
        "receiving a snapshot from node 1 failed: No space left on device",
        "sending a snapshot to node 2 failed, and is retried: node 2 refused it: No space left on device",
    ]
