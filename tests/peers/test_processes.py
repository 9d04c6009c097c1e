"""Two processes under one node id, over real TCP: the first one stays while it lives, and both are told."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.peers.framing import FrameKind
from raftkv_trio.peers.handshake_frames import Admission, Purpose
from raftkv_trio.peers.processes import LOG_INTERVAL_S, TOLD_S, SecondProcess
from raftkv_trio.peers.proofs import key_towards
from raftkv_trio.peers.wire import encode_messages
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.testing.simulator.simulated_member import MemberClock
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.testing.world.timeline import Timeline
from tests.peers.handmade import Side, dialled
from tests.peers.members import BareMember, connected, running, until
from tests.peers.test_snapshot_transfers import snapshot_message, with_snapshot


async def boot(address: PeerAddress, boot_nonce: int) -> tuple[trio.SocketStream, Admission]:
    """A connection on which node 2 has introduced itself as this process, and the answer."""
    stream, side = await dialled(address)
    return stream, await side.dial(boot_nonce=boot_nonce)


async def test_a_copy_of_a_running_node_is_refused_while_that_one_lives(
    tmp_path: Path,
    addresses: dict[int, PeerAddress],
    free_ports: Callable[[int], list[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first process keeps its stream, and both are told; when the first has ended, the copy is let in."""
    elsewhere = PeerAddress("127.0.0.1", free_ports(1)[0])
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
    shutil.copytree(tmp_path / "2", tmp_path / "copy")
    copy = BareMember(2, addresses | {2: elsewhere}, tmp_path / "copy")
    life = trio.CancelScope()

    async def run_first(*, task_status: trio.TaskStatus[None]) -> None:
        with life:
            await two.peers.run(two.address, task_status=task_status)

    async with running(one), trio.open_nursery() as nursery:
        await nursery.start(run_first)
        await connected(two, 1)
        async with running(copy):
            await until(lambda: two.peers.second_process.reason and copy.peers.second_process.reason)
            assert copy.peers.second_process.is_refused
            assert not two.peers.second_process.is_refused
            assert two.peers.outgoing[1].outbox.is_open
            assert not copy.peers.outgoing[1].outbox.is_open
            two.peers.offer(1, [two.heartbeat(1)])
            assert [sender for sender, _ in await one.received(1)] == [2]
            life.cancel()
            await connected(copy, 1)
    two.storage.close(clean=True)
    said = {record.getMessage() for record in caplog.records if "two processes" in record.getMessage()}
    assert said == {two.peers.second_process.reason} != {None}
    assert sum("two processes" in record.getMessage() for record in caplog.records) == 3  # one each


