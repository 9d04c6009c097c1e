"""A stranger at real nodes: it can say its Hello and its Introduction, and nothing that follows is heard."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.peers.handshake_frames import Purpose
from raftkv_trio.peers.newcomers import Newcomers
from raftkv_trio.peers.peers import Peers
from raftkv_trio.peers.wire import (
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
from raftkv_trio.raft.types import ConfState, Entry, MessageType, Snapshot
from tests.conftest import find_free_ports
from tests.peers.hostile import BesiegedNode, HostilePeer, besieged

pytestmark = pytest.mark.usefixtures("security")

#: What a stranger may try, given the node and the stranger: frames of a member's stream.
Attempt = Callable[[BesiegedNode, HostilePeer], bytes]


def messages(kind: MessageType, term_above: int = 0, **fields: Any) -> Attempt:
    """A message of the node's term, or of one above it, with the best of logs."""

    def attempt(node: BesiegedNode, peer: HostilePeer) -> bytes:
        status = node.running.status()
        term = status.term + term_above
        if kind in (MessageType.VOTE, MessageType.PRE_VOTE):
            return encode_messages(
                [peer.message(kind, term=term, index=status.last_index, log_term=status.term, **fields)]
            )
        return encode_messages([peer.message(kind, term=term, **fields)])

    return attempt


def append(node: BesiegedNode, peer: HostilePeer) -> bytes:
    """An entry that follows this node's last one, and is committed."""
    assert node.parts is not None
    status = node.running.status()
    entry = Entry(status.term, status.last_index + 1, data=encode_proposal(ProposalId(9, 9, 9), b"forged"))
    message = peer.message(
        MessageType.APP,
        term=status.term,
        index=status.last_index,
        log_term=node.parts.raw.raft.log.last_term(),
        entries=(entry,),
        commit=entry.index,
    )
    return encode_messages([message])


def forward(node: BesiegedNode, peer: HostilePeer) -> bytes:
    proposals = ((ProposalId(peer.node_id, 1, 1), b"forged"),)
    return encode_forward(Forward(node.running.status().term, proposals))


def forward_change(node: BesiegedNode, peer: HostilePeer) -> bytes:
    change = MemberChange(Action.ADD, peer.node_id, PeerAddress("127.0.0.1", 1))
    request = ChangeRequest((change,), is_forced=True).encode()
    return encode_forward_change(
        ForwardChange(node.running.status().term, ProposalId(peer.node_id, 1, 1), request)
    )


def refuse(node: BesiegedNode, peer: HostilePeer) -> bytes:
    return encode_refused(Refused(node.running.status().term, (ProposalId(1, 1, 1),), "forged"))


def vouch(node: BesiegedNode, peer: HostilePeer) -> bytes:
    """For itself."""
    return encode_members(Members({peer.node_id: PeerAddress("127.0.0.1", 1)}))


ATTEMPTS: dict[str, Attempt] = {
    "heartbeat-of-the-last-term": lambda node, peer: encode_messages(
        [peer.message(MessageType.HEARTBEAT, term=2**63 - 1)]
    ),
    "heartbeat-of-the-next-term": messages(MessageType.HEARTBEAT, 1),
    "heartbeat-of-this-term": messages(MessageType.HEARTBEAT),
    "append": append,
    "vote": messages(MessageType.VOTE, 1, context=b"CampaignTransfer"),
    "pre-vote": messages(MessageType.PRE_VOTE, 1),
    "timeout-now": messages(MessageType.TIMEOUT_NOW),
    "transfer-leader": messages(MessageType.TRANSFER_LEADER),
    "read-index": lambda node, peer: encode_messages([peer.message(MessageType.READ_INDEX, context=b"r")]),
    "refused-vote": messages(MessageType.VOTE_RESP, 2**40, reject=True),
    "forward": forward,
    "forward-change": forward_change,
    "refused": refuse,
    "members": vouch,
}


