"""Members of several versions of the program: when the cluster's feature level rises, and where."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest

from raftkv_trio.errors import ProposalError
from raftkv_trio.kv import (
    Compact,
    CompactResult,
    GrantLease,
    LeaseGranted,
    Put,
    Rejected,
    Store,
    Txn,
    encode_command,
)
from raftkv_trio.node.driver.feature_levels import FeatureLevels
from raftkv_trio.payload.levels import HIGHEST, HISTORY, LEASES, RELEASED
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.state_machine import Committed, StateMachine
from raftkv_trio.testing import Conditions
from raftkv_trio.testing.invariants.violation import Violation
from raftkv_trio.testing.schedules.schedule import Limits
from raftkv_trio.testing.simulator.simulated_member import ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation, address_of

#: A node that was down for a while needs a snapshot.
LIMITS = replace(Limits(), snapshot_entries=20, catch_up_entries=5)
WITHIN_S = 60.0


class Levelled:
    """A state machine whose state tells at which feature level each command was applied.

    So if two members switch at different indexes, their states differ, and the simulator sees that.
    """

    def __init__(self) -> None:
        self.level = 0
        self.seen: list[bytes] = []

    def set_level(self, level: int) -> None:
        self.level = level

    def apply(self, batch: Sequence[Committed]) -> list[int]:
        self.seen += [b"%d %s" % (self.level, committed.command) for committed in batch]
        return [self.level] * len(batch)

    def snapshot(self) -> Iterator[bytes]:
        return iter([b"at %d" % self.level, *self.seen])

    def restore(self, chunks: Iterable[bytes]) -> None:
        first, *self.seen = chunks
        assert first == b"at %d" % self.level, "it is told the level before the snapshot"


class Mixed:
    """Nodes that begin with the version before feature levels, in a network that loses some messages."""

    def __init__(self, seed: int, make_machine: Callable[[], StateMachine] = Levelled) -> None:
        conditions = Conditions(loss=0.02, duplication=0.02, stray=0.02, reorders=True)
        self.simulation = Simulation(make_machine, seed=seed, conditions=conditions, limits=LIMITS)
        for member in self.members:
            member.highest_level = RELEASED
        self.random = Random(f"mixed {seed}")
        self.count = 0
        self.simulation.run_until(lambda: all(m.node is not None for m in self.members))

    @property
    def members(self) -> list[SimulatedMember]:
        return list(self.simulation.members.values())

    def levels(self) -> set[int]:
        """Those of the members that run."""
        return {member.node.feature_level for member in self.members if member.node is not None}

    def needed(self) -> int:
        """The highest level that stands in the log of a member that runs."""
        return max(m.parts.levels.needed for m in self.members if m.parts is not None)

    def replace(self, node_id: int, level: int, *, down_s: float = 0.0) -> None:
        """End a node, and start it with a program of this level."""
        self.simulation.crash(node_id)
        self.write(3)
        self.simulation.run_for(down_s)
        self.simulation.members[node_id].highest_level = level
        self.simulation.start(node_id)

    def write(self, count: int) -> None:
        """So many commands; one whose outcome stays unknown is as good."""
        for _ in range(count):
            self.count += 1
            try:
                self.simulation.propose(b"%d" % self.count, within_s=20.0)
            except ProposalError:
                pass

    def write_keys(self, count: int) -> None:
        """Put so many keys; for a store."""
        for number in range(count):
            put = encode_command(Txn((), (Put(b"key %d" % (number % 7), b"value"),), ()))
            self.simulation.propose(put, within_s=WITHIN_S)

    def add(self, node_id: int, level: int) -> None:
        """Add a learner with a program of this level; it may wait to join for ever."""
        leader = self.simulation.members[self.simulation.leader()]
        assert leader.node is not None
        change = MemberChange(Action.ADD, node_id, address_of(node_id), is_promoted_by_hand=True)
        proposal = leader.node.change_members(ChangeRequest((change,)))
        leader.add_poll(lambda: proposal.is_settled)
        self.simulation.run_until(lambda: proposal.is_settled, within_s=WITHIN_S)
        proposal.result()
        self.simulation.add(node_id).highest_level = level
        self.simulation.start(node_id)

    def wait_level(self, level: int) -> None:
        def have_all() -> bool:
            running = [m for m in self.members if m.state is not ProcessState.JOINING]
            return all(m.node is not None and m.node.feature_level == level for m in running)

        self.simulation.run_until(have_all, within_s=WITHIN_S)

    def since(self) -> set[int]:
        """The indexes at which the members have switched."""
        return {m.parts.membership.envelope.level_since for m in self.members if m.parts is not None}


def test_a_new_cluster_begins_at_the_highest_level() -> None:
    """So nothing is appended for it."""
    simulation = Simulation(Levelled, nodes=3, seed=1)
    assert simulation.propose(b"first") == HIGHEST
    assert simulation.invariants.committed_index == 3  # the snapshot, the leader's entry, and this one


@pytest.mark.parametrize("seed", range(5))
def test_the_level_rises_when_the_last_member_is_upgraded(seed: int) -> None:
    """And not before; then all switch at the same index, also one that gets a snapshot."""
    mixed = Mixed(seed)
    mixed.write(5)
    for node_id in mixed.random.sample((1, 2, 3), 3):
        assert mixed.needed() == RELEASED
        assert mixed.levels() == {RELEASED}
        mixed.replace(node_id, HIGHEST)
        mixed.write(10)
    mixed.wait_level(HIGHEST)
    mixed.write(5)
    lagging = mixed.simulation.leader() % 3 + 1
    mixed.simulation.crash(lagging)
    mixed.write(60)
    mixed.simulation.start(lagging)
    mixed.wait_level(HIGHEST)
    assert len(mixed.since()) == 1
    machine = mixed.simulation.machine(lagging, within_s=WITHIN_S)
    assert isinstance(machine, Levelled)
    assert [seen[:2] for seen in machine.seen] == sorted(seen[:2] for seen in machine.seen)
    levels = {int(seen[:1]) for seen in machine.seen}
    assert {RELEASED, HIGHEST} <= levels <= {*range(RELEASED, HIGHEST + 1)}


@pytest.mark.parametrize("seed", range(10))
def test_members_go_back_and_forth_between_versions(seed: int) -> None:
    """As long as no log has the new level, a member may be set back to the old version, at any moment."""
    mixed = Mixed(seed)
    mixed.write(3)
    for _ in range(12):
        node_id = mixed.random.choice((1, 2, 3))
        may_go_back = mixed.needed() == RELEASED
        level = mixed.random.choice((RELEASED, HIGHEST)) if may_go_back else HIGHEST
        mixed.replace(node_id, level, down_s=mixed.random.uniform(0, 0.3))
        mixed.simulation.run_for(mixed.random.uniform(0, 1.0))
        mixed.write(mixed.random.choice((0, 3, 30)))
    for member in mixed.members:
        if member.highest_level != HIGHEST:
            mixed.replace(member.id, HIGHEST)
    mixed.wait_level(HIGHEST)
    mixed.write(5)
    assert len(mixed.since()) == 1


def test_the_store_has_its_history_from_the_same_index_on() -> None:
    """Before that it refuses what needs it, on all members, also those that know it; then it is there."""
    mixed = Mixed(1, Store)
    mixed.write_keys(30)
    compaction = encode_command(Compact(2))
    assert isinstance(mixed.simulation.propose(compaction, within_s=WITHIN_S), Rejected)
    for node_id in (1, 2, 3):
        mixed.replace(node_id, HIGHEST)
        mixed.write_keys(30)
    mixed.wait_level(HIGHEST)
    mixed.write_keys(5)
    stores = [mixed.simulation.machine(i, within_s=WITHIN_S) for i in (1, 2, 3)]
    assert all(isinstance(store, Store) for store in stores)
    (begins,) = {store.compacted_revision for store in stores if isinstance(store, Store)}
    assert begins > 1
    compaction = encode_command(Compact(begins + 1))
    assert isinstance(mixed.simulation.propose(compaction, within_s=WITHIN_S), CompactResult)


def test_the_store_has_leases_from_the_same_index_on() -> None:
    """A cluster of the release before leases grants none until all members know them."""
    mixed = Mixed(1, Store)
    for node_id in (1, 2, 3):
        mixed.replace(node_id, HISTORY)
    mixed.wait_level(HISTORY)
    lease_id = 1
    grant = GrantLease(lease_id, 10)
    for node_id in (1, 2, 3):
        assert isinstance(mixed.simulation.propose(encode_command(grant), within_s=WITHIN_S), Rejected)
        mixed.replace(node_id, LEASES)
        mixed.write_keys(5)
    mixed.wait_level(LEASES)
    granted = mixed.simulation.propose(encode_command(grant), within_s=WITHIN_S)
    assert isinstance(granted, LeaseGranted)
    stores = [mixed.simulation.machine(i, within_s=WITHIN_S) for i in (1, 2, 3)]
    assert [isinstance(store, Store) and lease_id in store.leases for store in stores] == [True] * 3


@pytest.mark.parametrize("seed", range(3))
def test_a_learner_of_the_old_version_holds_the_level_back(seed: int) -> None:
    """It is sent all that the voters are sent. So is a member that is down, whatever it ran before."""
    mixed = Mixed(seed)
    mixed.add(4, RELEASED)
    for node_id in (1, 2, 3):
        mixed.replace(node_id, HIGHEST)
    mixed.simulation.run_for(5)
    assert mixed.needed() == RELEASED
    mixed.simulation.crash(4)
    mixed.simulation.run_for(5)
    assert mixed.needed() == RELEASED
    mixed.simulation.members[4].highest_level = HIGHEST
    mixed.simulation.start(4)
    mixed.wait_level(HIGHEST)


def test_a_removed_member_holds_nothing_back() -> None:
    """It is a member no more, and nothing is sent to it."""
    mixed = Mixed(1)
    mixed.add(4, RELEASED)
    for node_id in (1, 2, 3):
        mixed.replace(node_id, HIGHEST)
    leader = mixed.simulation.members[mixed.simulation.leader()]
    assert leader.node is not None
    leader.node.change_members(ChangeRequest((MemberChange(Action.REMOVE, 4),)))
    leader.add_poll(lambda: True)
    mixed.simulation.run_until(
        lambda: all(m.node is not None and m.node.feature_level == HIGHEST for m in mixed.members[:3]),
        within_s=WITHIN_S,
    )


def test_a_node_of_the_old_version_does_not_join_later() -> None:
    """It gets nothing, and the cluster goes on."""
    mixed = Mixed(1)
    for node_id in (1, 2, 3):
        mixed.replace(node_id, HIGHEST)
    mixed.wait_level(HIGHEST)
    mixed.add(4, RELEASED)
    mixed.write(30)
    mixed.simulation.run_for(5)
    newcomer = mixed.simulation.members[4]
    assert newcomer.state is ProcessState.JOINING
    newcomer.highest_level = HIGHEST
    mixed.simulation.run_until(lambda: newcomer.node is not None, within_s=WITHIN_S)
    mixed.wait_level(HIGHEST)


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("all_know", lambda levels, level, peers: True),
        ("needed", property(lambda levels: RELEASED)),
    ],
)
def test_a_level_that_is_raised_too_early_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, bug: object
) -> None:
    """With either rule broken an old member is sent what it cannot read, stays behind, and says why.

    The second one is that nobody gets in who does not know the level that stands in the log.
    """
    monkeypatch.setattr(FeatureLevels, name, bug)
    mixed = Mixed(1)
    mixed.write(3)
    if name == "all_know":
        mixed.replace(1, HIGHEST)
        mixed.replace(2, HIGHEST)
        old = mixed.simulation.members[3]
    else:
        for node_id in (1, 2, 3):
            mixed.replace(node_id, HIGHEST)
        mixed.wait_level(HIGHEST)
        mixed.add(4, RELEASED)
        old = mixed.simulation.members[4]
    with pytest.raises(Violation):
        mixed.simulation.run_until(
            lambda: old.parts is not None and old.parts.membership.envelope.level == HIGHEST, within_s=20
        )
