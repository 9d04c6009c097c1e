"""Messages that no correct member sends: a typed error that changes nothing, or an answer as etcd's."""

import copy
import random
from collections import Counter
from itertools import pairwise

from raftkv_trio.errors import RaftError
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.types import ConfState, Entry, EntryType, Message, MessageType, Snapshot, StateRole
from tests.raft.cores import Core, three

MESSAGES = 10_000
TRAVELLING = [
    MessageType.APP,
    MessageType.APP_RESP,
    MessageType.VOTE,
    MessageType.VOTE_RESP,
    MessageType.PRE_VOTE,
    MessageType.PRE_VOTE_RESP,
    MessageType.SNAP,
    MessageType.HEARTBEAT,
    MessageType.HEARTBEAT_RESP,
    MessageType.TIMEOUT_NOW,
    MessageType.TRANSFER_LEADER,
    MessageType.READ_INDEX,
    MessageType.READ_INDEX_RESP,
    MessageType.PROP,
]


def fingerprint(raw: RawNode) -> object:
    """All that a message could change."""
    raft = raw.raft
    return (
        raw.status(),
        raft.log.slice(raft.log.first_index(), raft.log.last_index() + 1, None),
        raft.log.unstable.snapshot,
        dict(raft.tracker.votes),
        repr(raft.messages),
        repr(raft.after_append),
        list(raft.read_states),
        raft.pending_conf_index,
        raft.uncommitted_bytes,
    )


def number(rng: random.Random, near: int) -> int:
    return rng.choice([near, near + 1, near - 1, 0, 1, -1, 2**31, 2**62, 2**63, 2**64, -(2**63)])


def random_entries(rng: random.Random, core: Core, index: int) -> tuple[Entry, ...]:
    """Entries that may follow `index`, or may not."""
    count = rng.choice([0, 0, 1, 3])
    return tuple(
        [
            Entry(
                number(rng, core.raw.term),
                index + 1 + position if rng.random() < 0.8 else number(rng, index),
                rng.choice(list(EntryType)),
                rng.randbytes(rng.randrange(12)),
            )
            for position in range(count)
        ]
    )


def random_snapshot(rng: random.Random, core: Core) -> Snapshot | None:
    if rng.random() < 0.3:
        return None
    voters, learners, outgoing, learners_next = [
        tuple(rng.choices([0, 1, 2, 3, 4, -1], k=rng.randrange(4))) for _ in range(4)
    ]
    conf_state = ConfState(voters, learners, outgoing, learners_next, rng.random() < 0.5)
    return Snapshot(number(rng, core.raw.last_index), number(rng, core.raw.term), conf_state)


def random_message(rng: random.Random, core: Core) -> Message:
    """One that a member could have sent, and then some of its fields replaced."""
    raw = core.raw
    index = rng.choice([raw.last_index, raw.commit])
    sender = rng.choice([node_id for node_id in (1, 2, 3) if node_id != core.id])
    message = Message(
        type=rng.choice(TRAVELLING), to=core.id, from_=sender, term=raw.term, index=index, commit=raw.commit
    )
    if 0 < index <= raw.last_index:
        message.log_term = raw.raft.log.term(index)
    nonsense: dict[str, object] = {
        "type": rng.choice(list(MessageType)),
        "to": rng.choice([0, 9]),
        "from_": rng.choice([core.id, 4, 0, -1, -2, -3, 2**64]),
        "term": number(rng, raw.term),
        "log_term": number(rng, raw.term),
        "index": number(rng, index),
        "entries": random_entries(rng, core, index),
        "commit": number(rng, raw.commit),
        "vote": rng.choice([0, 1, 9]),
        "snapshot": random_snapshot(rng, core),
        "reject": True,
        "reject_hint": number(rng, raw.last_index),
        "context": rng.choice([b"CampaignTransfer", rng.randbytes(8), bytes(7) + b"\x01"]),
    }
    for field in rng.sample(sorted(nonsense), rng.randrange(1, 4)):
        setattr(message, field, nonsense[field])
    return message


def core_in_role(role: StateRole) -> Core:
    """A core of three, in this role, with some committed entries, one that is not, and a read that waits."""
    network = three()
    network.elect(1)
    network.propose(1, b"one", b"two")
    core = network[1] if role is StateRole.LEADER else network[2]
    if role is StateRole.LEADER:
        network.isolated = {2, 3}
        network.propose(1, b"three")
        core.raw.read_index(b"read")
    elif role in (StateRole.CANDIDATE, StateRole.PRE_CANDIDATE):
        network.isolated = {2}
        core.raw.campaign()
        if role is StateRole.CANDIDATE:
            core.raw.step(Message(type=MessageType.PRE_VOTE_RESP, to=2, from_=3, term=core.raw.term + 1))
            core.hand_out()
            while core.writes:
                core.write()
    assert core.raw.role is role
    return core


def check_unharmed(core: Core, committed: list[Entry]) -> None:
    """What holds for every core, after any messages."""
    raw, log = core.raw, core.raw.raft.log
    assert log.applied <= log.applying <= log.committed <= log.last_index()
    assert 0 <= raw.term < 2**63
    entries = core.log
    assert [entry.index for entry in entries] == list(range(log.first_index(), log.last_index() + 1))
    assert all(one.term <= two.term <= raw.term for one, two in pairwise(entries))
    if log.first_index() <= 2:
        assert entries[: len(committed)] == committed
    if raw.role is StateRole.LEADER:
        progress = raw.status().progress
        assert all(p.match < p.next and p.match <= log.last_index() for p in progress.values())


def test_ten_thousand_hostile_messages() -> None:
    """Each is refused with a typed error and changes nothing, or leaves a core that keeps its invariants."""
    rng = random.Random(11)
    outcomes: Counter[str] = Counter()
    for _ in range(MESSAGES // 25):
        role = rng.choice(list(StateRole))
        core = core_in_role(role)
        committed = core.log[: core.raw.commit - 1]
        for _ in range(25):
            message = random_message(rng, core)
            told = copy.deepcopy(message)
            before = fingerprint(core.raw)
            outcome = step(core, message)
            outcomes[outcome] += 1
            if outcome == "accepted":
                check_unharmed(core, committed)
            else:
                assert fingerprint(core.raw) == before, f"{told} raised {outcome}, and changed something"
    assert sum(outcomes.values()) == MESSAGES
    assert min(outcomes[kind] for kind in ("LocalMessage", "InvalidMessage", "PeerNotFound")) > 100, outcomes
    assert outcomes["accepted"] > MESSAGES // 4, outcomes


def step(core: Core, message: Message) -> str:
    try:
        core.raw.step(message)
    except RaftError as error:
        return type(error).__name__
    return "accepted"