def let_all_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the handshake admit strangers, so that the check in front of the core is tried.

    Nor are their streams dropped, as a node does once a second: what is still on the way would be lost.
    """
    monkeypatch.setattr(Peers, "_objection", lambda peers, caller, host: None)
    monkeypatch.setattr(Newcomers, "look", lambda newcomers: None)


@pytest.mark.parametrize("is_let_in", [False, True], ids=["at-the-door", "in-front-of-the-core"])
async def test_a_stranger_is_not_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_let_in: bool
) -> None:
    """Whatever it says: no node ends, now or at its next start, no datum changes, no term moves.

    The metric shows that it was refused: at the handshake, or message by message if that had let it in.
    """
    if is_let_in:
        let_all_in(monkeypatch)
    async with besieged(tmp_path) as siege:
        terms = siege.terms()
        for node in (await siege.leader(), await siege.follower()):
            stranger = siege.stranger(node.config.node_id)
            for attempt in ATTEMPTS.values():
                before = node.running.measures().refusals
                reason = "stranger" if is_let_in else "handshake"
                async with stranger.speaking() as stream:
                    assert (stream.refusal is None) is is_let_in
                    await stream.send(attempt(node, stranger))
                    await siege.until_refused(node, reason, before[reason])
        await siege.check_unharmed(terms=terms)
        await siege.check_starts_again()


async def test_a_stranger_offers_no_snapshot(tmp_path: Path) -> None:
    """It is refused in the handshake: nothing is written, and no transfer under way is displaced."""
    async with besieged(tmp_path) as siege:
        terms = siege.terms()
        stranger = siege.stranger(1)
        snapshot = Snapshot(1000, 1, ConfState(voters=(1, 2, 3)))
        message = stranger.message(MessageType.SNAP, term=terms[1], snapshot=snapshot)
        async with stranger.speaking(purpose=Purpose.SNAPSHOT) as stream:
            assert stream.refusal is not None
            await stream.send(encode_snapshot_frame(SnapshotOffer(message, 10_000_000)))
            await stream.wait_closed()
        assert not list(siege.nodes[1].config.data_dir.glob("snap/*part*"))
        await siege.check_unharmed(terms=terms)


async def test_a_joiner_is_heard_once_the_log_has_added_it(tmp_path: Path) -> None:
    """Before, it is a stranger; and the nodes ask each other about it, and stay as they are."""
    async with besieged(tmp_path) as siege:
        follower = await siege.follower()
        early = siege.stranger(follower.config.node_id, node_id=50)
        async with early.speaking() as stream:
            assert "node 50 is not known to be a member here" in (stream.refusal or "")
        joiner = await siege.joiner(follower.config.node_id, node_id=50)
        async with joiner.speaking() as stream:
            assert stream.refusal is None
            await stream.say(joiner.message(MessageType.VOTE_RESP, term=follower.running.status().term))
        await siege.check_unharmed()


async def test_a_node_that_was_away_follows_a_leader_that_it_never_heard_of(
    tmp_path: Path, security: str
) -> None:
    """Members that it knows confirm the leader, which was added meanwhile; its own word would not do."""
    async with besieged(tmp_path) as siege:
        (port,) = find_free_ports(1)
        addresses = {**siege.addresses, 4: PeerAddress("127.0.0.1", port)}
        leader = await siege.leader()
        change = MemberChange(Action.ADD, 4, addresses[4])
        await leader.running.change_members(ChangeRequest((change,))).wait()
        newcomer = await siege.start(replace(leader.config, node_id=4, members=addresses, join=True))
        await siege.until(lambda: (4, "voter") in [(m.id, m.role) for m in leader.running.members()])
        await leader.running.transfer_leadership(4)
        away = await siege.start(replace(leader.config, node_id=3))
        await siege.until(lambda: away.running.status().leader_id == 4)
        await newcomer.running.propose(b"after all")
        await siege.until(lambda: away.machine.commands == [*siege.acknowledged, b"after all"])
        # A certificate that names the node says that it is of this cluster.
        assert (away.running.measures().refusals["handshake"] > 0) is (security == "tcp")
