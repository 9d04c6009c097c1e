"""Streams between members, over real TCP: who is let in, what arrives, and what is told when it does not."""

import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from raftkv_trio.config import PeerAddress
from raftkv_trio.errors import ConfigError
from raftkv_trio.lanes import Bell, Lane
from raftkv_trio.peers import DirectoryIds, Peers
from raftkv_trio.ports import TcpNetwork, ThreadWorker, TrioClock
from raftkv_trio.raft.types import ConfState, Entry, Message, MessageType
from raftkv_trio.storage import Bootstrap, NodeStorage, OsDisk, open_storage
from raftkv_trio.wire import (
    Forward,
    FrameDecoder,
    Hello,
    PeerFrame,
    ProposalId,
    Welcome,
    decode_welcome,
    encode_hello,
    encode_messages,
    encode_welcome,
)

CLUSTER_ID = 77


class Member:
    """The peers of one node, and what a driver would be told."""

    def __init__(
        self, node_id: int, addresses: dict[int, PeerAddress], directory: Path, cluster_id: int = CLUSTER_ID
    ) -> None:
        bootstrap = Bootstrap(cluster_id=cluster_id, conf_state=ConfState(voters=(1, 2)), envelope=b"-")
        self.storage: NodeStorage = open_storage(
            OsDisk(), directory, node_id=node_id, bootstrap=bootstrap, rng=random.Random()
        )
        self.node_id = node_id
        self.address = addresses[node_id]
        self.bell = Bell()
        self.inbox: Lane[tuple[int, PeerFrame]] = Lane(self.bell, 1 << 20)
        self.unreachable: list[int] = []
        self.unsent: list[Forward] = []
        self.peers = Peers(
            identity=self.storage.identity,
            addresses=addresses,
            directory_ids=DirectoryIds(self.storage, ThreadWorker()),
            network=TcpNetwork(),
            clock=TrioClock(),
            random=random.Random(1),
            max_outbox_bytes=1 << 20,
            inbox=self.inbox,
            unreachable=self.unreachable.append,
            unsent=self.unsent.append,
        )

    def heartbeat(self, to: int, commit: int = 0) -> Message:
        return Message(type=MessageType.HEARTBEAT, to=to, from_=self.node_id, term=1, commit=commit)

    async def received(self, count: int) -> list[tuple[int, PeerFrame]]:
        got: list[tuple[int, PeerFrame]] = []
        while len(got) < count:
            await self.bell.wait()
            got.extend(self.inbox.drain())
        return got


@asynccontextmanager
async def running(*members: Member) -> AsyncIterator[None]:
    try:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for member in members:
                    await nursery.start(member.peers.run, member.address)
                yield
                nursery.cancel_scope.cancel()
    finally:
        for member in members:
            member.storage.close(clean=True)


async def until(condition: Callable[[], object]) -> None:
    """Poll, since what is waited for is told by a log line or by a peer, not by an event."""
    while not condition():  # noqa: ASYNC110 - see above
        await trio.sleep(0.01)


async def connected(member: Member, peer_id: int) -> None:
    await until(lambda: member.peers.links[peer_id].outbox.connected)


async def in_trouble(member: Member, peer_id: int, words: str) -> None:
    await until(lambda: words in (member.peers.links[peer_id].trouble or ""))


@pytest.fixture
def addresses(free_ports: Callable[[int], list[int]]) -> dict[int, PeerAddress]:
    return {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(free_ports(2), start=1)}


