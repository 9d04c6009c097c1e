"""One seed, from its schedule to its verdict: key-value clients, faults, healing, and what they were told."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from time import perf_counter

from raftkv_trio.errors import ProposalError
from raftkv_trio.kv import Store
from raftkv_trio.raft.confchange import all_members, is_joint
from raftkv_trio.testing.campaign.faults import mend_all, strike
from raftkv_trio.testing.campaign.kv_requests import (
    RegisterOperation,
    answer_to_read,
    answer_to_write,
    command_of,
    draw_request,
)
from raftkv_trio.testing.histories.history import History, Outcome
from raftkv_trio.testing.histories.linearizability import HistoryError, check_linearizable
from raftkv_trio.testing.histories.register import (
    Register,
    RegisterAnswer,
    RegisterGet,
    RegisterRequest,
    Seen,
)
from raftkv_trio.testing.invariants.violation import LINEARIZABILITY, LIVENESS, Violation
from raftkv_trio.testing.schedules.schedule import PATIENCE_S, Fault, Occasion, Schedule
from raftkv_trio.testing.simulator.simulated_member import ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation

#: After all has healed the clients must come to their end within this time.
PROGRESS_WITHIN_S = 20.0
REQUEST_TIMEOUTS_S = (0.3, 1.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one seed.

    Attributes:
        failure: the invariant that broke, or the kind of error; None where all is well.
        text: the failure in one line or more.
        faults: how many there were of each kind, by name.
        operations: how many ended how.
        digest: hash of the trace.
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
    """Run a schedule to its end, or to the first thing that must not be."""
    begun_at = perf_counter()
    run = SeedRun(schedule, Simulation, keep_trace=keep_trace)
    failure, text = None, ""
    try:
        run.run()
    except Violation as error:
        failure, text = error.invariant, str(error)
    except Exception as error:  # a bug of whatever kind, in the node or here
        failure = type(error).__name__
        text = f"{failure}: {error}"
    return run.verdict(failure, text, perf_counter() - begun_at)


class SeedRun:
    """A simulation with clients of the store."""

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
        self.history: History[RegisterRequest, RegisterAnswer] = History(lambda: self.simulation.now)
        self.struck: Counter[str] = Counter()
        self.clients = [_Client(number, self) for number in range(1, schedule.clients + 1)]

    def run(self) -> None:
        self.begin()
        self.simulation.timeline.run_until(self.schedule.duration_s)
        mend_all(self.simulation)
        for what, condition in self.conditions_of_progress():
            self._wait(what, condition)
        self.judge()

    def begin(self) -> None:
        """Plan all faults and let the clients begin."""
        simulation = self.simulation
        for fault in self.schedule.faults:
            simulation.timeline.at(fault.at_s, self._approach, fault)
        for client in self.clients:
            client.start()

    def conditions_of_progress(self) -> list[tuple[str, Callable[[], bool]]]:
        """What must come, one after the other, once all has healed; and what it means where it does not."""
        return [
            ("the clients have not come to their end", self._are_done),
            ("a change of members is not complete", self._is_settled),
            ("not all members have applied everything", self._are_equal),
            ("a removed node has not ended", self._have_ended),
        ]

    def judge(self) -> None:
        """Raise Violation where the clients' history is not linearizable, or the operator was told a lie."""
        self.simulation.invariants.check_refusals()
        try:
            check_linearizable(self.history, Register())
        except HistoryError as error:
            raise Violation(LINEARIZABILITY, str(error)) from error

    def verdict(self, failure: str | None, text: str, wall_s: float) -> Verdict:
        """What became of it."""
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
            self.simulation.run_until(condition, within_s=PROGRESS_WITHIN_S)
        except Violation as error:
            if error.invariant != LIVENESS:
                raise
            raise Violation(LIVENESS, f"{what} {PROGRESS_WITHIN_S} s after all has healed") from None

    def _are_equal(self) -> bool:
        members = self._members()
        committed = self.simulation.invariants.committed_index
        return all(m.parts is not None and m.parts.applied.index == committed for m in members)

    def _members(self) -> list[SimulatedMember]:
        """The members of the configuration whose disks are whole."""
        ids = all_members(self.simulation.invariants.configuration.conf_state)
        members = [self.simulation.members[i] for i in ids]
        return [m for m in members if m.state is not ProcessState.REFUSED]

    def _is_settled(self) -> bool:
        conf = self.simulation.invariants.configuration.conf_state
        whole = {m.id for m in self._members()}
        return not is_joint(conf) and whole.isdisjoint(conf.learners)

    def _are_done(self) -> bool:
        return all(client.is_done for client in self.clients)

    def _have_ended(self) -> bool:
        """Whether all removed nodes have, but for those that know nobody any more who could tell them."""
        present = self._members()
        return all(
            m.state in (ProcessState.REMOVED, ProcessState.REFUSED)
            or (m.node is not None and not any(m.dials(other.id) for other in present))
            for m in self.simulation.members.values()
            if m.id in self.simulation.invariants.configuration.removed
        )


