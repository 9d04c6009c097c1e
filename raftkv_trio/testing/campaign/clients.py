"""Simulated clients of the key-value store, and the history of their operations.

A client sends one operation at a time: while faults go on at moments of its own, afterwards without delay. It
times out as clients of the REST API do, and may ask another node next. Some writes have a request id: if the
outcome is unknown, the client asks for the same again, and the write must be done once at most all the same.

A write that is acknowledged may bring forward the next operation of another client, as a read of the same
key: a read that begins right after an acknowledged write is the one that shows whether reads are
linearizable.
"""

from collections.abc import Sequence
from random import Random

from raftkv_trio.errors import OutcomeUnknown, ProposalError
from raftkv_trio.kv import Store
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.testing.campaign.kv_requests import answer_of, command_of, read
from raftkv_trio.testing.campaign.requests import Asking, read_of
from raftkv_trio.testing.histories.history import Outcome
from raftkv_trio.testing.histories.revision_order import StoreHistory, StoreOperationRecord
from raftkv_trio.testing.histories.store_requests import (
    StoreAnswer,
    StoreCompact,
    StoreRequest,
    StoreStaleRead,
    StoreTxn,
    StoreTxnAnswer,
    may_change,
)
from raftkv_trio.testing.schedules.schedule import Schedule
from raftkv_trio.testing.simulator.simulated_member import SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation

REQUEST_TIMEOUTS_S = (0.3, 1.0, 5.0)
MAX_ATTEMPTS = 4
RETRY_AFTER_S = 0.5
FOLLOWED_WRITES = 0.5
"""Of the acknowledged writes, the share that another client follows with a read."""


