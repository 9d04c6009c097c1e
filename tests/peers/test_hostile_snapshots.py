"""Snapshots of a hostile member: verified as a state before they replace anything."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.handshake_frames import Purpose
from raftkv_trio.peers.wire import (
    SnapshotFrame,
    SnapshotOffer,
    SnapshotPiece,
    SnapshotRefused,
    SnapshotWanted,
    decode_snapshot_frame,
    encode_snapshot_frame,
)
from raftkv_trio.raft.types import ConfState, MessageType, Snapshot
from raftkv_trio.storage import SnapshotMeta
from raftkv_trio.storage.snapshot_file import SnapshotFile
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.peers.hostile import GARBAGE, HostilePeer, besieged

pytestmark = pytest.mark.usefixtures("security")

VOTERS = ConfState(voters=(1, 2, 3))


def file_of(meta: SnapshotMeta, envelope: bytes, chunks: Sequence[bytes]) -> bytes:
    disk = SimulatedDisk(random.Random(1))
    disk.make_directory(Path("/snap"))
    file = SnapshotFile(disk, Path("/snap"), meta, envelope)
    file.write(chunks)
    path = file.finish()
    return disk.files(Path("/snap"))[path]


async def offer(peer: HostilePeer, term: int, meta: SnapshotMeta, data: bytes) -> SnapshotFrame:
    """Send a whole snapshot; returns the last answer, and raises if the node ends the connection."""
    snapshot = Snapshot(meta.index, meta.term, meta.conf_state)
    message = peer.message(MessageType.SNAP, term=term, snapshot=snapshot)
    async with peer.speaking(purpose=Purpose.SNAPSHOT) as stream:
        await stream.send(encode_snapshot_frame(SnapshotOffer(message, len(data))))
        answer = decode_snapshot_frame(await stream.receive())
        if not isinstance(answer, SnapshotWanted):
            return answer
        await stream.send(encode_snapshot_frame(SnapshotPiece(data)))
        return decode_snapshot_frame(await stream.receive())


def received_parts(directory: Path) -> list[Path]:
    return list(directory.glob("snap/*.part"))


@pytest.mark.parametrize("what", ["no envelope", "an envelope without members", "no state"])
async def test_a_snapshot_of_garbage_replaces_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Its file is whole, and is the one that was offered, by a member that claims to lead a later term."""
    async with besieged(tmp_path) as siege:
        terms = siege.terms()
        target = await siege.follower()
        peer = siege.member(to=target.config.node_id)
        status = target.running.status()
        meta = SnapshotMeta(status.commit_index + 1000, status.term, VOTERS)
        envelope, chunks = Envelope.of(siege.addresses).encode(), [b"before"]
        if what == "no envelope":
            envelope = b"?"
        elif what == "an envelope without members":
            envelope = Envelope.of({}).encode()
        else:
            chunks = [b"before", GARBAGE]
        with pytest.raises((PeerProtocolError, trio.BrokenResourceError)):
            await offer(peer, status.term + 1, meta, file_of(meta, envelope, chunks))
        await siege.until(lambda: "content cannot be restored" in caplog.text)
        await siege.check_unharmed(terms=terms)
        assert not received_parts(target.config.data_dir)
        await siege.check_starts_again()


async def test_a_member_that_does_not_lead_offers_no_snapshot(tmp_path: Path) -> None:
    """Of the node's own term and of an earlier one it is refused, before any file is made."""
    async with besieged(tmp_path) as siege:
        terms = siege.terms()
        target = await siege.follower()
        peer = siege.member(to=target.config.node_id)
        status = target.running.status()
        meta = SnapshotMeta(status.commit_index + 1000, status.term, VOTERS)
        data = file_of(meta, Envelope.of(siege.addresses).encode(), [b"of the hostile member"])
        for term in (status.term, status.term - 1):
            answer = await offer(peer, term, meta, data)
            assert answer == SnapshotRefused(f"node {peer.node_id} does not lead")
        await siege.check_unharmed(terms=terms)
        assert not received_parts(target.config.data_dir)
