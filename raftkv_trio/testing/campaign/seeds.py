"""One seed, from schedule to verdict: clients work, faults strike, all heals, the history is judged."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter

from raftkv_trio.kv import Store
from raftkv_trio.node.words import ENOUGH
from raftkv_trio.payload.proposal import ProposalId, decode_proposal
from raftkv_trio.raft.confchange import all_members, is_joint
from raftkv_trio.testing.campaign.clients import Client
from raftkv_trio.testing.campaign.faults import make_room, mend_all, strike
from raftkv_trio.testing.campaign.lease_clients import Leases
from raftkv_trio.testing.campaign.lock_clients import LockClients
from raftkv_trio.testing.campaign.pursuit import pursue
from raftkv_trio.testing.campaign.reshaping import help_the_lost
from raftkv_trio.testing.campaign.true_changes import TrueChanges
from raftkv_trio.testing.campaign.watch_clients import WatchClients
from raftkv_trio.testing.campaign.watch_hubs import Hubs
from raftkv_trio.testing.histories.history import History
from raftkv_trio.testing.histories.linearizability import HistoryError
from raftkv_trio.testing.histories.revision_order import (
    StoreHistory,
    StoreOperationRecord,
    check_revisions,
)
from raftkv_trio.testing.invariants.violation import CONFIGURATION, LINEARIZABILITY, LIVENESS, Violation
from raftkv_trio.testing.schedules.schedule import PATIENCE_S, Fault, Occasion, Schedule
from raftkv_trio.testing.simulator.simulated_member import ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation

#: After all has healed, each condition of progress must hold within this time, and these round trips.
PROGRESS_WITHIN_S = 20.0
PROGRESS_WITHIN_ROUND_TRIPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one seed.

    Attributes:
        failure: the violated invariant, or the class of the error; None if all is well.
        text: the failure, in one line or more.
        events: how many events were simulated.
        faults: number of faults of each kind, by name.
        operations: number of operations by outcome.
        digest: hash of the trace.
        trace: the trace's lines, if they were kept.
    """

    schedule: Schedule
    failure: str | None
    text: str
    events: int
    simulated_s: float
    wall_s: float
    faults: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    digest: str
    trace: list[str] | None = None


def run_schedule(schedule: Schedule, *, keep_trace: bool = False) -> Verdict:
    """Run a schedule at level 1, to its end or to the first violation."""
    begun_at = perf_counter()
    run = SeedRun(schedule, Simulation, keep_trace=keep_trace)
    failure, text = None, ""
    try:
        run.run()
    except Violation as error:
        failure, text = error.invariant, str(error)
    except Exception as error:  # a bug of any kind, in the node or in the simulator
        failure = type(error).__name__
        text = f"{failure}: {error}"
    return run.verdict(failure, text, perf_counter() - begun_at)


