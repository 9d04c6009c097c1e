"""What even a joiner or a member may not say to real nodes: what is beyond all that is possible."""

from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv_trio.config import MAX_ENTRY_BYTES
from raftkv_trio.node.driver.admission import MAX_TERM_STEP
from raftkv_trio.node.reads import CONTEXT_BYTES
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.peers.framing import MAX_FRAME_BYTES
from raftkv_trio.peers.wire import (
    MAX_FORWARDED,
    Forward,
    ForwardChange,
    encode_forward,
    encode_forward_change,
    encode_messages,
)
from raftkv_trio.raft.types import Entry, Message, MessageType
from tests.peers.hostile import NEWER, BesiegedNode, HostilePeer, besieged

pytestmark = pytest.mark.usefixtures("security")

#: A frame that is refused, for this reason.
Attempt = tuple[str, Callable[[BesiegedNode, HostilePeer], bytes]]
FRAME_OVERHEAD_BYTES = 100


def term(node: BesiegedNode) -> int:
    return node.running.status().term


def large_entry(node: BesiegedNode, peer: HostilePeer) -> bytes:
    status = node.running.status()
    data = encode_proposal(ProposalId(peer.node_id, 1, 1), bytes(MAX_ENTRY_BYTES))
    entry = Entry(status.term, status.last_index + 1, data=data)
    return encode_messages(
        [
            peer.message(
                MessageType.APP,
                term=status.term,
                index=status.last_index,
                log_term=status.term,
                entries=(entry,),
            )
        ]
    )


def one_entry_is_lost(node: BesiegedNode, peer: HostilePeer) -> bytes:
    """From its leader, a node would believe that, and never start again."""
    status = node.running.status()
    beyond = status.last_index + 1
    return encode_messages([peer.message(MessageType.HEARTBEAT, term=status.term, commit=beyond)])


def newer_entry(node: BesiegedNode, peer: HostilePeer) -> bytes:
    """From a leader of a later term; committed, it would end each node, at each start."""
    status = node.running.status()
    data = encode_proposal(ProposalId(peer.node_id, 1, 1), NEWER)
    append = peer.message(
        MessageType.APP,
        term=status.term + 1,
        index=status.last_index,
        log_term=status.term,
        entries=(Entry(status.term, status.last_index + 1, data=data),),
        commit=status.last_index + 1,
    )
    return encode_messages([append])


def large_command(node: BesiegedNode, peer: HostilePeer) -> bytes:
    """Its entry would fit into no frame: the leader could send it to nobody, and nothing behind it."""
    command = bytes(MAX_FRAME_BYTES - FRAME_OVERHEAD_BYTES)
    return encode_forward(Forward(term(node), ((ProposalId(peer.node_id, 1, 1), command),)))


def many_commands(node: BesiegedNode, peer: HostilePeer) -> bytes:
    ids = [ProposalId(peer.node_id, 1, i) for i in range(MAX_FORWARDED + 1)]
    return encode_forward(Forward(term(node), tuple([(i, b"forged") for i in ids])))


ATTEMPTS: list[Attempt] = [
    ("term", lambda node, peer: encode_messages([peer.message(MessageType.HEARTBEAT, term=2**63 - 1)])),
    ("term", lambda node, peer: encode_messages([peer.message(MessageType.VOTE, term=2**62, log_term=1)])),
    (
        "term",
        lambda node, peer: encode_messages(
            [peer.message(MessageType.PRE_VOTE_RESP, term=2**62, reject=True)]
        ),
    ),
    # A follower takes this for the word of a leader that knows of entries which it has lost.
    (
        "index",
        lambda node, peer: encode_messages(
            [peer.message(MessageType.HEARTBEAT, term=term(node), commit=2**62)]
        ),
    ),
    (
        "index",
        lambda node, peer: encode_messages(
            [peer.message(MessageType.APP, term=term(node), index=2**62, log_term=1)]
        ),
    ),
    ("entry", large_entry),
    ("newer_version", newer_entry),
    (
        "context",
        lambda node, peer: encode_messages(
            [peer.message(MessageType.READ_INDEX, context=bytes(CONTEXT_BYTES + 1))]
        ),
    ),
    ("not_leader", one_entry_is_lost),
    (
        "not_leader",
        lambda node, peer: encode_messages([peer.message(MessageType.TIMEOUT_NOW, term=term(node))]),
    ),
    ("protocol", many_commands),
]


