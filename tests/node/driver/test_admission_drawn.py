"""Messages drawn from a stranger, a joiner and a member, at a core and what stands in front of it."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftkv_trio.errors import RaftError
from raftkv_trio.node.driver.admission import MAX_TERM_STEP, Admission
from raftkv_trio.node.driver.known_nodes import KnownNodes
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.refusals import Refusals
from raftkv_trio.raft.confchange import conf_change_entry
from raftkv_trio.raft.types import ConfState, Entry, EntryType, Message, Snapshot, StateRole
from tests.node.clocks import StillClock
from tests.node.driver.test_admission import address
from tests.raft.cores import adding
from tests.raft.test_hostile import TRAVELLING, check_unharmed, core_in_role, fingerprint

STRANGER, JOINER = 99, 4
MESSAGES_EACH = 25

#: A number relative to the node's own: near it, at the bounds, at the ends of what the wire carries.
NUMBERS = st.sampled_from([0, 1, 2, 5, 2**31, 2**32, 2**32 + 1, 2**48, 2**48 + 1, 2**62, 2**63 - 1])
ENTRIES = st.lists(
    st.builds(Entry, NUMBERS, NUMBERS, st.sampled_from(EntryType), st.binary(max_size=40)), max_size=3
).map(tuple)
SNAPSHOTS = st.builds(
    Snapshot,
    NUMBERS,
    NUMBERS,
    st.builds(ConfState, st.lists(st.integers(0, 5), max_size=4).map(tuple)),
)
MESSAGES = st.builds(
    Message,
    to=st.just(0),
    from_=st.just(0),
    type=st.sampled_from(TRAVELLING),
    term=NUMBERS,
    log_term=NUMBERS,
    index=NUMBERS,
    commit=NUMBERS,
    reject_hint=NUMBERS,
    commit_term=NUMBERS,
    reject=st.booleans(),
    entries=ENTRIES,
    snapshot=st.none() | SNAPSHOTS,
    context=st.binary(max_size=30) | st.just(b"CampaignTransfer"),
)
ROLES = pytest.mark.parametrize("sender", [STRANGER, JOINER, 3], ids=["stranger", "joiner", "member"])


def attack(sender: int, role: StateRole, drawn: list[Message]) -> None:
    """Give a core these messages, as the driver does; each leaves it whole, or as it was."""
    core = core_in_role(role)
    if sender == core.id:
        sender = 1
    raw, change = core.raw, conf_change_entry(adding(JOINER))
    known = KnownNodes(
        raw,
        configured=(1, 2, 3),
        entries=[Entry(1, 2**20, change.type, change.data)],
        envelope=Envelope.of({i: address(i) for i in (1, 2, 3)}),
        confirmed=lambda by, addresses: None,
    )
    refusals = Refusals(StillClock())
    admission = Admission(raw, known, refusals)
    committed = core.log[: raw.commit - 1]
    for fields in drawn:
        message = replace(fields, to=core.id, from_=sender)
        before, term, refused = fingerprint(raw), raw.term, sum(refusals.counts.values())
        if admission.admits(sender, message):
            try:
                if (later := admission.term_on_the_way(message)) is not None:
                    raw.enter_term(later)
                else:
                    raw.step(admission.believed(message))
            except RaftError as error:
                admission.refused_by_core(sender, message, error)
        if sum(refusals.counts.values()) > refused:
            assert fingerprint(raw) == before, f"{message} was refused, and has changed something"
        assert sender != STRANGER or fingerprint(raw) == before
        assert raw.term <= term + MAX_TERM_STEP
        check_unharmed(core, committed)


CASES = given(role=st.sampled_from(StateRole), drawn=st.lists(MESSAGES, min_size=1, max_size=MESSAGES_EACH))


@ROLES
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@CASES
def test_drawn_messages(sender: int, role: StateRole, drawn: list[Message]) -> None:
    """Ignored, or refused with a reason that is counted; a stranger changes nothing at all."""
    attack(sender, role, drawn)


@pytest.mark.long
@ROLES
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@CASES
def test_ten_thousand_drawn_messages(sender: int, role: StateRole, drawn: list[Message]) -> None:
    """The same, ten thousand of each."""
    attack(sender, role, drawn)