async def test_messages_arrive_once_and_in_order(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """What is offered to a connected peer comes out of its inbox, in order, under the sender's id."""
    one, two = (Member(i, addresses, tmp_path / str(i)) for i in (1, 2))
    async with running(one, two):
        await connected(one, 2)
        for commit in range(300):
            assert one.peers.offer(2, [one.heartbeat(2, commit)])
        messages: list[Message] = []
        while len(messages) < 300:
            for sender, frame in await two.received(1):
                assert sender == 1
                assert isinstance(frame, list)
                messages.extend(frame)
    assert [message.commit for message in messages] == list(range(300))


async def test_what_never_left_is_told(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """When a peer that does not read goes away, exactly the Forwards that were not being sent come back."""
    one = Member(1, addresses, tmp_path / "1")
    forwards = [Forward(1, ((ProposalId(1, 2, n), bytes(10_000)),)) for n in range(50)]
    assert not one.peers.offer(2, forwards), "nothing is taken for a peer that is not connected"
    (listener,) = await trio.open_tcp_listeners(addresses[2].port, host="127.0.0.1")
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with running(one), listener:
        stream = await listener.accept()
        assert await stream.receive_some()
        await stream.send_all(encode_welcome(Welcome(version=1, node_id=2, directory_id=b"d" * 16)))
        outbox = one.peers.links[2].outbox
        await until(lambda: outbox.connected)
        offered = 0
        while one.peers.offer(2, forwards):
            offered += len(forwards)
            await trio.testing.wait_all_tasks_blocked()
        assert one.unsent == []
        await trio.aclose_forcefully(stream)
        await until(lambda: one.unreachable)
    assert one.unreachable[0] == 2
    assert 0 < len(one.unsent) < offered
    assert one.unsent == (forwards * offered)[offered - len(one.unsent) : offered]


async def test_a_peer_that_comes_back_is_reached_again(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """After a restart of a peer on the same directory, messages flow both ways again."""
    one = Member(1, addresses, tmp_path / "1")
    async with running(one):
        for life in range(3):
            two = Member(2, addresses, tmp_path / "2")
            async with running(two):
                await connected(one, 2)
                one.peers.offer(2, [one.heartbeat(2, life)])
                await two.received(1)
                await connected(two, 1)
                two.peers.offer(1, [two.heartbeat(1, life)])
                await one.received(1)
            await until(lambda: not one.peers.links[2].outbox.connected)


async def test_another_cluster_is_refused_on_both_sides(
    tmp_path: Path, addresses: dict[int, PeerAddress], caplog: pytest.LogCaptureFixture
) -> None:
    """Both ends of a connection between clusters say why it was closed, and nothing passes."""
    one = Member(1, addresses, tmp_path / "1")
    two = Member(2, addresses, tmp_path / "2", cluster_id=CLUSTER_ID + 1)
    async with running(one, two):
        await in_trouble(one, 2, "refused this node: cluster id")
        await until(lambda: "refused node 1: cluster id" in caplog.text)
    assert not one.peers.links[2].outbox.connected


async def test_a_wiped_directory_is_refused(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """A member that comes back with another directory is refused, also after a restart of who remembers."""
    for life in range(3):
        one = Member(1, addresses, tmp_path / "1")
        two = Member(2, addresses, tmp_path / ("2" if life == 0 else "2-wiped"))
        async with running(one, two):
            if life == 0:
                await connected(one, 2)
            else:
                await in_trouble(one, 2, "another data directory")
                await in_trouble(two, 1, "another data directory")


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ({"receiver": 2}, "node 2 was expected here, but this is node 1"),
        ({"sender": 3}, "node 3 is no other member"),
        ({"sender": 1}, "node 1 is no other member"),
        ({"versions": (7, 9)}, "protocol versions 7 to 9"),
        ({"cluster_id": 1}, "cluster id 1 is not this cluster's"),
    ],
)
async def test_a_handshake_that_does_not_fit_is_told_why(
    tmp_path: Path, addresses: dict[int, PeerAddress], hello: dict[str, Any], reason: str
) -> None:
    """The answer to a Hello names what is wrong with it, and then the connection is closed."""
    fields: dict[str, Any] = {"cluster_id": CLUSTER_ID, "sender": 2, "directory_id": b"d" * 16, "receiver": 1}
    one = Member(1, addresses, tmp_path / "1")
    async with running(one):
        stream = await trio.open_tcp_stream("127.0.0.1", addresses[1].port)
        async with stream:
            await stream.send_all(encode_hello(Hello(**(fields | hello))))
            answer = b"".join([bytes(data) async for data in stream])
    decoder = FrameDecoder()
    decoder.feed(answer)
    assert reason in (decode_welcome(next(decoder)).reason or "")


async def admitted(address: PeerAddress) -> trio.SocketStream:
    """A connection on which node 2 has introduced itself."""
    stream = await trio.open_tcp_stream(address.host, address.port)
    hello = Hello(cluster_id=CLUSTER_ID, sender=2, directory_id=b"d" * 16, receiver=1)
    await stream.send_all(encode_hello(hello))
    assert await stream.receive_some()
    return stream


@pytest.mark.parametrize(
    "message",
    [
        Message(type=MessageType.HEARTBEAT, to=1, from_=3, term=1),
        Message(type=MessageType.HEARTBEAT, to=2, from_=2, term=1),
        Message(type=MessageType.HUP, to=1, from_=2),
        Message(type=MessageType.STORAGE_APPEND_RESP, to=1, from_=2, term=1),
    ],
    ids=lambda m: f"{m.type.name}-{m.from_}-{m.to}",
)
async def test_a_message_that_may_not_come_from_there_ends_its_connection(
    tmp_path: Path, addresses: dict[int, PeerAddress], message: Message
) -> None:
    """A peer speaks for itself, to us, and only what travels between nodes; else it is cut off."""
    one = Member(1, addresses, tmp_path / "1")
    async with running(one):
        async with await admitted(addresses[1]) as stream:
            await stream.send_all(encode_messages([message]))
            assert not await stream.receive_some()
        assert not one.inbox.drain()


async def test_strangers_do_not_disturb_the_members(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Noise, half frames and silence at the peer port end their own connections and nothing else."""
    one, two = (Member(i, addresses, tmp_path / str(i)) for i in (1, 2))
    rng = random.Random(5)
    async with running(one, two):
        await connected(two, 1)
        silent = [await trio.open_tcp_stream("127.0.0.1", addresses[1].port) for _ in range(20)]
        for _ in range(100):
            stream = await trio.open_tcp_stream("127.0.0.1", addresses[1].port)
            try:
                await stream.send_all(rng.randbytes(rng.randrange(1, 100)))
            except trio.BrokenResourceError:
                pass  # closed on us already
            await stream.aclose()
        assert two.peers.offer(1, [two.heartbeat(1)])
        assert await one.received(1)
        for stream in silent:
            await stream.aclose()


async def test_the_newer_connection_of_a_peer_replaces_the_older(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """A peer that reconnects before we saw its old connection end is heard on the new one alone."""
    one = Member(1, addresses, tmp_path / "1")
    message = Message(type=MessageType.APP, to=1, from_=2, term=1, entries=(Entry(1, 2),))
    async with running(one), await admitted(addresses[1]) as old, await admitted(addresses[1]) as new:
        assert not await old.receive_some()
        await new.send_all(encode_messages([message]))
        assert await one.received(1) == [(2, [message])]


async def test_an_address_in_use_is_a_config_error(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """Where the peer address cannot be bound, `run` says which one and why, and nothing starts."""
    one = Member(1, addresses, tmp_path / "1")
    async with running(one):
        with pytest.raises(ConfigError, match=f"127.0.0.1:{addresses[1].port}: Address already in use"):
            await one.peers.run(addresses[1])