@pytest.mark.parametrize("role", ["joiner", "member"])
async def test_nothing_impossible_is_taken_over(tmp_path: Path, role: str) -> None:
    """Each is refused with its reason; nobody ends, now or at the next start; no datum, no term changes."""
    async with besieged(tmp_path) as siege:
        terms = siege.terms()
        for node in (await siege.leader(), await siege.follower()):
            to = node.config.node_id
            peer = siege.member(to) if role == "member" else await siege.joiner(to)
            for reason, attempt in ATTEMPTS:
                before = node.running.measures().refusals
                async with peer.speaking() as stream:
                    assert stream.refusal is None
                    await stream.send(attempt(node, peer))
                    await siege.until_refused(node, reason, before[reason])
        await siege.check_unharmed(terms=terms)
        assert all(node.running.lost_entries is None for node in siege.nodes.values())
        await siege.check_starts_again()


async def test_nodes_whose_terms_a_member_takes_apart_meet_again(tmp_path: Path) -> None:
    """It raises the term of one of them, as often as that one lets it, and says nothing to the other one."""
    async with besieged(tmp_path) as siege:
        node = await siege.follower()
        peer = siege.member(node.config.node_id)
        goal = term(node) + 3 * MAX_TERM_STEP

        def raised() -> Message:
            return peer.message(MessageType.VOTE_RESP, term=term(node) + MAX_TERM_STEP, reject=True)

        async with peer.speaking() as stream:
            while term(node) < goal:
                await stream.say(*[raised()] * 100)
                assert term(node) < goal + 2 * MAX_TERM_STEP
        await siege.check_unharmed()
        assert min(siege.terms().values()) >= goal
        await siege.check_starts_again()


@pytest.mark.parametrize("role", ["joiner", "member"])
async def test_a_leader_appends_no_entry_that_it_could_not_send(tmp_path: Path, role: str) -> None:
    """It refuses the command, and goes on replicating."""
    async with besieged(tmp_path) as siege:
        leader = await siege.leader()
        to = leader.config.node_id
        peer = siege.member(to) if role == "member" else await siege.joiner(to)
        last_index = leader.running.status().last_index
        async with peer.speaking() as stream:
            await stream.send(large_command(leader, peer))
            await siege.until(lambda: leader.running.measures().refusals["command"] == 1)
            change = ForwardChange(term(leader), ProposalId(peer.node_id, 1, 2), bytes(2**21))
            await stream.send(encode_forward_change(change))
            await siege.propose(b"later")
        assert leader.running.status().last_index == last_index + 1
        await siege.check_unharmed()


@pytest.mark.parametrize("role", ["joiner", "member"])
async def test_a_leader_appends_no_command_that_it_could_not_apply(tmp_path: Path, role: str) -> None:
    """What is forwarded with it is appended; nobody ends, now or at the next start."""
    async with besieged(tmp_path) as siege:
        leader = await siege.leader()
        to = leader.config.node_id
        peer = siege.member(to) if role == "member" else await siege.joiner(to)
        commands = [(ProposalId(peer.node_id, 1, i), c) for i, c in enumerate((b"known", NEWER))]
        async with peer.speaking() as stream:
            await stream.send(encode_forward(Forward(term(leader), tuple(commands))))
            await siege.until(lambda: leader.running.measures().refusals["newer_version"] == 1)
            siege.acknowledged.append(b"known")
        await siege.check_unharmed()
        await siege.check_starts_again()


async def test_a_command_as_large_as_allowed_is_replicated(tmp_path: Path) -> None:
    """The largest that a configuration may allow, whichever node takes it: its entry fits into a frame."""
    largest = MAX_ENTRY_BYTES - 4096
    async with besieged(tmp_path, max_command_bytes=largest) as siege:
        for node in (await siege.leader(), await siege.follower()):
            command = bytes([node.config.node_id]) * largest
            await node.running.propose(command)
            siege.acknowledged.append(command)
        await siege.check_unharmed()
        await siege.check_starts_again()
