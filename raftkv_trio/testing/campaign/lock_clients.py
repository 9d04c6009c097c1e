"""Simulated clients that queue for a lock, by the code of a real server, and what is asked of the lock.

Each has a lease, which it renews, or not in time. It queues with a key of that lease, waits for its turn, and
then increments a counter some times, in writes that are fenced: they compare the create revision of its key.
If it does not know what became of a write it leaves the queue before it asks for anything else. At the end
the committed log tells (`true_changes.py`):

- Who was told that it is its turn had the oldest key of all at that revision, and that key had its lease. So
  a lock has one holder a lease, as far as leases live by the log.
- Who was told that it queues no more had no such key.
- The counter is incremented by one each time.
- At last nobody waits.
"""

from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import NamedTuple, cast

from raftkv_trio.access.candidates import Candidate, Candidates
from raftkv_trio.access.replicated_store import ReplicatedStore
from raftkv_trio.errors import OutcomeUnknown, ProposalError
from raftkv_trio.kv import (
    Compare,
    Delete,
    Failed,
    Failure,
    Get,
    GrantLease,
    LeaseGranted,
    LeasesRenewed,
    Operation,
    Put,
    Relation,
    RenewLeases,
    Store,
    Target,
    Txn,
    TxnResult,
    decode_command,
    encode_command,
)
from raftkv_trio.node.proposals import Applied, Proposal
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.testing.campaign.kv_requests import answer_of
from raftkv_trio.testing.campaign.lease_clients import (
    FIRST_LOCK_LEASE,
    GIVE_UP_S,
    LOCK,
    MUCH,
    LeaseAttempt,
    LeaseOperation,
    Leases,
    lock_key,
)
from raftkv_trio.testing.campaign.stepped_coroutine import SteppedCoroutine, Until
from raftkv_trio.testing.campaign.true_changes import TrueChanges
from raftkv_trio.testing.campaign.watch_hubs import Hubs, SimulatedHub
from raftkv_trio.testing.histories.revision_order import StoreHistory, StoreOperationRecord
from raftkv_trio.testing.histories.store_requests import (
    StoreCompare,
    StoreDelete,
    StoreGet,
    StoreOperation,
    StorePut,
    StoreTxn,
)
from raftkv_trio.testing.invariants.violation import LOCKS, Violation
from raftkv_trio.testing.schedules.schedule import Schedule
from raftkv_trio.testing.simulator.simulated_member import SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation

COUNTER = b"locked counter"


class Claim(NamedTuple):
    """What a client was told of its turn, by a store at a revision."""

    client: str
    lease_id: int
    create_revision: int
    holds: bool
    revision: int


