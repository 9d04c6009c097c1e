"""Streams between members, over real TCP: who is let in, what arrives, and what is told when it does not."""

import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.newcomers import MAX_LINKS
from raftkv_trio.peers.wire import Forward, encode_messages
from raftkv_trio.raft.types import Entry, Message, MessageType
from tests.peers.handmade import CLUSTER_ID, Side, dialled
from tests.peers.members import (
    BareMember,
    admitted,
    connected,
    in_trouble,
    introduced,
    running,
    until,
)


async def test_messages_arrive_once_and_in_order(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """What is offered to a connected peer comes out of its inbox, in order, under the sender's id."""
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
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


async def test_members_tell_each_other_where_clients_reach_them(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """The dialling node learns it from the Welcome, the dialled node from the Hello."""
    dialling = BareMember(1, addresses, tmp_path / "dialling")
    (listener,) = await trio.open_tcp_listeners(addresses[2].port, host="127.0.0.1")
    async with listener, running(dialling), await listener.accept() as stream:
        await Side(stream).answer(client_url="http://node-2")
        await until(lambda: dialling.peers.outgoing[2].client_url == "http://node-2")
    called = BareMember(1, addresses, tmp_path / "called")
    async with running(called), await admitted(addresses[1]):
        await until(lambda: called.peers.outgoing[2].client_url == "http://node-2")


async def test_what_never_left_is_told(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """When a peer that does not read goes away, exactly the Forwards that were not being sent come back."""
    one = BareMember(1, addresses, tmp_path / "1")
    forwards = [Forward(1, ((ProposalId(1, 2, n), bytes(10_000)),)) for n in range(50)]
    assert not one.peers.offer(2, forwards), "nothing is taken for a peer that is not connected"
    (listener,) = await trio.open_tcp_listeners(addresses[2].port, host="127.0.0.1")
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with running(one), listener:
        stream = await listener.accept()
        await Side(stream).answer()
        outbox = one.peers.outgoing[2].outbox
        await until(lambda: outbox.is_open)
        offered = 0
        while one.peers.offer(2, forwards):
            offered += len(forwards)
            await trio.testing.wait_all_tasks_blocked()
        assert one.events.unsent_forwards == []
        await trio.aclose_forcefully(stream)
        await until(lambda: one.events.lost_peers)
    assert one.events.lost_peers[0] == 2
    unsent = one.events.unsent_forwards
    assert 0 < len(unsent) < offered
    assert unsent == (forwards * offered)[offered - len(unsent) : offered]


async def test_a_peer_that_comes_back_is_reached_again(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """After a restart of a peer on the same directory, messages flow both ways again."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one):
        for life in range(3):
            two = BareMember(2, addresses, tmp_path / "2")
            async with running(two):
                await connected(one, 2)
                one.peers.offer(2, [one.heartbeat(2, life)])
                await two.received(1)
                await connected(two, 1)
                two.peers.offer(1, [two.heartbeat(1, life)])
                await one.received(1)
            await until(lambda: not one.peers.outgoing[2].outbox.is_open)


async def test_another_cluster_is_refused_on_both_sides(
    tmp_path: Path, addresses: dict[int, PeerAddress], caplog: pytest.LogCaptureFixture
) -> None:
    """Both ends of a connection between clusters say why it was closed, and nothing passes."""
    one = BareMember(1, addresses, tmp_path / "1")
    two = BareMember(2, addresses, tmp_path / "2", cluster_id=CLUSTER_ID + 1)
    async with running(one, two):
        await in_trouble(one, 2, "cluster id 4e is not this cluster's 4d")
        await until(
            lambda: 'node 1 refuses this node, and says: "cluster id 4e is not this cluster' in caplog.text
        )
        await in_trouble(two, 1, "start it with `raftkv-trio serve --join` and a new data directory")
    assert not one.peers.outgoing[2].outbox.is_open


async def test_a_wiped_directory_is_refused(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """A member that comes back with another directory is refused and told so, even by a restarted node."""
    for life in range(3):
        one = BareMember(1, addresses, tmp_path / "1")
        two = BareMember(2, addresses, tmp_path / ("2" if life == 0 else "2-wiped"))
        async with running(one, two):
            if life == 0:
                await connected(one, 2)
            else:
                await in_trouble(one, 2, "another data directory")
                await in_trouble(two, 1, "another data directory")
                # The words about a connection that node 1 has opened may be there before that.
                await until(partial(bool, two.directory_refused))
            assert (one.directory_refused, set(two.directory_refused)) == ([], {1} if life else set())


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ({"receiver": 2}, "node 2 was expected here, but this is node 1"),
        ({"sender": 3}, "node 3 is not a member of this cluster"),
        ({"sender": 1}, "node 1 is this node itself"),
        ({"cluster_id": 1}, "cluster id 1 is not this cluster's"),
    ],
)
async def test_a_handshake_that_does_not_fit_is_told_why(
    tmp_path: Path, addresses: dict[int, PeerAddress], hello: dict[str, Any], reason: str
) -> None:
    """The answer names what is wrong with a handshake, and then the connection is closed."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one):
        stream, side = await dialled(addresses[1])
        async with stream:
            assert reason in ((await side.dial(**hello)).reason or "")
            assert not await stream.receive_some()


async def test_strangers_fill_no_list_of_keys(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """No id of theirs is learnt, and a bounded number is dialled, however many introduce themselves."""
    one = BareMember(1, addresses, tmp_path / "1")
    one.known.update(range(15, 20 + MAX_LINKS))  # the log has added these
    async with running(one):
        for sender in range(10, 20 + MAX_LINKS):
            stream, _ = await introduced(addresses[1], sender=sender, peer_url=addresses[2].url)
            await stream.aclose()
        assert len(one.peers.outgoing) <= MAX_LINKS
        assert not one.peers.outgoing.keys() & {*range(10, 15)}
        assert not one.storage.known_keys


async def test_members_may_change_behind_the_end_of_the_streams(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """As by a snapshot that is restored while the node stops: a new member is not dialled then."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one):
        pass
    one.peers.update(
        Envelope(members=Envelope.of({1: addresses[1], 3: addresses[2]}).members, removed={2: 7})
    )
    assert list(one.peers.outgoing) == [3]


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
    """A peer speaks for itself, to this node, in messages that travel between nodes; else it is cut off."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one):
        async with await admitted(addresses[1]) as stream:
            await stream.send_all(encode_messages([message]))
            assert not await stream.receive_some()
        assert not one.inbox.drain()


async def test_the_newer_connection_of_a_peer_replaces_the_older(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """A peer that reconnects before its old connection is seen to end is heard on the new one alone."""
    one = BareMember(1, addresses, tmp_path / "1")
    message = Message(type=MessageType.APP, to=1, from_=2, term=1, entries=(Entry(1, 2),))
    async with running(one), await admitted(addresses[1]) as old, await admitted(addresses[1]) as new:
        assert not await old.receive_some()
        await new.send_all(encode_messages([message]))
        assert await one.received(1) == [(2, [message])]


async def test_a_newer_connection_may_end_before_the_older(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """It ends as soon as it is admitted, while the older one is being closed for it; the node goes on."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one):
        for _ in range(30):
            async with await admitted(addresses[1]) as old, await admitted(addresses[1]) as new:
                await new.send_eof()
                assert not await old.receive_some()
        async with await admitted(addresses[1]):
            await until(lambda: one.peers.incoming.is_connected(2))
        await until(lambda: not one.peers.incoming.is_connected(2))


async def test_an_address_in_use_is_a_config_error(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """If the peer address cannot be bound, `run` says which one and why, and nothing starts."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one):
        with pytest.raises(ConfigError, match=f"127.0.0.1:{addresses[1].port}: Address already in use"):
            await one.peers.run(addresses[1])


async def test_a_peer_that_closes_at_once_is_told_of_once_and_dialled_less_and_less_often(
    tmp_path: Path, addresses: dict[int, PeerAddress], caplog: pytest.LogCaptureFixture
) -> None:
    """A connection counts as made when it has lasted for a moment."""
    caplog.set_level("INFO", "raftkv_trio.peers.outgoing")
    one = BareMember(1, addresses, tmp_path / "1")
    (listener,) = await trio.open_tcp_listeners(addresses[2].port, host="127.0.0.1")
    moments = []
    async with listener, running(one):
        for _ in range(5):
            async with await listener.accept() as stream:
                moments.append(trio.current_time())
                await Side(stream).answer()
        await in_trouble(one, 2, "closed the connection")
        assert [line.split()[0] for line in caplog.messages] == ["connected", "node"]
        async with await listener.accept() as stream:
            await Side(stream).answer()
            await until(lambda: len(caplog.messages) == 3)
    assert caplog.messages[2].startswith("connected to node 2")
    assert moments[-1] - moments[-2] >= 0.2


async def test_a_member_that_is_dialled_elsewhere_is_not_connected_meanwhile(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """What an operator sees of it has a reason."""
    one, two = BareMember(1, addresses, tmp_path / "1"), BareMember(2, addresses, tmp_path / "2")
    async with running(one, two):
        await connected(one, 2)
        outgoing = one.peers.outgoing[2]
        assert outgoing.trouble is None
        outgoing.redial(outgoing.address)
        await until(lambda: not outgoing.outbox.is_open)
        assert outgoing.trouble
