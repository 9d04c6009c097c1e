"""Messages drawn from a stranger, a joiner and a member, at real nodes over real connections.

`tests/node/driver/test_admission_drawn.py` is the same at a core alone. A failure names the seed.

A cluster with one lying voter stays safe if two quorums always share another voter. So against the member
three nodes of four run, and against the others two of three.
"""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from raftkv_trio.errors import DecodeError
from raftkv_trio.node.driver.admission import MAX_TERM_STEP
from raftkv_trio.payload.entries import check_entries
from raftkv_trio.raft.types import Message, MessageType
from tests.peers.drawn import Drawn, drawn_messages
from tests.peers.hostile import PATIENCE_S, BesiegedNode, HostilePeer, Siege, besieged
from tests.peers.test_strangers import let_all_in

BATCH = 250
#: So many show each kind of refusal; fewer, over TLS, show that there are refusals.
MANY = 500
#: So many messages are sent on a connection on which the node has refused to listen.
UNHEARD = 10
#: These do not travel on a stream, nor does any message with a snapshot.
NO_TRAVELLERS = (MessageType.PROP, MessageType.SNAP)
SUPERSEDED = (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP, MessageType.READ_INDEX, MessageType.APP_RESP)
ROLES = pytest.mark.parametrize("role", ["stranger", "stranger that is let in", "joiner", "member"])


def ends_connection(message: Message) -> bool:
    """Whether a node reads nothing that follows this message on the connection."""
    try:
        check_entries(message.entries)
    except DecodeError:
        return True
    return message.type in NO_TRAVELLERS or message.snapshot is not None


async def say(peer: HostilePeer, node: BesiegedNode, drawn: Sequence[Drawn]) -> None:
    """Send these on as few connections as the node allows, and return when it has read all that it will."""
    left = list(reversed(drawn))
    while left:
        async with peer.speaking() as stream:
            is_heard, said = stream.refusal is None, 0
            while left:
                message = left.pop().message(peer, node)
                await stream.say(message)
                said += 1
                if ends_connection(message) if is_heard else said == UNHEARD:
                    break
            await stream.end()


async def check_batch(siege: Siege) -> None:
    """Honest clients write and read at every node, all have the same, and no directory is marked."""
    await siege.check_unharmed()
    with trio.fail_after(PATIENCE_S):
        for node in siege.nodes.values():
            await node.running.wait_readable()
    for node in siege.nodes.values():
        assert node.running.lost_entries is None
        assert not [name for name in ("lost", "removed") if (node.config.data_dir / name).exists()]


async def attack(directory: Path, role: str, drawn: Sequence[Drawn]) -> Counter[str]:
    """Say these to a leader and a follower in turn; returns what all nodes have refused, by reason."""
    refused: Counter[str] = Counter()
    async with besieged(directory, running=3 if role == "member" else 2) as siege:
        batch = min(BATCH, len(drawn) // 2)
        for number, begin in enumerate(range(0, len(drawn), batch)):
            node = await (siege.follower() if number % 2 else siege.leader())
            to = node.config.node_id
            if role == "joiner":
                peer = await siege.joiner(to)
            else:
                peer = siege.member(to) if role == "member" else siege.stranger(to)
            terms = siege.terms()
            await say(peer, node, drawn[begin : begin + batch])
            await check_batch(siege)
            if "stranger" in role:
                assert siege.terms() == terms
            assert max(siege.terms().values()) <= max(terms.values()) + BATCH * MAX_TERM_STEP
        for node in siege.nodes.values():
            refused.update(node.running.measures().refusals)
        await siege.check_starts_again()
    return refused


async def check(directory: Path, role: str, count: int, caplog: pytest.LogCaptureFixture) -> None:
    """Attack, and look for what was refused in the metric and the log."""
    seed = random.getrandbits(32)
    drawn = drawn_messages(count, seed)
    try:
        refused = await attack(directory, role, drawn)
    except BaseException as error:
        error.add_note(f"the messages were drawn with seed {seed}")
        raise
    if role == "stranger":
        assert refused["handshake"] >= count // UNHEARD
        assert set(+refused) == {"handshake"}
        assert "node 99 is not known to be a member here" in caplog.text
        return
    if role != "stranger that is let in" and count < MANY:
        assert {*+refused} & {"protocol", "term", "index", "not_leader"}
        return
    assert "refused: " in caplog.text
    assert "broke the protocol" in caplog.text
    if role == "stranger that is let in":
        # Each one, but those that a later one has superseded before any was looked at.
        superseded = sum(message.type in SUPERSEDED for message in drawn)
        assert count - superseded <= refused["stranger"] + refused["protocol"] <= count
        assert set(+refused) == {"stranger", "protocol"}
    else:
        assert {"protocol", "term", "index", "not_leader"} <= set(+refused)


@pytest.mark.usefixtures("unpaced", "security")
@ROLES
@pytest.mark.parametrize(
    ("security", "count"),
    [
        ("tcp", MANY),
        ("mtls", 100),
        pytest.param("tcp", 10_000, marks=pytest.mark.long),
        pytest.param("mtls", 10_000, marks=pytest.mark.long),
    ],
    indirect=["security"],
)
async def test_drawn_messages(
    tmp_path: Path,
    role: str,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ignored or refused: clients are served, nothing is lost, and a stranger moves no term."""
    if role == "stranger that is let in":
        let_all_in(monkeypatch)
    await check(tmp_path, role, count, caplog)