class LockClients:
    """All of them, for one seed."""

    def __init__(
        self, schedule: Schedule, simulation: Simulation, history: StoreHistory, leases: Leases, hubs: Hubs
    ) -> None:
        self._leases = leases
        # With fewer clients there are fewer of these too, so that a failure without locks shrinks to none.
        count = min(Random(f"locks of {schedule.seed}").choice((0, 0, 3, 4)), schedule.clients // 2)
        self._clients = [
            _Client(number, schedule, simulation, history, leases, hubs) for number in range(1, count + 1)
        ]

    def begin(self) -> None:
        """Start the clients."""
        for client in self._clients:
            client.plan()
            client.plan_renewal()
        if self._clients:
            self._leases.run_lessors()

    def heal(self) -> Iterator[tuple[str, Callable[[], bool]]]:
        """What must become true when all faults have ended."""
        if self._clients:
            yield "a client still queues for a lock", lambda: all(c.is_done for c in self._clients)

    @property
    def writes(self) -> dict[ProposalId, StoreOperationRecord]:
        """Their writes, by proposal."""
        return {i: record for client in self._clients for i, record in client.writes.items()}

    def judge(self, changes: TrueChanges) -> None:
        """Raise Violation if a lock had two holders, or a holder without a lease, or the counter has lost."""
        claims = sorted([c for client in self._clients for c in client.claims], key=lambda c: c.revision)
        queue: dict[int, int] = {}  # the create revision, by lease
        leases = {lock_key(c.lease_id): c.lease_id for c in claims}
        counted, told = 0, 0
        for change, _ in changes.between(2, changes.revision):
            while told < len(claims) and claims[told].revision < change.revision:
                check_claim(claims[told], queue)
                told += 1
            kv, lease_id = change.key_value, leases.get(change.key)
            if change.key == COUNTER:  # others may delete it, with all keys of the lock
                counted = 0 if kv is None else counted + 1
                if kv is not None and _count(kv.value) != counted:
                    raise Violation(LOCKS, f"the counter is {kv.value!r} after {counted} increments")
            elif lease_id is not None and kv is None:
                queue.pop(lease_id, None)
            elif lease_id is not None and kv is not None:
                if kv.lease != lease_id:
                    raise Violation(LOCKS, f"the key {change.key!r} of a lock has lease {kv.lease}")
                queue[lease_id] = kv.create_revision
        for claim in claims[told:]:
            check_claim(claim, queue)


def check_claim(claim: Claim, queue: dict[int, int]) -> None:
    """Raise Violation if a claim does not fit the queue at its revision."""
    what = f"{claim.client} was told at revision {claim.revision} that"
    if not claim.holds and queue.get(claim.lease_id) == claim.create_revision:
        raise Violation(LOCKS, f"{what} it queues no more, and its key was there")
    if claim.holds and queue.get(claim.lease_id) != claim.create_revision:
        raise Violation(LOCKS, f"{what} it holds a lock, and its key was gone")
    if claim.holds and min(queue.values()) < claim.create_revision:
        raise Violation(LOCKS, f"{what} it holds a lock, and others were before it: {queue}")


class _Replica:
    """A member as the code for candidates sees it: node, store and watches in one."""

    quota_bytes = None

    def __init__(self, client: "_Client", member: SimulatedMember, hub: SimulatedHub) -> None:
        assert isinstance(member.machine, Store)
        self.node = self
        self.store = member.machine
        self.watches = hub
        self.member = member
        self._client = client

    async def wait_restored(self) -> None:
        await Until(lambda: self.watches.can_be_asked)

    async def write(self, command: bytes) -> Applied:
        return await self._client.write(self.member, command)


class _Client:
    """A client that queues.

    Attributes:
        is_done: whether it queues no more, and never again.
        writes: by proposal.
        claims: what it was told of its turns.
    """

    def __init__(
        self,
        number: int,
        schedule: Schedule,
        simulation: Simulation,
        history: StoreHistory,
        leases: Leases,
        hubs: Hubs,
    ) -> None:
        self.is_done = False
        self.writes: dict[ProposalId, StoreOperationRecord] = {}
        self.claims: list[Claim] = []
        self._name = f"lock client {number}"
        self._ends_at = schedule.duration_s
        self._simulation = simulation
        self._history = history
        self._leases = leases
        self._hubs = hubs
        self._random = Random(f"lock client {number} of {schedule.seed}")
        # So that the order of keys is not always that in which they come.
        self._lease_id = FIRST_LOCK_LEASE + 1 + (7 * number + schedule.seed) % 11
        self._ttl_s = self._random.choice((1, 2, 4))
        self._renewal_s = self._ttl_s * self._random.choice((0.2, 0.2, 0.7))
        self._has_lease = False
        self._in_doubt: Candidate | None = None
        self._count = 0

    # ------------------------------------------------------------ its lease

    def plan_renewal(self) -> None:
        """Plan when it renews its lease, or wants another one."""
        self._simulation.timeline.after(self._random.uniform(0.5, 1.5) * self._renewal_s, self._renew)

    def _renew(self) -> None:
        if self._simulation.now >= self._ends_at:
            return
        member = self._choose()
        if member is None or member.node is None:
            self.plan_renewal()
            return
        self._count += 1
        lease_id, number = self._lease_id, MUCH + self._count
        wanted = (
            RenewLeases((lease_id, number)) if self._has_lease else GrantLease(lease_id, self._ttl_s, number)
        )
        operation = LeaseOperation(lease_id=lease_id, clocks=self._leases.clocks(), ttl_s=self._ttl_s)
        proposal = self._leases.propose(member.node, wanted, operation)
        if proposal is None:
            self.plan_renewal()
            return
        attempt = LeaseAttempt(member, proposal, operation, self._is_told)
        self._simulation.timeline.after(GIVE_UP_S, attempt.give_up)

    def _is_told(self, operation: LeaseOperation, applied: Applied | None) -> None:
        match applied.result if applied is not None else None:
            case LeaseGranted():
                operation.told = self._has_lease = True
            case Failed(Failure.LEASE_EXISTS):
                operation.told, self._has_lease = False, True
            case LeasesRenewed(ttls_s):
                operation.told = self._has_lease = ttls_s[0] > 0
        self.plan_renewal()

    # ------------------------------------------------------------ its turns

    def plan(self) -> None:
        """Plan when it queues the next time."""
        self._simulation.timeline.after(self._random.uniform(0.02, 0.3), self._begin)

    def _begin(self) -> None:
        if self._simulation.now >= self._ends_at:
            self.is_done = True
            return
        member = self._choose()
        hub = None if member is None else self._hubs.of(member)
        if member is None or hub is None or not self._has_lease:
            self.plan()
            return
        replica = _Replica(self, member, hub)
        candidates = Candidates(cast(ReplicatedStore, replica))  # of which it has what they use
        coroutine = self._take_turn(replica, candidates)
        SteppedCoroutine(coroutine, member, self._simulation.timeline, self._random, self.plan)

    def _choose(self) -> SimulatedMember | None:
        up = [m for m in self._simulation.members.values() if m.node is not None]
        return self._random.choice(up) if up else None

    async def _take_turn(self, replica: _Replica, candidates: Candidates) -> None:
        if self._in_doubt is not None:
            await candidates.leave(self._in_doubt.key, self._in_doubt.create_revision)
            self._in_doubt = None
        self._count += 1
        candidate = await candidates.enter(LOCK, self._lease_id, b"%d of %s" % (self._count, self._bytes))
        if not isinstance(candidate, Candidate):
            self._has_lease = False
            return
        holds = await candidates.wait_turn(candidate)
        revision = replica.store.revision
        self._simulation.trace.note(self._name, f"holds at revision {revision}: {holds}")
        created = candidate.create_revision
        self.claims.append(Claim(self._name, self._lease_id, created, holds, revision))
        if not holds:
            return
        self._in_doubt = candidate
        for _ in range(self._random.randrange(4)):
            await self._pause(replica.member, self._random.choice((0.0, 0.05, self._ttl_s)))
            if not await self._increment(replica, candidate):
                break
        await candidates.leave(candidate.key, created)
        self._in_doubt = None

    async def _increment(self, replica: _Replica, candidate: Candidate) -> bool:
        await replica.wait_restored()
        present = replica.store.get(COUNTER)
        self._count += 1
        count = 1 + (0 if present is None else _count(present.value))
        value = b"%d, %d of %s" % (count, self._count, self._bytes)
        is_still = Compare(candidate.key, Target.CREATE_REVISION, Relation.EQUAL, candidate.create_revision)
        txn = Txn((is_still,), (Put(COUNTER, value),), ())
        result = (await replica.write(encode_command(txn))).result
        return isinstance(result, TxnResult) and result.succeeded

    def _pause(self, member: SimulatedMember, pause_s: float) -> Awaitable[None]:
        until = self._simulation.now + pause_s
        self._simulation.timeline.at(until, member.run_polls)
        return Until(lambda: self._simulation.now >= until)

    @property
    def _bytes(self) -> bytes:
        return self._name.encode()

    # ------------------------------------------------------------ its writes

    async def write(self, member: SimulatedMember, command: bytes) -> Applied:
        """Have a member's node write something, and wait for its end. Raises ProposalError."""
        txn = decode_command(command)
        assert isinstance(txn, Txn)
        record = self._history.invoke(self._name, None, _request_of(txn))
        assert member.node is not None
        try:
            proposal = member.node.submit(command)
        except ProposalError:
            self._history.fail(record)
            raise
        self.writes[proposal.id] = record
        given_up: list[ProposalError] = []
        self._simulation.timeline.after(GIVE_UP_S, self._give_up, member, proposal, given_up)
        try:
            await Until(lambda: proposal.is_settled or bool(given_up))
        except ProposalError:  # the process has ended, perhaps when it was settled
            self._history.give_up(record)
            raise
        try:
            if given_up:
                raise given_up[0]
            applied = proposal.result()
        except OutcomeUnknown:
            self._history.give_up(record)
            raise
        except ProposalError:
            self._history.fail(record)
            raise
        if isinstance(applied.result, Failed):  # there is no such lease
            self._history.fail(record)
        else:
            self._history.complete(record, answer_of(applied.result))
        return applied

    def _give_up(self, member: SimulatedMember, proposal: Proposal, given_up: list[ProposalError]) -> None:
        if not proposal.is_settled:
            given_up.append(proposal.give_up())
            member.run_polls()


def _request_of(txn: Txn) -> StoreTxn:
    """A txn of candidates, for the history, which knows no leases."""
    compares = [StoreCompare(compare.key, "created", "=", compare.operand) for compare in txn.compares]
    return StoreTxn(
        tuple(compares), tuple(map(_operation_of, txn.success)), tuple(map(_operation_of, txn.failure))
    )


def _operation_of(operation: Operation) -> StoreOperation:
    match operation:
        case Put(key, value):
            return StorePut(key, value)
        case Delete(key, None):
            return StoreDelete(key)
        case Get(key, None):
            return StoreGet(key)
    raise AssertionError(f"candidates do not do this: {operation}")


def _count(value: bytes) -> int:
    return int(value.split(b",")[0])
