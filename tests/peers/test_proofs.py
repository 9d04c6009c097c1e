"""Who is believed: whoever has proved to be the member that it says it is, and of this cluster."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import cbor2
import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError, PeerProtocolError
from raftkv_trio.payload.cbor import MAX_MEMBERS
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.connection import receive_payload
from raftkv_trio.peers.framing import FrameDecoder, FrameKind, encode_frame
from raftkv_trio.peers.handshake_frames import (
    Admission,
    JoinAnswer,
    Purpose,
    RefusalKind,
    decode_join_answer,
    encode_join_answer,
)
from raftkv_trio.peers.joining import Joiner, find_cluster, what_to_join
from raftkv_trio.peers.proofs import key_towards
from raftkv_trio.world import TcpNetwork, TrioClock
from tests.peers.handmade import CLUSTER_ID, Side, dialled
from tests.peers.hostile import besieged, listening
from tests.peers.members import BareMember, connected, in_trouble, running, until

REMOVED = Admission(5, None, RefusalKind.REMOVED, "you were removed", 99)
OTHER_DIRECTORY = Admission(5, None, RefusalKind.DIRECTORY, "you have another directory", None)
SECRET = b"what the nodes of one cluster share"


async def met_once(directory: Path, addresses: dict[int, PeerAddress]) -> bytes:
    """Let nodes 1 and 2, in these directories, meet and stop; returns the directory id of node 2."""
    one, two = (BareMember(i, addresses, directory / str(i)) for i in (1, 2))
    async with running(one, two):
        await until(lambda: one.storage.known_keys and two.storage.known_keys)
    return two.storage.identity.directory_id


async def met(directory: Path, addresses: dict[int, PeerAddress]) -> tuple[BareMember, bytes]:
    """Node 1, which has met node 2 before, and the directory id of that one."""
    directory_id = await met_once(directory, addresses)
    return BareMember(1, addresses, directory / "1"), directory_id


def answering(address: PeerAddress, admission: Admission, **side: Any) -> AbstractAsyncContextManager[Any]:
    """Somebody listens there, and says this at the end of each handshake."""

    async def answer(stream: trio.SocketStream) -> None:
        await Side(stream, **side).answer(admission)

    return listening(address, answer)


# ---------------------------------------------------------------- whoever listens at a member's port


@pytest.mark.parametrize("admission", [REMOVED, OTHER_DIRECTORY], ids=["removed", "directory"])
async def test_whoever_listens_at_the_port_of_a_member_that_was_met_is_not_believed(
    tmp_path: Path, addresses: dict[int, PeerAddress], admission: Admission
) -> None:
    """It cannot prove to be that member, and so tells this node nothing that counts."""
    one, _ = await met(tmp_path, addresses)
    async with running(one), answering(addresses[2], admission):
        await in_trouble(one, 2, "another data directory")
    assert not one.told_removed
    assert not one.directory_refused


async def test_a_member_that_was_met_is_believed(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """It has its directory, and so proves its word; that alone makes the difference to the test above."""
    one, directory_id = await met(tmp_path, addresses)
    async with running(one), answering(addresses[2], REMOVED, directory_id=directory_id):
        await until(lambda: one.told_removed)
    assert set(one.told_removed) == {(2, 99)}


@pytest.mark.parametrize("liar", [2, 9])
async def test_nobody_is_believed_about_a_removal_at_the_first_meeting(
    tmp_path: Path, addresses: dict[int, PeerAddress], liar: int
) -> None:
    """Whoever listens at the address of a member that was never met could say so; so could no member."""
    one = BareMember(1, addresses, tmp_path / "1")
    if liar == 9:
        one.peers.update(Envelope.of({1: addresses[1]}))
        one.known.add(9)  # by a change that is in the log, and not applied
    async with running(one):
        if liar == 9:
            stream, side = await dialled(addresses[1], node_id=9)
            await side.dial(peer_url=addresses[2].url)
            await stream.aclose()
        async with answering(addresses[2], REMOVED, node_id=liar):
            await in_trouble(one, liar, "you were removed")
    assert not one.told_removed


@pytest.mark.parametrize("refuser", [2, 9])
async def test_only_a_member_can_tell_that_another_process_runs(
    tmp_path: Path, addresses: dict[int, PeerAddress], refuser: int
) -> None:
    """That makes this one unhealthy. Node 9 is known by a change in the log, and is no member yet."""
    one = BareMember(1, addresses, tmp_path / "1")
    if refuser == 9:
        one.peers.update(Envelope.of({1: addresses[1]}))
        one.peers.confirmed(2, {9: addresses[2]})
    refusal = Admission(5, None, RefusalKind.PROCESS, "two processes run")
    async with running(one), answering(addresses[2], refusal, node_id=refuser):
        await in_trouble(one, refuser, "two processes run")
    assert (one.peers.second_process.reason is None) == (refuser == 9)


async def test_the_word_of_another_cluster_is_not_believed(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Not even from the directory that this node has met: the cluster is checked first."""
    one, directory_id = await met(tmp_path, addresses)
    side = {"directory_id": directory_id, "cluster_id": 5}
    async with running(one), answering(addresses[2], REMOVED, **side):
        await in_trouble(one, 2, "cluster id 5 is not this cluster's")
    assert not one.told_removed


