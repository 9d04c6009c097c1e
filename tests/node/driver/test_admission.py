"""What may reach the core: each bound, on both sides of it, and who is known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import MAX_ENTRY_BYTES
from raftkv_trio.node.driver.admission import (
    MAX_INDEX_STEP,
    MAX_TERM_GAP,
    MAX_TERM_STEP,
    Admission,
    Position,
    believed,
    objection_to,
)
from raftkv_trio.node.driver.known_nodes import MAX_NEWCOMERS, KnownNodes
from raftkv_trio.node.reads import CONTEXT_BYTES
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.peers.outbox import Item
from raftkv_trio.peers.refusals import Refusal, Refusals
from raftkv_trio.peers.wire import Forward, Members, MembersQuery, Refused
from raftkv_trio.raft.confchange import ConfChangeSingle, ConfChangeType, ConfChangeV2, conf_change_entry
from raftkv_trio.raft.errors import PeerNotFound
from raftkv_trio.raft.types import ConfState, Entry, Message, MessageType, Snapshot
from tests.node.clocks import StillClock
from tests.raft.cores import adding, three

OWN = Position(term=7, last_index=100, leader_id=2, max_term=7 + MAX_TERM_STEP)
APP = Message(type=MessageType.APP, to=1, from_=2, term=7, index=100, log_term=7, commit=100)


def reason(message: Message, own: Position = OWN) -> Refusal | None:
    objection = objection_to(message, own)
    return None if objection is None else objection.reason


@pytest.mark.parametrize(
    ("field", "bound", "refusal"),
    [
        ("term", OWN.term + MAX_TERM_GAP, Refusal.TERM),
        ("log_term", OWN.term + MAX_TERM_STEP, Refusal.TERM),
        ("index", OWN.last_index + MAX_INDEX_STEP, Refusal.INDEX),
        ("commit", OWN.last_index + MAX_INDEX_STEP, Refusal.INDEX),
        ("reject_hint", OWN.last_index + MAX_INDEX_STEP, Refusal.INDEX),
    ],
)
@pytest.mark.parametrize("kind", [MessageType.APP, MessageType.HEARTBEAT, MessageType.VOTE_RESP])
def test_numbers_have_bounds(kind: MessageType, field: str, bound: int, refusal: Refusal) -> None:
    """A node that lags by any possible number takes the message. One above that is refused."""
    message = replace(APP, type=kind)
    setattr(message, field, bound)
    assert reason(message) is None
    setattr(message, field, bound + 1)
    assert reason(message) is refusal


@pytest.mark.parametrize("kind", [MessageType.VOTE, MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP])
def test_who_asks_for_votes_tells_no_term_that_is_out_of_reach(kind: MessageType) -> None:
    """Its sender may not be in the term that it names."""
    message = replace(APP, type=kind, term=OWN.max_term)
    assert reason(message) is None
    assert reason(replace(message, term=OWN.max_term + 1)) is Refusal.TERM


def test_a_new_node_takes_the_term_of_any_cluster() -> None:
    """The bound is the same as for all nodes: no cluster is so old that it is in a later term."""
    new = Position(term=0, last_index=0, leader_id=None, max_term=MAX_TERM_STEP)
    assert reason(replace(APP, term=MAX_TERM_GAP), new) is None
    assert reason(replace(APP, term=MAX_TERM_GAP + 1), new) is Refusal.TERM


def test_a_node_goes_towards_a_far_term_tick_by_tick() -> None:
    """However many messages there are in a tick."""
    follower = Follower()
    begun_in = follower.raw.term
    far = replace(APP, term=begun_in + 5 * MAX_TERM_STEP // 2)
    for ticks in (1, 2):
        for _ in range(3):
            assert follower.admission.admits(2, far)
            term = follower.admission.term_on_the_way(far)
            assert term == begun_in + ticks * MAX_TERM_STEP
            follower.raw.enter_term(term)
        follower.admission.tick()
    assert follower.raw.term == begun_in + 2 * MAX_TERM_STEP
    assert follower.raw.leader_id is None
    assert follower.admission.term_on_the_way(far) is None
    follower.raw.enter_term(begun_in)
    assert follower.raw.term == begun_in + 2 * MAX_TERM_STEP


def test_a_snapshot_has_bounds() -> None:
    """Those of all terms and indexes."""
    for index, term, refusal in (
        (OWN.last_index + MAX_INDEX_STEP, OWN.term + MAX_TERM_STEP, None),
        (OWN.last_index + MAX_INDEX_STEP + 1, 7, Refusal.INDEX),
        (101, OWN.term + MAX_TERM_STEP + 1, Refusal.TERM),
    ):
        snapshot = Snapshot(index, term, ConfState(voters=(1, 2)))
        assert reason(replace(APP, type=MessageType.SNAP, snapshot=snapshot)) is refusal


def test_sizes_have_bounds() -> None:
    """An entry that no command makes, and a context that no read makes, are refused."""
    for size, refusal in ((MAX_ENTRY_BYTES, None), (MAX_ENTRY_BYTES + 1, Refusal.ENTRY)):
        assert reason(replace(APP, entries=(Entry(7, 101), Entry(7, 102, data=bytes(size))))) is refusal
    for size, refusal in ((CONTEXT_BYTES, None), (CONTEXT_BYTES + 1, Refusal.CONTEXT)):
        assert reason(replace(APP, type=MessageType.READ_INDEX, term=0, context=bytes(size))) is refusal


def test_only_the_leader_has_a_node_campaign() -> None:
    """The one of the present term."""
    asked = replace(APP, type=MessageType.TIMEOUT_NOW)
    assert reason(asked) is None
    for other in (replace(asked, from_=3), replace(asked, term=8), replace(asked, term=6)):
        assert reason(other) is Refusal.NOT_LEADER


@pytest.mark.parametrize("kind", [MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP])
def test_a_term_has_one_leader(kind: MessageType) -> None:
    """The first one that has spoken as such; a leader hears of no other one in its term."""
    message = replace(APP, type=kind)
    assert reason(message) is None
    second = replace(message, from_=3)
    assert reason(second) is Refusal.NOT_LEADER
    assert reason(second, OWN._replace(leader_id=None)) is None
    assert reason(replace(second, term=8)) is None
    # It hears in the answer that its term is over.
    assert reason(replace(second, term=6)) is None


def test_only_the_known_leader_tells_that_entries_are_lost() -> None:
    """The first word of a leader makes it known, and no more."""
    beyond = replace(APP, type=MessageType.HEARTBEAT, commit=OWN.last_index + 1)
    assert believed(beyond, OWN) == beyond
    for own in (OWN._replace(leader_id=None), OWN._replace(term=6), OWN._replace(term=6, leader_id=None)):
        assert believed(beyond, own) == replace(beyond, commit=0)
    within = replace(beyond, commit=OWN.last_index)
    assert believed(within, OWN._replace(leader_id=None)) == within


@pytest.mark.parametrize("kind", [MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP])
def test_a_learner_has_no_vote(kind: MessageType) -> None:
    """Nor may it tell with one what is committed."""
    follower = Follower()
    learner = ConfChangeSingle(ConfChangeType.ADD_LEARNER, 3)
    answer = Message(type=kind, to=1, from_=3, term=follower.raw.term, index=1, log_term=1)
    assert follower.admission.admits(3, answer)
    follower.raw.apply_conf_change(ConfChangeV2((learner,)))
    assert not follower.admission.admits(3, answer)
    assert follower.refusals.counts["not_voter"] == 1


# ---------------------------------------------------------------- who is known


class Sent:
    """What is sent to whom."""

    def __init__(self) -> None:
        self.items: list[tuple[int, Item]] = []

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        self.items += [(peer_id, item) for item in items]
        return True

    def send_snapshot(self, message: Message) -> bool:
        raise NotImplementedError("nobody needs one here")

    def highest_level(self, peer_id: int) -> int | None:
        return None


def address(node_id: int) -> PeerAddress:
    return PeerAddress("127.0.0.1", node_id)


class Follower:
    """Core 1 of three, of which node 2 leads, and what stands in front of it."""

    def __init__(self, configured: Sequence[int] = (1, 2, 3), entries: Sequence[Entry] = ()) -> None:
        network = three()
        network.elect(2)
        self.raw = network[1].raw
        self.sent = Sent()
        self.confirmed: dict[int, PeerAddress] = {}
        self.known = KnownNodes(
            self.raw,
            configured=configured,
            entries=entries,
            envelope=Envelope.of({i: address(i) for i in (1, 2, 3)}),
            confirmed=self._confirm,
        )
        self.refusals = Refusals(StillClock())
        self.admission = Admission(self.raw, self.known, self.refusals)

    def _confirm(self, by: int, addresses: Mapping[int, PeerAddress]) -> None:
        self.confirmed.update(addresses)

    def admits(self, peer_id: int) -> bool:
        message = replace(
            APP, from_=peer_id, term=self.raw.term, type=MessageType.PRE_VOTE, index=0, commit=0
        )
        return self.admission.admits(peer_id, message)


def test_a_stranger_says_nothing() -> None:
    """Not one of the frames that there are; each is counted, and makes the node ask the members it knows."""
    follower = Follower()
    for said in (
        replace(APP, from_=9),
        Forward(7, ((ProposalId(9, 1, 1), b"command"),)),
        Refused(7, (ProposalId(1, 1, 1),), "reason"),
        MembersQuery(),
        Members({9: address(9)}),
    ):
        assert not follower.admission.admits(9, said)
    assert follower.refusals.counts["stranger"] == 5
    follower.known.tick(follower.sent)
    assert follower.sent.items == [(2, MembersQuery()), (3, MembersQuery())]
    follower.known.tick(follower.sent)
    assert len(follower.sent.items) == 2  # nobody has come since


def test_a_known_node_confirms_another_one() -> None:
    """From then on it is known, and its address; until the one that has said so is removed."""
    follower = Follower()
    assert not follower.admits(4)
    follower.known.told(3, Members({i: address(i) for i in (1, 2, 3, 4)}))
    assert follower.admits(4)
    assert follower.confirmed == {4: address(4)}
    follower.known.told(3, Members({}))
    assert not follower.admits(4)
    follower.known.told(3, Members({4: address(4)}))
    members = Envelope.of({1: address(1), 2: address(2)}).members
    follower.known.envelope = Envelope(members=members, removed={3: 17})
    follower.known.tick(follower.sent)
    assert not follower.admits(4)


def test_nobody_stays_known_by_words_that_hang_on_itself() -> None:
    """Nodes 8 and 9 name themselves and each other; node 3 had named one of them, and takes that back."""
    follower = Follower()
    assert not follower.admits(8)
    assert not follower.admits(9)
    both = Members({i: address(i) for i in (8, 9)})
    follower.known.told(3, Members({9: address(9)}))
    assert follower.admits(9)
    follower.known.told(9, both)
    follower.known.told(8, both)
    assert follower.admits(8)
    follower.known.told(3, Members({}))
    assert not follower.admits(8)
    assert not follower.admits(9)


def test_only_nodes_that_have_come_are_named() -> None:
    """Whoever was not asked about stays a stranger, and is not dialled; and only so many may come."""
    follower = Follower()
    everybody = Members({i: address(i) for i in range(1, 1000)})
    follower.known.told(3, everybody)
    assert not follower.confirmed
    assert not follower.admits(4)
    follower.known.told(3, everybody)
    assert follower.confirmed == {4: address(4)}
    for node_id in range(100, 1000):
        assert not follower.admits(node_id)
    follower.known.told(3, everybody)
    assert len(follower.confirmed) == 1 + MAX_NEWCOMERS


def test_a_node_is_known_by_the_secret_while_it_is_connected() -> None:
    """Nobody is asked about it. Once it was removed, the secret does not help it."""
    follower = Follower()
    follower.known.proved(4)
    assert follower.admits(4)
    follower.known.tick(follower.sent)
    assert not follower.sent.items
    follower.known.parted(4)
    assert not follower.admits(4)
    follower.known.proved(4)
    follower.known.envelope = Envelope(members=follower.known.envelope.members, removed={4: 17})
    assert not follower.admits(4)


def test_a_removed_node_is_not_known_by_the_word_of_others() -> None:
    """Nor because this process was configured with it; and nobody is asked about it."""
    follower = Follower(configured=(1, 2, 3, 4))
    assert follower.admits(4)
    follower.known.envelope = Envelope(members=follower.known.envelope.members, removed={4: 17})
    follower.known.told(3, Members({4: address(4)}))
    assert not follower.admits(4)
    assert not follower.confirmed
    follower.known.tick(follower.sent)
    assert not follower.sent.items


def test_late_messages_of_a_removed_member_are_no_reason_for_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are dropped, uncounted, whether the driver or the core has heard of the removal first."""
    follower = Follower()
    answer = Message(type=MessageType.APP_RESP, to=1, from_=3, term=follower.raw.term, index=1)
    removal = ConfChangeSingle(ConfChangeType.REMOVE, 3)
    follower.raw.apply_conf_change(ConfChangeV2((removal,)))
    members = {i: member for i, member in follower.known.envelope.members.items() if i != 3}
    follower.known.envelope = Envelope(members=members, removed={3: 17})
    assert not follower.admission.admits(3, answer)
    follower.admission.refused_by_core(3, answer, PeerNotFound("node 3 is no member"))
    assert (follower.refusals.counts["stranger"], caplog.messages) == (0, [])
    assert not follower.admission.admits(9, replace(answer, from_=9))
    assert caplog.messages == ["refused: an APP_RESP message of node 9, which is not known to be a member"]