class Client:
    """One client.

    Attributes:
        is_done: whether it has made all its operations.
        succeeded: number of operations that were answered with a result.
        writes: by proposal; a write that was tried again has several.
    """

    def __init__(
        self, number: int, schedule: Schedule, simulation: Simulation, history: StoreHistory
    ) -> None:
        self.is_done = False
        self.succeeded = 0
        self.writes: dict[ProposalId, StoreOperationRecord] = {}
        self._name = f"client {number}"
        self._schedule = schedule
        self._simulation = simulation
        self._history = history
        self._random = Random(f"client {number} of {schedule.seed}")
        quota = -(-schedule.operations // schedule.clients)
        self._moments = sorted([self._random.uniform(0.5, schedule.duration_s) for _ in range(quota)])
        self._moments.reverse()
        self._asking = Asking(b"%d" % number, schedule, self._random)
        self._favourite: int | None = None
        self._is_waiting = False
        self._plans = 0
        self._others: Sequence[Client] = ()
        self._must_read: bytes | None = None

    def start(self, others: Sequence["Client"]) -> None:
        """Plan the first operation; `others` may follow the writes of this client."""
        self._others = others
        self._next()

    def hasten(self) -> None:
        """A fault strikes: perhaps send the next operation to the leader now, instead of later."""
        if self._is_waiting and self._random.random() < self._schedule.haste:
            leaders = [m.id for m in self._simulation.members.values() if m.leads]
            if leaders:
                self._favourite = self._random.choice(leaders)
            self._plan(self._simulation.now + self._random.uniform(0, 0.05))

    def follow(self, key: bytes) -> None:
        """Another client's write of `key` is acknowledged: if this client waits, it reads the key at once."""
        if self._is_waiting:
            self._must_read = key
            self._plan(self._simulation.now + self._random.uniform(0, 0.002))

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
            return  # `hasten` has planned it anew
        member = self._choose()
        if member is None:  # every node is down
            self._plan(self._simulation.now + self._random.uniform(0.05, 0.5))
            return
        self._is_waiting = False
        request = self._draw()
        record = self._history.invoke(self._name, None, request)
        self._note(f"asks node {member.id}: {request}")
        request_id = self._asking.request_id() if may_change(request) else None
        attempt = _Attempt(self, self._simulation, self._history, member, record, request_id)
        attempt.begin(self._random.choice(REQUEST_TIMEOUTS_S))

    def try_again(self, before: "_Attempt") -> None:
        """Ask for the same again, a moment later, maybe another node."""
        delay_s = self._random.uniform(0, RETRY_AFTER_S)
        self._simulation.timeline.after(delay_s, self._begin_again, before)

    def _begin_again(self, before: "_Attempt") -> None:
        member = self._choose()
        if member is None:
            self.try_again(before)
            return
        self._note(f"asks node {member.id} again")
        before.next(member).begin(self._random.choice(REQUEST_TIMEOUTS_S))

    def _draw(self) -> StoreRequest:
        key, self._must_read = self._must_read, None
        return self._asking.draw() if key is None else read_of(key)

    def _choose(self) -> SimulatedMember | None:
        """A node that is up: mostly the same as before; None if every node is down."""
        up = [m for m in self._simulation.members.values() if m.node is not None]
        if self._simulation.now >= self._schedule.duration_s:  # operators no longer list removed nodes
            up = [m for m in up if m.id not in self._simulation.invariants.configuration.removed]
        if not up:
            return None
        same = [m for m in up if m.id == self._favourite]
        member = same[0] if same and self._random.random() < 0.8 else self._random.choice(up)
        self._favourite = member.id
        return member

    def ended(self, record: StoreOperationRecord) -> None:
        """The operation has ended; `record` says how. Plan the next one."""
        answer = record.answer
        self._note(f"{record.outcome.value}{'' if answer is None else f': {answer}'}")
        if answer is not None:
            self.succeeded += 1
            changed = self._asking.told(answer)
            if changed is not None:
                self._be_followed(changed)
        self._next()

    def _be_followed(self, key: bytes) -> None:
        if self._others and self._random.random() < FOLLOWED_WRITES:
            self._random.choice(self._others).follow(key)

    def _note(self, what: str) -> None:
        self._simulation.trace.note(self._name, what)


class _Attempt:
    """One operation, sent to one node, until its outcome is in the history, or it is tried again."""

    def __init__(
        self,
        client: Client,
        simulation: Simulation,
        history: StoreHistory,
        member: SimulatedMember,
        record: StoreOperationRecord,
        request_id: bytes | None,
    ) -> None:
        self._request_id = request_id
        self._number = 1
        self._may_be_run = False  # by this attempt or one before
        self._client = client
        self._simulation = simulation
        self._history = history
        self._member = member
        self._record = record
        assert member.node is not None
        assert member.parts is not None
        self._node, self._parts = member.node, member.parts
        self._is_over = False

    def next(self, member: SimulatedMember) -> "_Attempt":
        """The next attempt of the same operation."""
        attempt = _Attempt(
            self._client, self._simulation, self._history, member, self._record, self._request_id
        )
        attempt._number, attempt._may_be_run = self._number + 1, self._may_be_run
        return attempt

    def begin(self, timeout_s: float) -> None:
        """Send the operation, and poll its progress after each event of the node."""
        request = self._record.request
        try:
            if isinstance(request, StoreStaleRead):
                self._read_at_once(request.txn)
                return
            self._txn = None if isinstance(request, StoreCompact) or may_change(request) else request
            if self._txn is not None:
                self._round = self._parts.reads.join()
                self._poll = self._poll_read
            else:
                self._command = command_of(request, self._request_id)
                self._proposal = self._node.submit(self._command)
                self._client.writes[self._proposal.id] = self._record
                self._poll = self._poll_write
        except ProposalError:
            self._end(Outcome.FAILED)
            return
        self._simulation.timeline.after(timeout_s, self._give_up)
        self._member.add_poll(self._poll)

    def _read_at_once(self, txn: StoreTxn) -> None:
        if self._node.is_restoring:
            self._end(Outcome.FAILED)
        else:
            self._end(Outcome.COMPLETED, read(self._store, txn))

    @property
    def _store(self) -> Store:
        store = self._member.machine
        assert isinstance(store, Store)
        return store

    def _poll_write(self) -> bool:
        if self._is_over:
            return True
        if self._proposal.is_settled:
            try:
                applied = self._proposal.result()
            except ProposalError as error:
                self._end(_outcome_of(error))
            else:
                invariants = self._simulation.invariants
                invariants.check_acknowledged(applied.term, applied.index, self._command)
                invariants.freshness.acknowledged(self._simulation.now, applied.index)
                self._end(Outcome.COMPLETED, answer_of(applied.result))
        elif self._member.node is not self._node:
            self._end(Outcome.UNKNOWN)  # the connection broke
        return self._is_over

    def _poll_read(self) -> bool:
        if self._is_over:
            return True
        index, applied = self._round.index, self._parts.applied
        if index is not None and applied.index >= index and not applied.is_restoring:
            assert self._txn is not None
            self._end(Outcome.COMPLETED, read(self._store, self._txn))
        elif (self._round.done.is_set() and index is None) or self._member.node is not self._node:
            self._end(Outcome.FAILED)
        return self._is_over

    def _give_up(self) -> None:
        if self._is_over:
            return
        if self._txn is not None:
            self._end(Outcome.FAILED)
        else:
            self._end(_outcome_of(self._proposal.give_up()))

    def _end(self, outcome: Outcome, answer: StoreAnswer | None = None) -> None:
        self._is_over = True
        if self._request_id is not None and not isinstance(answer, StoreTxnAnswer):
            self._may_be_run = self._may_be_run or outcome is Outcome.UNKNOWN
            if self._may_be_run and self._number < MAX_ATTEMPTS:
                self._client.try_again(self)
                return
            if self._may_be_run:  # whatever became of this attempt, one before may still be run
                outcome, answer = Outcome.UNKNOWN, None
        if answer is not None:
            self._history.complete(self._record, answer)
        elif outcome is Outcome.FAILED:
            self._history.fail(self._record)
        else:
            self._history.give_up(self._record)
        self._client.ended(self._record)


def _outcome_of(error: ProposalError) -> Outcome:
    """What a client knows after an error, as from the REST API: 504 is unknown, everything else failed."""
    return Outcome.UNKNOWN if isinstance(error, OutcomeUnknown) else Outcome.FAILED