class SeedRun:
    """A simulation of one schedule, with its faults and its clients.

    Attributes:
        struck: number of faults so far, by kind.
        progress_within_s: after all has healed, each condition of progress must hold within this time.
    """

    def __init__(self, schedule: Schedule, simulate: type[Simulation], *, keep_trace: bool) -> None:
        self.schedule = schedule
        self.simulation = simulate(
            Store,
            nodes=schedule.nodes,
            seed=schedule.seed,
            conditions=schedule.conditions,
            limits=schedule.limits,
            turn_delay_s=schedule.turn_delay_s,
            keep_trace=keep_trace,
        )
        self.simulation.supervised = True
        for member in self.simulation.members.values():
            member.disk_call_s = schedule.disk_call_s
        self.history: StoreHistory = History(lambda: self.simulation.now)
        self.struck: Counter[str] = Counter()
        self._round_trip_s = 2 * schedule.conditions.delay_s[1]
        self.progress_within_s = PROGRESS_WITHIN_S + PROGRESS_WITHIN_ROUND_TRIPS * self._round_trip_s
        self.leases = Leases(schedule, self.simulation, self.history)
        hubs = Hubs(schedule, self.simulation)
        self.watches = WatchClients(schedule, self.simulation, hubs)
        self.locks = LockClients(schedule, self.simulation, self.history, self.leases, hubs)
        self.clients = [
            Client(number, schedule, self.simulation, self.history)
            for number in range(1, schedule.clients + 1)
        ]

    def run(self) -> None:
        """Run to the end. Raises Violation; a bug may raise anything else."""
        self.begin()
        self.simulation.timeline.run_until(self.schedule.duration_s)
        for what, condition in self.heal():
            self._wait(what, condition)
        self.judge()

    def begin(self) -> None:
        """Plan all faults, and start the clients."""
        simulation = self.simulation
        for fault in self.schedule.faults:
            simulation.timeline.at(fault.at_s, self._approach, fault)
        for client in self.clients:
            client.start([other for other in self.clients if other is not client])
        self.leases.begin()
        self.watches.begin()
        self.locks.begin()

    def heal(self) -> Iterator[tuple[str, Callable[[], bool]]]:
        """End the faults, and yield what must become true in turn, each with the failure if it does not.

        The caller goes on with the iterator when the condition is true.
        """
        mend_all(self.simulation)
        self._check_members()
        help_the_lost(self.simulation)
        # While one disk is still full: a majority with room must not wait for a leader without.
        yield "no node leads that has room on its disk", self._is_led_with_room
        make_room(self.simulation)
        # Each client sends one operation at a time: over long distances their end takes long. So what has to
        # happen in time is that an operation succeeds, and then the next one.
        while not self._are_done():
            yield "no client's operation has succeeded", partial(self._are_done, or_succeeded=self._succeeded)
        yield "a client with a lease has no answer", self.leases.are_done
        yield from self.locks.heal()
        yield "a change of members is not complete", self._is_settled
        yield from self.leases.heal()
        yield "not all members have applied everything", self._are_equal
        yield "a removed node has not ended", self._have_ended
        if self.schedule.pursuit:
            whole = [member.id for member in self._members()]
            yield from pursue(self.simulation, whole, self._round_trip_s)
            yield "not all members have applied everything", self._are_equal
        yield from self.watches.heal()
        parts = [member.parts for member in self._members() if member.parts is not None]
        rounds = [part.reads.join() for part in parts]
        yield "a member answers no read", lambda: all(read_round.done.is_set() for read_round in rounds)

    def judge(self) -> None:
        """Raise Violation if a refused change was applied, or for what watches or the history show."""
        self.simulation.invariants.check_refusals()
        changes_of_leases = self.leases.judge()
        changes = TrueChanges(self.simulation.invariants.committed_commands())
        self.watches.judge(changes)
        self.locks.judge(changes)
        try:
            check_revisions(self.history, tried_first=self._writes_in_the_log(changes_of_leases))
        except HistoryError as error:
            raise Violation(LINEARIZABILITY, str(error)) from error

    def _writes_in_the_log(
        self, changes_of_leases: dict[ProposalId, StoreOperationRecord]
    ) -> list[StoreOperationRecord]:
        """The writes whose commands are committed, in that order, which is likely to be that of revisions."""
        senders = {i: o for client in self.clients for i, o in client.writes.items()}
        senders |= self.locks.writes | changes_of_leases
        entries = self.simulation.invariants.committed_commands()
        found = [senders.get(decode_proposal(entry.data)[0]) for entry in entries]
        return [o for o in dict.fromkeys(found) if o is not None]

    def verdict(self, failure: str | None, text: str, wall_s: float) -> Verdict:
        """The verdict, with the numbers of this run."""
        simulation = self.simulation
        return Verdict(
            schedule=self.schedule,
            failure=failure,
            text=text,
            events=simulation.timeline.events,
            simulated_s=simulation.now,
            wall_s=wall_s,
            faults=self.struck,
            operations=Counter(o.outcome.value for o in self.history.operations),
            digest=simulation.trace.digest,
            trace=simulation.trace.lines,
        )

    def _approach(self, fault: Fault) -> None:
        if fault.waits_for is None:
            self._strike(fault)
            return

        def strike_at(node: int | None) -> None:
            happened = node is not None and fault.waits_for is not Occasion.ELECTED
            self._strike(replace(fault, node=node, leader=False) if happened else fault)

        self.simulation.at_next(fault.waits_for, strike_at, within_s=PATIENCE_S)

    def _strike(self, fault: Fault) -> None:
        self.struck[fault.kind.value] += 1
        strike(self.simulation, fault)
        for client in self.clients:
            client.hasten()

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        try:
            self.simulation.run_until(condition, within_s=self.progress_within_s)
        except Violation as error:
            if error.invariant != LIVENESS:
                raise
            within_s = self.progress_within_s
            raise Violation(LIVENESS, f"{what} {within_s:.0f} s after all has healed") from None

    def _is_led_with_room(self) -> bool:
        members = [m for m in self.simulation.members.values() if m.parts is not None]
        full = {m.id for m in members if m.parts and m.disk_stays_full and m.parts.proposals.disk_shortage}
        voters = self.simulation.invariants.configuration.conf_state.voters
        # Nothing is asked for if nothing stays full, or if a change has left no other voter that could lead.
        if not full or {m.id for m in self._members()}.intersection(voters) <= full:
            return True
        leaders = [(m.parts.raw.term, m.id) for m in members if m.parts and m.leads]
        return bool(leaders) and max(leaders)[1] not in full

    def _are_equal(self) -> bool:
        members = self._members()
        committed = self.simulation.invariants.committed_index
        return all(m.parts is not None and m.parts.applied.index == committed for m in members)

    def _check_members(self) -> None:
        ids = all_members(self.simulation.invariants.configuration.conf_state)
        if strangers := set(ids).difference(self.simulation.members):
            raise Violation(CONFIGURATION, f"no operator has added {sorted(strangers)}, and they are members")

    def _members(self) -> list[SimulatedMember]:
        """The members of the configuration whose disks are whole, as far as they know."""
        self._check_members()
        ids = all_members(self.simulation.invariants.configuration.conf_state)
        members = [self.simulation.members[i] for i in ids]
        return [m for m in members if not m.has_lost_entries]

    def _is_settled(self) -> bool:
        conf = self.simulation.invariants.configuration.conf_state
        whole = {m.id for m in self._members()}
        return not is_joint(conf) and whole.isdisjoint(conf.learners)

    def _are_done(self, *, or_succeeded: int | None = None) -> bool:
        """Whether all clients have ended; or more operations than so many have succeeded."""
        if or_succeeded is not None and self._succeeded > or_succeeded:
            return True
        return all(client.is_done for client in self.clients)

    @property
    def _succeeded(self) -> int:
        return sum(client.succeeded for client in self.clients)

    def _have_ended(self) -> bool:
        """Whether each removed node has ended, except those that nobody can tell whom they believe."""
        return all(
            m.state in (ProcessState.REMOVED, ProcessState.REFUSED) or not self._can_be_told(m)
            for m in self.simulation.members.values()
            if m.id in self.simulation.invariants.configuration.removed
        )

    def _can_be_told(self, removed: SimulatedMember) -> bool:
        """Whether a removed node reaches as many members as have to tell it, and believes them."""
        present = {other.id for other in self._members()}
        parts = removed.parts
        if parts is None:  # until it is a member, a joiner asks those of its configuration
            return len(present & removed.config.members.keys()) >= ENOUGH
        others = parts.membership.envelope.members.keys() - {removed.id}
        enough = min(ENOUGH, len(others)) if parts.removal.index is None else 1
        told_by = [i for i in present if removed.dials(i) and removed.believes(i)]
        return 0 < enough <= len(told_by)