def test_a_node_in_the_log_is_known_until_its_entry_is_applied() -> None:
    """On another node the change may be in force already. What makes no change names nobody."""
    change = conf_change_entry(adding(4))
    behind = Follower().raw.last_index + 1
    follower = Follower(entries=[Entry(7, behind, change.type, change.data)])
    assert follower.admits(4)
    follower.known.appended([Entry(7, 200, change.type, b"\xff"), Entry(7, 201, data=change.data)])
    follower = Follower(entries=[Entry(1, 2, change.type, change.data)])
    assert follower.raw.applied >= 2
    follower.known.tick(follower.sent)
    assert not follower.admits(4)


def test_the_members_are_told_to_who_asks() -> None:
    """As they are applied here."""
    follower = Follower()
    follower.known.asked(3, follower.sent)
    assert follower.sent.items == [(3, Members({i: address(i) for i in (1, 2, 3)}))]


def test_who_does_not_lead_refuses_nothing() -> None:
    """Else a proposal could be sent again although the leader has appended it."""
    follower = Follower()
    refused = Refused(follower.raw.term, (ProposalId(1, 1, 1),), "reason")
    assert follower.admission.admits(2, refused)
    assert not follower.admission.admits(3, refused)
    assert follower.admission.admits(3, refused._replace(term=refused.term - 1))
    assert follower.refusals.counts["not_leader"] == 1