class _Client:
    """One client: an operation at a time, at moments of its own while faults go on, in haste after that."""

    def __init__(self, number: int, run: SeedRun) -> None:
        schedule = run.schedule
        self._name = f"client {number}"
        self._run = run
        self._simulation = run.simulation
        self._random = Random(f"client {number} of {schedule.seed}")
        quota = -(-schedule.operations // schedule.clients)
        self._moments = sorted([self._random.uniform(0.5, schedule.duration_s) for _ in range(quota)])
        self._moments.reverse()
        self._count = 0
        self._known: dict[bytes, Seen] = {}
        self._favourite: int | None = None
        self._is_waiting = False
        self._plans = 0
        self.is_done = False

    def start(self) -> None:
        self._next()

    def hasten(self) -> None:
        """A fault strikes: perhaps ask the leader something now, instead of later."""
        if self._is_waiting and self._random.random() < self._run.schedule.haste:
            leaders = [m.id for m in self._simulation.members.values() if m.leads]
            if leaders:
                self._favourite = self._random.choice(leaders)
            self._plan(self._simulation.now + self._random.uniform(0, 0.05))

    def _next(self) -> None:
        if not self._moments:
            self.is_done = True
            return
        think_s = self._random.uniform(0, 0.01)
        self._plan(max(self._moments.pop(), self._simulation.now + think_s))

    def _plan(self, at_s: float) -> None:
        self._is_waiting = True
        self._plans += 1
        self._simulation.timeline.at(at_s, self._begin, self._plans)

    def _begin(self, plan: int) -> None:
        if plan != self._plans:
            return  # it was hastened
        member = self._choose()
        if member is None:  # nobody to connect to
            self._plan(self._simulation.now + self._random.uniform(0.05, 0.5))
            return
        self._is_waiting = False
        self._count += 1
        key = b"key%d" % self._random.randrange(self._run.schedule.keys)
        value = b"%s-%d" % (self._name[7:].encode(), self._count)
        request = draw_request(self._random, value, self._known.get(key))
        record = self._run.history.invoke(self._name, key, request)
        self._note(f"asks node {member.id}: {request} of {key.decode()}")
        _Attempt(self, member, key, record).begin(self._random.choice(REQUEST_TIMEOUTS_S))

    def _choose(self) -> SimulatedMember | None:
        """A node that is up; mostly the same one, of all nodes or of those that lead."""
        up = [m for m in self._simulation.members.values() if m.node is not None]
        if self._simulation.now >= self._run.schedule.duration_s:  # people have noticed who is gone for good
            up = [m for m in up if m.id not in self._simulation.invariants.configuration.removed]
        if not up:
            return None
        same = [m for m in up if m.id == self._favourite]
        member = same[0] if same and self._random.random() < 0.8 else self._random.choice(up)
        self._favourite = member.id
        return member

    def ended(self, key: bytes, record: RegisterOperation) -> None:
        """The operation is over; its record says how."""
        answer = record.answer
        if answer is not None:
            if answer.seen is not None:
                self._known[key] = answer.seen
            elif answer.revision is not None:
                self._known[key] = Seen(True, None, answer.revision)
        self._note(f"{record.outcome.value}{'' if answer is None else f': {answer}'}")
        self._next()

    def _note(self, what: str) -> None:
        self._simulation.trace.note(self._name, what)


class _Attempt:
    """One operation at one node."""

    def __init__(
        self, client: _Client, member: SimulatedMember, key: bytes, record: RegisterOperation
    ) -> None:
        self._client = client
        self._run = client._run
        self._member = member
        self._key = key
        self._record = record
        assert member.node is not None
        assert member.parts is not None
        self._node, self._parts = member.node, member.parts
        self._is_over = False

    def begin(self, timeout_s: float) -> None:
        request = self._record.request
        try:
            if isinstance(request, RegisterGet):
                self._round = self._parts.reads.join()
                self._poll = self._poll_read
            else:
                self._command = command_of(self._key, request)
                self._proposal = self._node.submit(self._command)
                self._poll = self._poll_write
        except ProposalError:
            self._end(Outcome.FAILED)
            return
        self._run.simulation.timeline.after(timeout_s, self._give_up)
        self._member.add_poll(self._poll)

    def _poll_write(self) -> bool:
        if self._is_over:
            return True
        if self._proposal.is_settled:
            try:
                applied = self._proposal.result()
            except ProposalError as error:
                self._end(_told(error))
            else:
                self._run.simulation.invariants.check_acknowledged(applied.term, applied.index, self._command)
                self._end(Outcome.COMPLETED, answer_to_write(applied.result))
        elif self._member.node is not self._node:
            self._end(Outcome.UNKNOWN)  # the connection broke
        return self._is_over

    def _poll_read(self) -> bool:
        if self._is_over:
            return True
        index = self._round.index
        if index is not None and self._parts.applied.index >= index:
            store = self._member.machine
            assert isinstance(store, Store)
            self._end(Outcome.COMPLETED, answer_to_read(store, self._key))
        elif (self._round.done.is_set() and index is None) or self._member.node is not self._node:
            self._end(Outcome.FAILED)
        return self._is_over

    def _give_up(self) -> None:
        if self._is_over:
            return
        if isinstance(self._record.request, RegisterGet):
            self._end(Outcome.FAILED)
        else:
            self._end(_told(self._proposal.give_up()))

    def _end(self, outcome: Outcome, answer: RegisterAnswer | None = None) -> None:
        self._is_over = True
        history = self._run.history
        if answer is not None:
            history.complete(self._record, answer)
        elif outcome is Outcome.FAILED:
            history.fail(self._record)
        else:
            history.give_up(self._record)
        self._client.ended(self._key, self._record)


def _told(error: ProposalError) -> Outcome:
    """What a client makes of an error: the REST API answers 504 to the one, 503 to the others."""
    from raftkv_trio.errors import OutcomeUnknown

    return Outcome.UNKNOWN if isinstance(error, OutcomeUnknown) else Outcome.FAILED
