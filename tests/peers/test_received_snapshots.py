"""What becomes of a snapshot that a member receives, over real TCP: kept as long as it is of use."""

import random
from pathlib import Path

import pytest
import trio
import trio.testing

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.peers.incoming import ReceivedSnapshot, SnapshotCheck
from raftkv_trio.peers.wire import (
    SnapshotOffer,
    SnapshotPiece,
    SnapshotRefused,
    SnapshotTaken,
    SnapshotWanted,
)
from raftkv_trio.raft.types import ConfState, Message, MessageType, Snapshot
from raftkv_trio.storage import SnapshotMeta
from raftkv_trio.storage.snapshot_file import SnapshotFile
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.peers.members import BareMember, running, until
from tests.peers.test_snapshot_transfers import (
    FullDisk,
    HeldDisk,
    ScriptedConnection,
    admitted_for_snapshot,
)


def meta_at(index: int) -> SnapshotMeta:
    return SnapshotMeta(index=index, term=2, conf_state=ConfState(voters=(1, 2)))


def file_of(meta: SnapshotMeta, kind: type[SnapshotFile] = SnapshotFile) -> bytes:
    disk = SimulatedDisk(random.Random(1))
    disk.make_directory(Path("/snap"))
    file = kind(disk, Path("/snap"), meta, b"-")
    file.write([bytes(1000)])
    path = file.finish()
    return disk.files(Path("/snap"))[path]


def message_of(meta: SnapshotMeta, term: int = 3) -> Message:
    snapshot = Snapshot(meta.index, meta.term, meta.conf_state)
    return Message(type=MessageType.SNAP, to=2, from_=1, term=term, snapshot=snapshot)


async def offered(address: PeerAddress, message: Message, data: bytes) -> ScriptedConnection:
    """A connection on which node 1 has offered node 2 a snapshot."""
    connection = ScriptedConnection(await admitted_for_snapshot(address))
    await connection.send(SnapshotOffer(message, len(data)))
    return connection


async def sent(address: PeerAddress, message: Message, data: bytes) -> bool:
    """Send a snapshot as a member does; returns whether it was taken."""
    connection = await offered(address, message, data)
    async with connection.stream:
        wanted = await connection.receive()
        assert isinstance(wanted, SnapshotWanted), wanted
        if wanted.offset < len(data):
            await connection.send(SnapshotPiece(data[wanted.offset :]))
        try:
            return isinstance(await connection.receive(), SnapshotTaken)
        except (PeerProtocolError, trio.BrokenResourceError):  # the connection was closed
            return False


async def test_a_newer_connection_does_not_lose_the_snapshot_that_is_being_synced(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """The file that becomes durable counts, though its connection is superseded while the disk works."""
    disk = HeldDisk()
    two = BareMember(2, addresses, tmp_path / "2", disk=disk)
    first, second = (message_of(meta_at(index)) for index in (10, 11))
    async with running(two):
        older = await offered(addresses[2], first, file_of(meta_at(10)))
        await older.send(SnapshotPiece(file_of(meta_at(10))))
        await trio.to_thread.run_sync(disk.is_syncing.wait)
        newer = await offered(addresses[2], second, file_of(meta_at(11)))
        await trio.testing.wait_all_tasks_blocked(0.1)  # until the newer one waits for the disk
        disk.may_sync.set()
        with trio.fail_after(20):
            received = await two.received(1)
            assert isinstance(await newer.receive(), SnapshotWanted)
        await older.stream.aclose()
        await newer.stream.aclose()
    assert received == [(1, ReceivedSnapshot(first))]


async def test_a_snapshot_that_waits_for_its_installation_is_offered_again(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """A new leader's message about it counts; its file stays, even if the disk has become full."""
    disk = FullDisk()
    disk.has_room = True
    two = BareMember(2, addresses, tmp_path / "2", disk=disk)
    meta = meta_at(10)
    data = file_of(meta)
    async with running(two):
        assert await sent(addresses[2], message_of(meta), data)
        disk.has_room = False
        assert await sent(addresses[2], message_of(meta, term=4), data)
        await until(lambda: two.peers.transfer(1) is None)
        assert await two.received(1)
        two.storage.install(None, meta.id, ())
        assert two.storage.snapshot == meta


class Garbled(SnapshotFile):
    """A snapshot whose parts verify, but whose header is of another program."""

    def _framed(self, part: bytes) -> bytes:
        return super()._framed(part if self._position else b"?" * len(part))


@pytest.mark.parametrize("what", ["another snapshot", "another program's"])
async def test_a_file_that_is_not_what_was_offered_leaves_nothing_behind(
    tmp_path: Path, addresses: dict[int, PeerAddress], what: str
) -> None:
    """However often it comes, the right one is taken afterwards."""
    two = BareMember(2, addresses, tmp_path / "2")
    async with running(two):
        for index in (10, 11, 12):
            meta = meta_at(index)
            wrong = file_of(meta_at(5)) if what == "another snapshot" else file_of(meta, Garbled)
            assert not await sent(addresses[2], message_of(meta), wrong)
        assert not list((tmp_path / "2" / "snap").glob("*.part"))
        assert await sent(addresses[2], message_of(meta), file_of(meta))
        assert await two.received(1) == [(1, ReceivedSnapshot(message_of(meta)))]


async def test_an_offer_of_no_leader_leaves_the_running_transfer_alone(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """It is refused with the reason, and the leader's snapshot goes on; the leader's newer offer counts."""
    check = SnapshotCheck(lambda message: message.term >= 3, lambda meta, parts: None)
    two = BareMember(2, addresses, tmp_path / "2", snapshot_check=check)
    data = file_of(meta_at(10))
    async with running(two):
        leader = await offered(addresses[2], message_of(meta_at(10)), data)
        assert isinstance(await leader.receive(), SnapshotWanted)
        await leader.send(SnapshotPiece(data[:100]))
        other = await offered(addresses[2], message_of(meta_at(11), term=2), file_of(meta_at(11)))
        assert await other.receive() == SnapshotRefused("node 1 does not lead")
        silent = ScriptedConnection(await admitted_for_snapshot(addresses[2]))
        await leader.send(SnapshotPiece(data[100:]))
        assert isinstance(await leader.receive(), SnapshotTaken)
        assert await two.received(1) == [(1, ReceivedSnapshot(message_of(meta_at(10))))]
        assert await sent(addresses[2], message_of(meta_at(12)), file_of(meta_at(12)))
        for connection in leader, other, silent:
            await connection.stream.aclose()


@pytest.mark.parametrize("announced_bytes", [200, 900, 100_000])
async def test_a_file_of_another_size_than_announced_is_refused(
    tmp_path: Path, addresses: dict[int, PeerAddress], announced_bytes: int
) -> None:
    """The disk never has more of it than was announced, for which there was room; nothing stays."""
    two = BareMember(2, addresses, tmp_path / "2")
    meta, data = meta_at(10), file_of(meta_at(10))
    async with running(two):
        connection = ScriptedConnection(await admitted_for_snapshot(addresses[2]))
        await connection.send(SnapshotOffer(message_of(meta), announced_bytes))
        assert isinstance(await connection.receive(), SnapshotWanted)
        await connection.send(SnapshotPiece(data))
        with pytest.raises((PeerProtocolError, trio.BrokenResourceError)):
            await connection.receive()
        await connection.stream.aclose()
        assert not list((tmp_path / "2" / "snap").glob("*.part"))
        assert await sent(addresses[2], message_of(meta), data)
