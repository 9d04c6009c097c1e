"""Each invariant can break: the checker, given what must not be, says which one it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.raft.confchange import ConfChangeSingle, ConfChangeType, ConfChangeV2, conf_change_entry
from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.types import (
    APPEND_THREAD,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
    StateRole,
)
from raftkv_trio.state_machine import Committed
from raftkv_trio.testing.campaign.seeds import SeedRun, run_schedule
from raftkv_trio.testing.histories.store_requests import (
    StoreGet,
    StoreGetAnswer,
    StorePut,
    StorePutAnswer,
    StoreRecord,
    StoreTxn,
    StoreTxnAnswer,
)
from raftkv_trio.testing.invariants import violation as named
from raftkv_trio.testing.invariants.invariants import Invariants
from raftkv_trio.testing.invariants.violation import Violation
from raftkv_trio.testing.planted import replaced
from raftkv_trio.testing.schedules.draw import draw_schedule
from raftkv_trio.testing.schedules.schedule import Schedule
from raftkv_trio.testing.simulator.simulation import Simulation
from tests.raft.cores import three


def log_of(terms: Sequence[int], first_index: int = 2) -> list[Entry]:
    """Entries of these terms, one each, with proposals of their own."""
    return [
        Entry(term, i, data=encode_proposal(ProposalId(1, term, i), b"%d/%d" % (term, i)))
        for i, term in enumerate(terms, first_index)
    ]


class Watched:
    """Cores of three voters, which a test brings into states that they never reach by themselves."""

    def __init__(self) -> None:
        self.invariants = Invariants()
        self._network = three()

    def start(self, node_id: int, *terms: int, term: int = 1, vote: int | None = None) -> Raft:
        """A node with entries of these terms on its disk, and nothing committed of them."""
        raft = self._network.add(node_id, log_of(terms), HardState(term, vote, 1)).raw.raft
        self.invariants.started(node_id, raft)
        return raft

    def halt(self, raft: Raft) -> None:
        self.invariants.halted(raft.id, raft)

    def restart(self, raft: Raft, commit: int) -> Raft:
        """Let a node end, and start with all its entries, of which `commit` is on its disk."""
        self.halt(raft)
        storage = raft.log.storage
        entries = storage.entries(2, storage.last_index() + 1, None)
        raft = self._network.add(raft.id, entries, HardState(raft.term, raft.vote, commit)).raw.raft
        self.invariants.started(raft.id, raft)
        return raft

    def lead(self, raft: Raft, term: int) -> None:
        """Let a node lead, by the votes of all."""
        for voter in (1, 2, 3):
            self.invariants.voted(voter, term, raft.id)
        raft.term, raft.vote, raft.role = term, raft.id, StateRole.LEADER
        self.invariants.observe(raft.id, raft)

    def append(self, raft: Raft, *changes: ConfChangeSingle) -> None:
        """Let a node hold a conf change in its term, on its disk."""
        entry = conf_change_entry(ConfChangeV2(changes))
        entry = replace(entry, term=raft.term, index=raft.log.last_index() + 1)
        raft.log.append([entry])
        raft.log.storage.append([entry])  # type: ignore[attr-defined]
        self.invariants.observe(raft.id, raft)

    def switch(self, raft: Raft, *voters: int) -> None:
        """Let a node have applied all that it has committed, and these be the voters then."""
        raft.log.applied = raft.log.committed
        raft.tracker.switch(ConfState(voters), raft.log.last_index())
        self.invariants.observe(raft.id, raft)

    def commit(self, raft: Raft, index: int) -> None:
        raft.log.committed = index
        self.invariants.observe(raft.id, raft)

    def apply(self, raft: Raft, index: int, *, command: bytes | None = None, state: str = "state") -> None:
        """Let a node's machine be given an entry's command, or another one."""
        term = raft.log.term(index)
        told = b"%d/%d" % (term, index) if command is None else command
        self.invariants.applied(raft.id, Committed(term, index, told), state)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@contextmanager
def violated(invariant: str) -> Iterator[None]:
    with pytest.raises(Violation) as caught:
        yield
    assert caught.value.invariant == invariant
    assert str(caught.value).startswith(f"{invariant}: ")


def test_two_leaders_of_a_term(watched: Watched) -> None:
    """Election Safety: at most one node leads a term."""
    first, second = watched.start(1), watched.start(2)
    watched.lead(first, 2)
    with violated(named.ELECTION_SAFETY):
        watched.lead(second, 2)


def test_a_leader_that_drops_an_entry(watched: Watched) -> None:
    """Leader Append-Only: a leader's log only grows."""
    raft = watched.start(1)
    watched.lead(raft, 2)
    raft.log.append(log_of((2, 2)))
    watched.invariants.observe(1, raft)
    raft.log.unstable.entries.pop()
    with violated(named.LEADER_APPEND_ONLY):
        watched.invariants.observe(1, raft)


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 2), (2, 2)), ((1, 1, 3), (1, 2, 3))],
)
def test_logs_that_differ_before_an_entry_that_they_share(
    watched: Watched, one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    """Log Matching: logs with an entry of the same index and term are the same up to it."""
    watched.start(1, *one)
    with violated(named.LOG_MATCHING):
        watched.start(2, *other)


def test_another_entry_of_the_same_index_and_term(watched: Watched) -> None:
    """Log Matching: an index and a term name one entry."""
    watched.start(1, 1)
    second = watched.start(2)
    (entry,) = log_of((1,))
    second.log.append([replace(entry, data=b"another")])
    with violated(named.LOG_MATCHING):
        watched.invariants.observe(2, second)


def test_a_leader_without_what_is_committed(watched: Watched) -> None:
    """Leader Completeness: a leader has all that was committed in earlier terms."""
    first, _, third = watched.start(1, 1), watched.start(2, 1), watched.start(3)
    watched.commit(first, 2)
    with violated(named.LEADER_COMPLETENESS):
        watched.lead(third, 2)


def test_a_commit_that_can_still_be_lost(watched: Watched) -> None:
    """Leader Completeness: a node without a committed entry cannot be elected (paper, figure 8)."""
    first, _, _ = watched.start(1, 2, term=3), watched.start(2, 2, term=3), watched.start(3, 3, term=3)
    with violated(named.LEADER_COMPLETENESS):
        watched.commit(first, 2)


def test_a_commit_that_a_minority_has_on_its_disks(watched: Watched) -> None:
    """What is committed is durable on a quorum; entries in memory do not count."""
    first, second, _ = watched.start(1, 1), watched.start(2), watched.start(3)
    second.log.append(log_of((1,)))
    watched.invariants.observe(2, second)
    with violated(named.DURABLE_QUORUM):
        watched.commit(first, 2)


def test_two_commits_of_one_index(watched: Watched) -> None:
    """State Machine Safety: no two nodes commit different entries of an index."""
    first, _ = watched.start(1, 1), watched.start(2, 1)
    watched.commit(first, 2)
    third = watched.start(3, 2, term=2)
    with violated(named.STATE_MACHINE_SAFETY):
        watched.commit(third, 2)


@pytest.mark.parametrize(
    ("index", "command"), [(3, None), (4, None), (2, b"something else")], ids=["gap", "uncommitted", "other"]
)
def test_something_else_than_the_next_committed_command(
    watched: Watched, index: int, command: bytes | None
) -> None:
    """State Machine Safety: a machine is given what is committed, all of it, in order, and nothing else."""
    first, _ = watched.start(1, 1, 1, 1), watched.start(2, 1, 1, 1)
    watched.commit(first, 3)
    with violated(named.STATE_MACHINE_SAFETY):
        watched.apply(first, index, command=command)


def test_a_command_that_is_applied_twice(watched: Watched) -> None:
    """State Machine Safety: a machine is given each command once."""
    first, _ = watched.start(1, 1), watched.start(2, 1)
    watched.commit(first, 2)
    watched.apply(first, 2)
    with violated(named.STATE_MACHINE_SAFETY):
        watched.apply(first, 2)


def test_a_snapshot_of_what_is_not_committed(watched: Watched) -> None:
    """State Machine Safety: no snapshot stands in for entries that are not committed."""
    raft = watched.start(1, 1, 1)
    raft.log.restore(Snapshot(9, 1, raft.conf_state))
    with violated(named.STATE_MACHINE_SAFETY):
        watched.invariants.observe(1, raft)


def test_machines_that_differ(watched: Watched) -> None:
    """Machines that were given the same commands are in the same state, also by way of a snapshot."""
    first, second, third = (watched.start(node_id, 1) for node_id in (1, 2, 3))
    for raft in (first, second):
        watched.commit(raft, 2)
    watched.apply(first, 2)
    with violated(named.EQUAL_STATES):
        watched.apply(second, 2, state="another")
    with violated(named.EQUAL_STATES):
        watched.invariants.restored(third.id, 2, "another")


def test_a_proposal_that_is_in_the_log_twice(watched: Watched) -> None:
    """No proposal is committed at two indexes, however often it was sent on its way."""
    first, second = watched.start(1, 1), watched.start(2, 1)
    (entry,) = log_of((1,))
    for raft in (first, second):
        raft.log.append([replace(entry, index=3)])
        raft.log.storage.append([replace(entry, index=3)])  # type: ignore[attr-defined]
        watched.invariants.observe(raft.id, raft)
    watched.commit(first, 2)
    with violated(named.ONCE):
        watched.commit(first, 3)


def test_two_votes_in_a_term(watched: Watched) -> None:
    """A node votes once a term, and its term does not fall."""
    raft = watched.start(1, term=2, vote=2)
    raft.vote = 3
    with violated(named.ONE_VOTE):
        watched.invariants.observe(1, raft)
    raft.term, raft.vote = 1, 2
    with violated(named.ONE_VOTE):
        watched.invariants.observe(1, raft)


@pytest.mark.parametrize(
    ("terms", "term", "vote"),
    [((1,), 2, 3), ((1, 2), 2, 3), ((1, 1), 1, None), ((1, 1), 2, None), ((1, 1), 2, 1)],
    ids=["entry lost", "entry replaced", "term lost", "vote lost", "vote changed"],
)
def test_a_node_that_comes_back_with_less(
    watched: Watched, terms: tuple[int, ...], term: int, vote: int | None
) -> None:
    """What a node knew to be durable, it has after a halt."""
    watched.halt(watched.start(1, 1, 1, term=2, vote=3))
    with violated(named.DURABILITY):
        watched.start(1, *terms, term=term, vote=vote)


@pytest.mark.parametrize(("term", "index", "command"), [(1, 3, b"1/3"), (2, 2, b"1/2"), (1, 2, b"1/9")])
def test_an_acknowledgement_of_what_is_not_committed(
    watched: Watched, term: int, index: int, command: bytes
) -> None:
    """A client is told of an entry only if it is committed, and its own."""
    first, _ = watched.start(1, 1, 1), watched.start(2, 1, 1)
    watched.commit(first, 2)
    watched.invariants.check_acknowledged(1, 2, b"1/2")
    with violated(named.ACKNOWLEDGED):
        watched.invariants.check_acknowledged(term, index, command)


def test_a_leader_by_the_votes_of_a_minority(watched: Watched) -> None:
    """A leader has the votes of a quorum; in a joint configuration, of both halves."""
    raft = watched.start(1, term=2, vote=1)
    watched.invariants.voted(4, 2, 1)
    raft.tracker.conf_state = ConfState((1, 4), voters_outgoing=(1, 2, 3))
    raft.role = StateRole.LEADER
    with violated(named.ELECTED):
        watched.invariants.observe(1, raft)


@pytest.mark.parametrize("is_granted", [True, False])
def test_a_vote_in_a_term_that_the_voter_has_left_meanwhile(watched: Watched, is_granted: bool) -> None:
    """In one turn a node votes in a term, and campaigns in the next: the vote that it has written counts."""
    candidate, _, voter = watched.start(1, term=2, vote=1), watched.start(2), watched.start(3)
    vote = Message(type=MessageType.VOTE_RESP, to=1, from_=3, term=2, reject=not is_granted)
    append = Message(type=MessageType.STORAGE_APPEND, to=APPEND_THREAD, from_=3, responses=[vote])
    voter.term, voter.vote = 3, 3
    watched.invariants.observe(3, voter)
    watched.invariants.written(3, [append])
    candidate.role = StateRole.LEADER
    if is_granted:
        watched.invariants.observe(1, candidate)
    else:
        with violated(named.ELECTED):
            watched.invariants.observe(1, candidate)


REMOVE_3 = ConfChangeSingle(ConfChangeType.REMOVE, 3)


def test_a_change_while_one_is_pending(watched: Watched) -> None:
    """A leader appends a change of members only when it has applied the one before."""
    raft = watched.start(1)
    watched.lead(raft, 2)
    watched.append(raft, REMOVE_3)
    with violated(named.ONE_CHANGE):
        watched.append(raft, REMOVE_3)


@pytest.mark.parametrize("voters", [(1, 2, 3), (1,), (1, 2, 4)])
def test_another_configuration_than_the_log_says(watched: Watched, voters: tuple[int, ...]) -> None:
    """A node that has applied a change of members has the configuration that results from it."""
    first, second, _ = watched.start(1), watched.start(2), watched.start(3)
    watched.append(second, REMOVE_3)
    watched.append(first, REMOVE_3)
    watched.commit(first, 2)
    watched.commit(second, 2)
    watched.switch(first, 1, 2)
    with violated(named.CONFIGURATION):
        watched.switch(second, *voters)


def test_a_commit_by_voters_of_one_half(watched: Watched) -> None:
    """In a joint configuration what is committed is durable on a quorum of either half."""
    first, _, _ = watched.start(1, 1), watched.start(2, 1), watched.start(3)
    first.tracker.conf_state = ConfState((1, 2), voters_outgoing=(1, 3, 4))
    with violated(named.DURABLE_QUORUM):
        watched.commit(first, 2)


REMOVE_2 = ConfChangeSingle(ConfChangeType.REMOVE, 2)


@pytest.mark.parametrize("is_applied", [True, False])
def test_a_commit_that_only_a_start_reveals(watched: Watched, is_applied: bool) -> None:
    """A leader wrote down a commit, and ended: what counts is the configuration that it had then."""
    nodes = [watched.start(1), watched.start(2)]
    for change in (REMOVE_3, REMOVE_2):
        for raft in nodes:
            watched.append(raft, change)
    first, _ = nodes
    watched.commit(first, 2)
    watched.switch(first, 1, 2)
    watched.commit(first, 3)
    if is_applied:
        watched.switch(first, 1)
    watched.append(first, ConfChangeSingle(ConfChangeType.ADD_LEARNER, 4))  # which node 1 alone has
    if is_applied:
        watched.restart(first, 4)
    else:
        with violated(named.DURABLE_QUORUM):
            watched.restart(first, 4)


def test_a_removed_id_that_comes_back(watched: Watched) -> None:
    """An id that was removed is in no later configuration."""
    nodes = [watched.start(1), watched.start(2)]
    for change in (REMOVE_3, ConfChangeSingle(ConfChangeType.ADD_LEARNER, 3)):
        for raft in nodes:
            watched.append(raft, change)
    watched.commit(nodes[0], 2)
    with violated(named.REMOVED):
        watched.commit(nodes[0], 3)


def test_a_leader_that_is_no_voter(watched: Watched) -> None:
    """A node that has applied its own removal does not lead."""
    first, second = watched.start(3), watched.start(2)
    watched.lead(first, 1)
    for raft in (second, first):
        watched.append(raft, REMOVE_3)
    watched.commit(first, 2)
    with violated(named.REMOVED):
        watched.switch(first, 1, 2)


def short() -> Schedule:
    """A schedule without faults."""
    return Schedule(seed=1, nodes=3, conditions=draw_schedule(0).conditions, faults=(), clients=2, keys=1)


def test_a_read_of_the_past() -> None:
    """Linearizability: at the end of a seed its clients' history is checked."""
    run = SeedRun(short(), Simulation, keep_trace=False)
    run.simulation.leader()
    old, new = StoreRecord(b"key", b"old", 2, 2, 1), StoreRecord(b"key", b"new", 2, 3, 2)
    for record, previous in ((old, None), (new, old)):
        put = StoreTxn(success=(StorePut(b"key", record.value),))
        written = run.history.invoke("client 1", None, put)
        answer = StoreTxnAnswer(True, record.changed, (StorePutAnswer(record, previous),))
        run.history.complete(written, answer)
    read = run.history.invoke("client 2", None, StoreTxn(success=(StoreGet(b"key"),)))
    run.history.complete(read, StoreTxnAnswer(True, 2, (StoreGetAnswer((old,), 1, 2),)))
    with violated(named.LINEARIZABILITY):
        run.judge()


def test_a_cluster_in_which_nobody_campaigns() -> None:
    """Liveness: what does not go on once all has healed is a violation."""
    assert run_schedule(short()).failure is None
    with replaced(Raft, "promotable", False):
        assert run_schedule(short()).failure == named.LIVENESS