async def test_a_stranger_at_the_port_of_a_stopped_member_ends_no_node(tmp_path: Path) -> None:
    """Real nodes: its word about a removal or a directory counts nothing, also at their next start."""
    async with besieged(tmp_path) as siege:
        for admission in (REMOVED, OTHER_DIRECTORY):
            address = siege.addresses[3]
            async with answering(address, admission, node_id=3, cluster_id=siege.cluster_id):
                await siege.until(
                    lambda: all(
                        node.parts is not None and "you " in str(node.parts.peers.outgoing[3].trouble)
                        for node in siege.nodes.values()
                    )
                )
                await siege.check_unharmed()
                await siege.check_starts_again()


# ---------------------------------------------------------------- who speaks as a member


async def test_a_key_is_told_to_nobody_who_has_not_shown_the_one_that_is_known(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Whatever a stranger says in a handshake under a member's id, or under none, it learns no key."""
    one, _ = await met(tmp_path, addresses)
    told: list[bytes | None] = []
    async with running(one):
        for sender in (2, 9):
            for purpose in Purpose:
                stream, side = await dialled(addresses[1], node_id=sender)
                async with stream:
                    admission = await side.dial(purpose=purpose, peer_url="http://127.0.0.1:1")
                    told.append(admission.key)
                assert sender == 9 or purpose is Purpose.JOIN or "another data directory" in str(admission)
        (listener,) = await trio.open_tcp_listeners(addresses[2].port, host=addresses[2].host)
        async with listener, await listener.accept() as stream:
            introduction = await Side(stream).answer()
            told.append(introduction.key)
            assert "another data directory" in (introduction.reason or "")
    assert set(told) == {None}


async def test_what_one_member_knows_of_another_is_of_no_use_towards_a_third(
    addresses: dict[int, PeerAddress], tmp_path: Path
) -> None:
    """Node 3 knows node 2 by a key that node 1 does not take."""
    one, directory_id = await met(tmp_path, addresses)
    key_for_3 = key_towards(directory_id, 3)
    async with running(one):
        stream, side = await dialled(addresses[1])
        async with stream:
            assert "another data directory" in str(await side.dial(key=key_for_3))
        stream, side = await dialled(addresses[1], directory_id=directory_id)
        async with stream:
            assert (await side.dial()).reason is None


async def test_what_was_said_on_one_connection_is_of_no_use_on_another(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Who has heard a whole handshake of member 2, and says the same again, is refused."""
    one, directory_id = await met(tmp_path, addresses)
    heard: list[bytes] = []
    async with running(one):
        stream = await trio.open_tcp_stream(addresses[1].host, addresses[1].port)
        async with Recording(stream, heard) as recording:
            assert (await Side(recording, directory_id=directory_id).dial()).reason is None
        stream, side = await dialled(addresses[1])
        async with stream:
            await stream.send_all(heard[0])
            await side.conversation.receive()  # the Welcome
            await side.conversation.receive_sealed(FrameKind.PROOF)
            await stream.send_all(heard[1])
            refusal = await side.conversation.receive_sealed(FrameKind.ADMISSION)
    assert len(heard) == 2
    assert b"another data directory" in refusal.body


class Recording(trio.abc.Stream):
    """A stream that keeps what is sent on it."""

    def __init__(self, stream: trio.SocketStream, sent: list[bytes]) -> None:
        self._stream, self._sent = stream, sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._sent.append(bytes(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.parametrize("length", [0, 16, 31, 33, 4000])
async def test_a_key_of_another_length_is_not_learnt(
    tmp_path: Path, addresses: dict[int, PeerAddress], length: int
) -> None:
    """One of 16 bytes would be taken for a directory id after a restart, and its member refused for ever."""
    key = b"k" * length
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one):
        stream, side = await dialled(addresses[1])
        async with stream:
            with pytest.raises(PeerProtocolError):
                await side.dial(key=key)
        async with answering(addresses[2], Admission(5, key)):
            await in_trouble(one, 2, f"a key of {length} bytes")
    assert not one.storage.known_keys


# ---------------------------------------------------------------- the cluster's secret


@pytest.mark.parametrize(
    ("own", "other", "sentence", "answer"),
    [
        (SECRET, None, "node 2 has no cluster secret", "node 1 has a cluster secret, and node 2 has none"),
        (SECRET, SECRET + b"!", "node 2 has another cluster secret", "node 1 has another cluster secret"),
    ],
)
async def test_a_node_without_the_secret_is_refused_with_a_sentence_on_both_sides(
    tmp_path: Path,
    addresses: dict[int, PeerAddress],
    own: bytes,
    other: bytes | None,
    sentence: str,
    answer: str,
) -> None:
    """Also if it dials, and neither learns the other's key."""
    one = BareMember(1, addresses, tmp_path / "1", secret=own)
    two = BareMember(2, addresses, tmp_path / "2", secret=other)
    async with running(one, two):
        await in_trouble(one, 2, sentence)
        await in_trouble(two, 1, answer)
        for purpose in Purpose:
            stream, side = await dialled(addresses[1], secret=other)
            async with stream:
                admission = await side.dial(purpose=purpose)
                assert sentence in str(admission.reason)
                assert admission.key is None
                assert not await stream.receive_some()
    assert not one.storage.known_keys
    assert not two.storage.known_keys


async def test_nodes_with_the_same_secret_meet(tmp_path: Path, addresses: dict[int, PeerAddress]) -> None:
    """They learn each other's keys; and a removal counts though the two have never met before."""
    one, two = (BareMember(i, addresses, tmp_path / str(i), secret=SECRET) for i in (1, 2))
    async with running(one, two):
        await connected(one, 2)
        await connected(two, 1)
    one = BareMember(1, addresses, tmp_path / "other", secret=SECRET)
    async with running(one), answering(addresses[2], REMOVED, secret=SECRET):
        await until(lambda: one.told_removed)


async def test_a_joiner_and_the_member_that_it_asks_need_the_same_secret(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """A joiner without it is told so, and waits; one that has it joins."""
    waiting: list[str] = []

    async def ask(secret: bytes | None) -> None:
        with trio.CancelScope() as scope:

            def waits(reason: str) -> None:
                waiting.append(reason)
                scope.cancel()

            await find_cluster(Joiner(2, TcpNetwork(), random, secret), addresses, TrioClock(), waits)

    random = Random()
    one = BareMember(1, addresses, tmp_path / "1", secret=SECRET)
    async with running(one):
        await ask(None)
        await ask(b"x" * 16)
        await in_trouble(
            one,
            2,
            'a node that came under its id was not let in: node 2 refuses this node, and says: "node 1 has'
            ' another cluster secret than node 2; give all nodes the same one"',
        )
        await ask(SECRET)
    assert [words.partition(": ")[2] for words in waiting] == [
        "node 1 has a cluster secret, and node 2 has none; give all nodes the same one",
        "node 1 has another cluster secret than node 2; give all nodes the same one",
    ]


async def test_a_joiner_that_is_refused_again_and_again_is_logged_once(
    tmp_path: Path, addresses: dict[int, PeerAddress], caplog: pytest.LogCaptureFixture
) -> None:
    """It asks once a second, as long as nobody gives it the secret."""
    one = BareMember(1, addresses, tmp_path / "1", secret=SECRET)
    joiner = Joiner(2, TcpNetwork(), Random(), b"another secret")
    async with running(one), trio.open_nursery() as nursery:
        nursery.start_soon(find_cluster, joiner, addresses, TrioClock())
        await until(lambda: one.refusals.counts["handshake"] >= 3)
        nursery.cancel_scope.cancel()
    refused = [line for line in caplog.messages if "node 2 refuses this node" in line]
    assert len(refused) == 1


# ---------------------------------------------------------------- joiners, and other versions


async def test_one_member_alone_does_not_end_a_joiner(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """One that says that the id was removed is outvoted by one that knows it; two are enough."""
    addresses = {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(free_ports(3), start=1)}
    urls = {i: address.url for i, address in addresses.items()}

    async def answer(stream: trio.SocketStream, node_id: int, removed_at: int | None) -> None:
        side = Side(stream, node_id)
        await side.answer()
        await side.say(
            FrameKind.JOIN_ANSWER, encode_join_answer(JoinAnswer(CLUSTER_ID, urls, removed_at)), None
        )

    joiner = Joiner(3, TcpNetwork(), Random(), None)
    async with listening(addresses[1], partial(answer, node_id=1, removed_at=9)):
        async with listening(addresses[2], partial(answer, node_id=2, removed_at=None)):
            assert (await find_cluster(joiner, addresses, TrioClock())).cluster_id == CLUSTER_ID
        async with listening(addresses[2], partial(answer, node_id=2, removed_at=9)):
            with pytest.raises(ConfigError, match="node 3 was removed from cluster"):
                await find_cluster(joiner, addresses, TrioClock())


def test_an_answer_with_addresses_that_are_not_valid_is_no_removal() -> None:
    """The joiner waits, and says why: only a removal may end it."""
    address = PeerAddress("node-3", 1)
    answer = JoinAnswer(CLUSTER_ID, {1: "http://no port", 3: address.url}, None)
    assert "an address that is not valid" in str(what_to_join(answer, 3, address))


def test_an_answer_to_a_joiner_has_a_bound() -> None:
    """As many members as a Members frame may have."""
    urls = dict.fromkeys(range(MAX_MEMBERS + 1), "http://node:1")
    with pytest.raises(PeerProtocolError, match=f"{MAX_MEMBERS + 1} members"):
        decode_join_answer(cbor2.dumps(encode_join_answer(JoinAnswer(CLUSTER_ID, urls, None))))
    del urls[0]
    body = cbor2.dumps(encode_join_answer(JoinAnswer(CLUSTER_ID, urls, None)))
    assert decode_join_answer(body).urls == urls


async def test_a_node_of_an_older_version_is_refused_with_a_sentence(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """It can read the sentence, and is told nothing else."""
    one = BareMember(1, addresses, tmp_path / "1")
    async with running(one), await trio.open_tcp_stream("127.0.0.1", addresses[1].port) as stream:
        await stream.send_all(encode_frame([1, [1, 2], CLUSTER_ID, 2, b"d" * 16, 1, None, None, False]))
        kind, version, node_id, octets, _, reason, *more = cbor2.loads(
            await receive_payload(stream, FrameDecoder())
        )
        assert not await stream.receive_some()
    assert (kind, version, node_id, more) == (2, 2, 1, [False, None])
    assert octets != one.storage.identity.directory_id
    assert reason == (
        "protocol versions 1 to 2 are not 3 to 4; run the same version of raftkv-trio on all nodes"
    )


async def test_the_refusal_of_a_node_of_an_older_version_is_a_sentence_and_no_more(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """What it says of removals and directories is not proved."""
    one = BareMember(1, addresses, tmp_path / "1")

    async def answer(stream: trio.SocketStream) -> None:
        await receive_payload(stream, FrameDecoder())
        await stream.send_all(encode_frame([2, 2, 2, b"d" * 16, None, "protocol versions", True, 99]))

    async with running(one), listening(addresses[2], answer):
        await in_trouble(one, 2, "node 2 speaks version 2 of the peer protocol, and this node version 4; run")
    assert not one.told_removed
    assert not one.directory_refused


# ---------------------------------------------------------------- members that know each other one way


@pytest.mark.parametrize("forgetful", [1, 2])
async def test_a_member_that_has_forgotten_another_meets_it_again(
    tmp_path: Path, addresses: dict[int, PeerAddress], forgetful: int
) -> None:
    """A crash may come when one of two has written the other's key down; then one is told it again."""
    await met_once(tmp_path, addresses)
    members = {i: BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2)}
    members[forgetful].storage.forget_key(3 - forgetful)
    members[forgetful].storage.close(clean=True)
    members[forgetful] = BareMember(forgetful, addresses, tmp_path / str(forgetful))
    async with running(*members.values()):
        await until(lambda: members[forgetful].storage.known_keys)
        await connected(members[1], 2)
        await connected(members[2], 1)


async def test_the_directory_ids_that_version_2_told_are_known_still(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """A directory that has met others by them knows them, and nobody else, by keys."""
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
    for member, other in ((one, two), (two, one)):
        member.storage.remember_key(other.node_id, other.storage.identity.directory_id)
        member.storage.close(clean=True)
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
    async with running(one, two):
        await connected(one, 2)
        await connected(two, 1)
        stream, side = await dialled(addresses[1])
        async with stream:
            assert "another data directory" in str(await side.dial())


async def test_a_stranger_that_was_first_can_be_forgotten(
    tmp_path: Path, addresses: dict[int, PeerAddress]
) -> None:
    """Until then it keeps the member away; then the member is met."""
    one, two = (BareMember(i, addresses, tmp_path / str(i)) for i in (1, 2))
    async with running(one):
        stream, side = await dialled(addresses[1])
        await side.dial()
        async with stream, running(two):
            await in_trouble(two, 1, "another data directory")
            assert await one.peers.forget(2)
            await connected(two, 1)
            await connected(one, 2)
    assert one.storage.known_keys == {2: key_towards(two.storage.identity.directory_id, 1)}
