"""Nodes that this node does not know as members yet, or no longer, over real TCP."""

from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.framing import FrameKind
from raftkv_trio.peers.handshake_frames import JoinAnswer, encode_join_answer
from raftkv_trio.peers.joining import CHECK_S, Joiner, check_joined, find_cluster
from raftkv_trio.peers.newcomers import MAX_LINKS, giving_way
from raftkv_trio.peers.proofs import key_towards
from raftkv_trio.world import TcpNetwork, TrioClock
from tests.peers.handmade import CLUSTER_ID, Side, dialled
from tests.peers.members import (
    BareMember,
    connected,
    in_trouble,
    introduced,
    running,
    until,
)

SECRET = b"a cluster secret of 32 bytes, no. 1"


async def test_a_member_unheard_of_is_let_in(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """One that the log has added says where it listens: it is dialled there; it may be the leader."""
    one = BareMember(1, {1: addresses[1]}, tmp_path / "1")
    one.known.add(2)
    two = BareMember(2, addresses, tmp_path / "2")
    async with running(one, two):
        await connected(two, 1)
        assert two.peers.offer(1, [two.heartbeat(1)])
        assert [sender for sender, _ in await one.received(1)] == [2]
        await connected(one, 2)
        assert one.peers.outgoing[2].address == addresses[2]
        assert one.peers.offer(2, [one.heartbeat(2)])
        assert [sender for sender, _ in await two.received(1)] == [1]


async def test_a_stranger_is_let_in_once_members_say_that_it_is_one(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Before, it hears why not, and nothing of it arrives. The node is told of it, and dials nobody."""
    one = BareMember(1, {1: addresses[1]}, tmp_path / "1")
    two = BareMember(2, addresses, tmp_path / "2")
    async with running(one, two):
        await in_trouble(two, 1, "node 2 is not known to be a member here")
        assert set(one.known.strangers) == {2}
        assert not one.peers.outgoing
        assert not one.peers.incoming.is_connected(2)
        one.known.add(2)
        one.peers.confirmed(3, {2: addresses[2]})
        await connected(two, 1)
        await connected(one, 2)


async def test_who_proves_the_secret_needs_nobodys_word(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """It is let in, and dialled, as long as it is connected."""
    one = BareMember(1, {1: addresses[1]}, tmp_path / "1", secret=SECRET)
    two = BareMember(2, addresses, tmp_path / "2", secret=SECRET)
    async with running(one):
        async with running(two):
            await connected(two, 1)
            await connected(one, 2)
            assert two.peers.offer(1, [two.heartbeat(1)])
            assert [sender for sender, _ in await one.received(1)] == [2]
            assert one.peers.offer(2, [one.heartbeat(2)])
            assert [sender for sender, _ in await two.received(1)] == [1]
            assert one.known.by_secret == {2}
        await until(lambda: not one.peers.outgoing)
        assert not one.known.by_secret
    assert not one.known.strangers
    assert not one.storage.known_keys


async def test_a_word_that_is_taken_back_ends_the_links(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Both ways; once the node is known again, it is let in again."""
    one = BareMember(1, {1: addresses[1]}, tmp_path / "1")
    two = BareMember(2, addresses, tmp_path / "2")
    one.known.add(2)
    async with running(one, two):
        for _ in range(2):
            one.known.add(2)
            await connected(two, 1)
            await connected(one, 2)
            one.known.remove(2)
            await until(lambda: not one.peers.outgoing)
            await in_trouble(two, 1, "node 2 is not known to be a member here")
            assert not one.peers.incoming.is_connected(2)


async def test_a_broken_node_under_many_ids_keeps_nobody_away(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Who proves the secret and is not at its address gives way, from the same host and named by the same."""
    one = BareMember(1, {1: addresses[1]}, tmp_path / "1", secret=SECRET)
    two = BareMember(2, addresses, tmp_path / "2", secret=SECRET)
    async with running(one), AsyncExitStack() as streams:
        for sender in range(100, 100 + 2 * MAX_LINKS):
            stream, side = await dialled(addresses[1], node_id=sender, secret=SECRET)
            await streams.enter_async_context(stream)
            assert (await side.dial(peer_url=addresses[2].url)).reason is None
            assert len(one.peers.outgoing) <= MAX_LINKS
        async with running(two):
            await connected(two, 1)
            await connected(one, 2)
            one.peers.confirmed(9, dict.fromkeys(range(300, 300 + MAX_LINKS), addresses[2]))
            assert len(one.peers.outgoing) == MAX_LINKS
            assert one.peers.outgoing[2].outbox.is_open


@pytest.mark.parametrize(
    ("causes", "up", "leaves"),
    [
        ("aaaa", {0, 1, 3}, 2),  # it has no stream
        ("aaaa", {0, 1, 2, 3}, 0),  # the oldest one of who has the most
        ("bcaa", {0, 1, 2, 3}, 2),
        ("abcd", {0, 1, 2, 3}, None),  # nobody has more than the new one would have
        ("nnnn", {0, 1, 2, 3}, None),  # all have come as the new one does
        ("nnaa", {0, 1, 2, 3}, None),
        ("naaa", {0, 1, 2, 3}, 1),
        ("", set(), None),
    ],
)
def test_which_link_gives_way(causes: str, up: set[int], leaves: int | None) -> None:
    """To one that `n` brings about."""
    assert giving_way(dict(enumerate(causes)), "n", up.__contains__) == leaves


async def test_a_removed_member_hears_all_and_is_cut_off(
    tmp_path: Path, addresses: dict[int, PeerAddress], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was on its way to it arrives; then each member that it dials says the index of its removal."""
    monkeypatch.setattr("raftkv_trio.peers.peers.PARTING_S", 0.2)
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
    async with running(one, two):
        await connected(one, 2)
        await connected(two, 1)
        assert one.peers.offer(2, [one.heartbeat(2)])
        one.peers.update(Envelope(members=Envelope.of({1: addresses[1]}).members, removed={2: 17}))
        assert not one.peers.offer(2, [one.heartbeat(2)])
        assert [sender for sender, _ in await two.received(1)] == [1]
        await until(lambda: two.told_removed == [(1, 17)] * len(two.told_removed) != [])
        await in_trouble(two, 1, "node 2 was removed from this cluster")


async def test_a_member_that_moves_is_dialled_where_it_is(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """The connection to its old address is closed, even if a node answers there."""
    one = BareMember(1, addresses, tmp_path / "1")
    elsewhere = {1: addresses[1], 2: PeerAddress("127.0.0.1", 1)}
    two = BareMember(2, elsewhere | {2: addresses[2]}, tmp_path / "2")
    one.peers.update(Envelope.of(elsewhere))
    async with running(one, two):
        await in_trouble(one, 2, "refused")
        one.peers.update(Envelope.of(addresses))
        await connected(one, 2)
        one.peers.update(Envelope.of(elsewhere))
        await in_trouble(one, 2, "refused")
        with trio.fail_after(5):
            await until(lambda: not one.peers.outgoing[2].outbox.is_open)


async def test_a_member_is_answered_where_it_says_that_it_is(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """This node was down when the other one moved, and hears of the move only if it answers."""
    one = BareMember(1, {1: addresses[1], 2: PeerAddress("127.0.0.1", 1)}, tmp_path / "1")
    two = BareMember(2, addresses, tmp_path / "2")
    async with running(one, two):
        await connected(two, 1)
        await connected(one, 2)


async def test_an_id_cannot_be_taken_before_it_is_a_members(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """A node that introduced itself by it before has to do so again; only then is a directory id learnt."""
    one = BareMember(1, {1: addresses[1]}, tmp_path / "1")
    one.known.add(2)
    async with running(one):
        stream, _ = await introduced(addresses[1], sender=2, peer_url="http://127.0.0.1:1")
        async with stream:
            await until(lambda: one.peers.incoming.is_connected(2))
            one.peers.update(Envelope.of(addresses))
            assert await stream.receive_some() == b""
        two = BareMember(2, addresses, tmp_path / "2")
        async with running(two):
            await connected(two, 1)
            await connected(one, 2)
        assert one.storage.known_keys == {2: key_towards(two.storage.identity.directory_id, 1)}
    assert not two.directory_refused


async def test_who_becomes_a_member_is_known_by_its_directory_from_then_on(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Even if it was connected, both ways, before this node knew it as a member."""
    one = BareMember(1, {1: addresses[1]}, tmp_path / "1")
    one.known.add(2)
    two = BareMember(2, addresses, tmp_path / "2")
    async with running(one, two):
        await connected(two, 1)
        await connected(one, 2)
        assert not one.storage.known_keys
        one.peers.update(Envelope.of(addresses))
        await until(lambda: one.storage.known_keys == {2: key_towards(two.storage.identity.directory_id, 1)})
        await connected(two, 1)
        await connected(one, 2)


async def test_a_directory_is_joined_to_its_own_cluster_only(
    tmp_path: Path, addresses: dict[int, PeerAddress], mock_clock: trio.testing.MockClock
) -> None:
    """One member that confirms it is enough; one that is of another cluster refutes it; silence does not."""
    mock_clock.rate = 1.0
    away = addresses | {3: PeerAddress("127.0.0.1", 1), 4: PeerAddress("127.0.0.1", 2)}
    joiner = Joiner(3, TcpNetwork(), Random(), None)
    async with running(BareMember(1, addresses, tmp_path / "1")):
        await check_joined(joiner, CLUSTER_ID, away, tmp_path)
        with pytest.raises(ConfigError, match=f"belongs to cluster 5, and {addresses[1].url} of `members`"):
            await check_joined(joiner, 5, away, tmp_path)
    (silent,) = await trio.open_tcp_listeners(addresses[1].port, host="127.0.0.1")
    async with silent, trio.open_nursery() as nursery:
        nursery.start_soon(check_joined, joiner, 5, {1: addresses[1]}, tmp_path)
        async with await silent.accept():
            mock_clock.jump(CHECK_S + 0.1)


async def test_a_cluster_of_many_members_is_joined(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """Their addresses are more than a first frame may have."""
    members = {i: PeerAddress(f"{'a' * 60}.example", i) for i in range(3, 300)} | addresses
    urls = {i: address.url for i, address in members.items()}
    (listener,) = await trio.open_tcp_listeners(addresses[1].port, host="127.0.0.1")

    async def answer(stream: trio.SocketStream) -> None:
        side = Side(stream, 1)
        await side.answer()
        await side.say(FrameKind.JOIN_ANSWER, encode_join_answer(JoinAnswer(CLUSTER_ID, urls, None)), None)

    with trio.fail_after(30):
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, [listener])
            joined = await find_cluster(Joiner(2, TcpNetwork(), Random(), None), addresses, TrioClock())
            nursery.cancel_scope.cancel()
    assert joined.cluster_id == CLUSTER_ID
    assert Envelope.decode(joined.envelope).addresses == members