async def test_a_process_whose_connections_are_dead_makes_room_for_the_next(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Its stream is open at this end, but nobody answers at its address: the restarted node is let in."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one):
        old, answer = await boot(addresses[1], 5)
        async with old:
            assert answer.reason is None
            new, answer = await boot(addresses[1], 6)
            async with new:
                assert answer.reason is None
                assert not await old.receive_some()  # closed for the new one
                again, answer = await boot(addresses[1], 6)
                await again.aclose()
                assert answer.reason is None


async def test_a_process_that_speaks_counts_as_alive_though_it_cannot_be_dialled(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Something has come on its stream a moment ago."""
    one = BareMember(1, addresses, tmp_path / "1")
    message = Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=1)
    async with running(one):
        first, answer = await boot(addresses[1], 5)
        async with first:
            assert answer.reason is None
            await first.send_all(encode_messages([message]))
            await one.received(1)
            second, answer = await boot(addresses[1], 6)
            async with second:
                assert "two processes run as node 2" in (answer.reason or "")
            await first.send_all(encode_messages([message]))
            await one.received(1)


async def test_a_process_whose_key_cannot_be_learnt_takes_nothing_from_the_first_one(
    addresses: dict[int, PeerAddress],
) -> None:
    """The disk is full: the second process is not let in, so the first one keeps its stream."""
    disk = SimulatedDisk(random.Random(1))
    one = BareMember(1, addresses, Path("/data"), disk=disk)
    message = Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=1)
    async with running(one):
        first, answer = await boot(addresses[1], 5)
        async with first:
            assert answer.reason is None
            one.storage.forget_key(2)
            disk.free_bytes = 0
            second, side = await dialled(addresses[1])
            async with second:
                with pytest.raises(PeerProtocolError, match="closed"):
                    await side.dial(boot_nonce=6)
            await first.send_all(encode_messages([message]))
            await one.received(1)
        disk.free_bytes = None


async def test_who_asks_for_another_process_and_goes_is_not_refused(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Each restart of a member is followed by such a question, and is no attack."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one):
        stream, side = await dialled(addresses[1])
        async with stream:
            assert (await side.dial(purpose=Purpose.ALIVE)).reason is None
            assert one.peers.incoming.handshakes_under_way
        await until(lambda: not one.peers.incoming.handshakes_under_way)
    assert not any(one.refusals.counts.values())


async def test_only_a_member_that_is_known_can_tell_a_process_of_another(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Whoever asks may hear which process this is. What a stranger tells it counts nothing."""
    one = BareMember(1, addresses, tmp_path / "1")

    async def tell(node_id: int, sentence: str, **side: Any) -> int:
        stream, asker = await dialled(addresses[1], node_id=node_id, **side)
        async with stream:
            admission = await asker.dial(purpose=Purpose.ALIVE, peer_url="http://127.0.0.1:1")
            if admission.reason is None:
                key = key_towards(side.get("directory_id", b"d" * 16), 1)
                await asker.say(FrameKind.NOTICE, [sentence], key)
            assert not await stream.receive_some()
        return admission.boot_nonce

    async with running(one):
        nonces = {await tell(9, "a stranger's word")}
        assert one.peers.second_process.reason is None
        nonces.add(await tell(2, "two processes"))
        assert one.peers.second_process.reason == "two processes"
        nonces.add(await tell(2, "the word of another directory", directory_id=b"x" * 16))
        assert one.peers.second_process.reason == "two processes"
    assert len(nonces) == 1


async def test_a_restart_ends_the_snapshot_to_the_process_before(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """A peer that introduces itself under a new boot is not waited for where its last process was."""
    one = with_snapshot(BareMember(1, addresses, tmp_path / "1"))
    (listener,) = await trio.open_tcp_listeners(addresses[2].port, host=addresses[2].host)
    streams: list[trio.SocketStream] = []
    async with running(one):
        one.peers.send_snapshot(snapshot_message(one))
        async with listener:
            while not await welcome(listener, streams, boot_nonce=5):
                pass
        # Nothing listens there any more, and the connections stay open, as those of a host that has died.
        stream, answer = await boot(addresses[1], 6)
        assert answer.reason is None
        await until(lambda: one.events.sent_snapshots)
        await stream.aclose()
    assert one.events.sent_snapshots == [(2, False)]
    for stream in streams:
        await stream.aclose()


async def welcome(listener: trio.SocketListener, streams: list[trio.SocketStream], boot_nonce: int) -> bool:
    """Answer a node that dials node 2; whether it did so for a snapshot."""
    stream = await listener.accept()
    streams.append(stream)
    introduction = await Side(stream).answer(Admission(boot_nonce))
    return introduction.purpose is Purpose.SNAPSHOT


def test_it_is_told_once_a_minute_and_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """However often members tell it; and no longer when they tell it no more."""
    timeline = Timeline()
    second = SecondProcess(MemberClock(timeline))
    for _ in range(100):
        second.told("two processes")
        timeline.now += 1.5
        assert second.reason == "two processes"
    assert len(caplog.records) == 1 + int(99 * 1.5 // LOG_INTERVAL_S)
    timeline.now += TOLD_S
    assert second.reason is None
