"""Simulated clients with leases, the members' lessors, and what is asked of both.

Each client has one lease, and two keys that it puts at once, always with that lease. So a revocation and an
expiry are deletes of the two, for the history. All members run the deadlines of a real server, on their own
clocks, and the leader proposes what has expired. At the end the log is gone through:

- What clients were told is what a lease that lives, or not, makes of each entry: so none lives on after the
  entry that has ended it.
- By the clock of the leader that has seen an expiry, the lease's whole time had passed since the client asked
  for its last renewal.
- The keys of a lease vanish at one revision: the history asks for that.
- At last no lease lives, since nobody renews it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from raftkv_trio.access.lease_deadlines import LeaseDeadlines
from raftkv_trio.errors import ProposalError
from raftkv_trio.kv import (
    ExpireLeases,
    Failed,
    Failure,
    GrantLease,
    InvalidTxn,
    LeaseCommand,
    LeaseGranted,
    LeaseRevoked,
    LeasesRenewed,
    Put,
    RenewLeases,
    RevokeLease,
    Store,
    Txn,
    TxnResult,
    decode_command,
    encode_command,
    prefix_end,
)
from raftkv_trio.node.node import Node
from raftkv_trio.node.proposals import Applied, Proposal
from raftkv_trio.payload.proposal import ProposalId, decode_proposal
from raftkv_trio.raft.types import Entry
from raftkv_trio.testing.campaign.kv_requests import answer_of, read
from raftkv_trio.testing.histories.lease_model import LeaseModel
from raftkv_trio.testing.histories.revision_order import StoreHistory, StoreOperationRecord
from raftkv_trio.testing.histories.store_requests import (
    StoreDelete,
    StoreGet,
    StorePut,
    StoreStaleRead,
    StoreTxn,
)
from raftkv_trio.testing.invariants.violation import LEASES, Violation
from raftkv_trio.testing.schedules.schedule import Schedule
from raftkv_trio.testing.simulator.simulated_member import ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation

CHECK_INTERVAL_S = 0.2
GIVE_UP_S = 3.0
#: The most leases and keys that a member looks at at once: more than there are.
ALL = 1000
#: So that the bytes of each grant and renewal are others, though they ask for the same.
MUCH = 2**40
#: Leases after this one queue for a lock (`lock_clients.py`), which has this name.
FIRST_LOCK_LEASE, LOCK = 100, b"lock"


@dataclass(slots=True, kw_only=True, eq=False)
class LeaseOperation:
    """One proposal about a lease.

    Attributes:
        clocks: of each member, by id, when it was asked for.
        proposer: the leader that has seen an expiry; None for what clients ask for.
        record: in the history, if it may change keys.
        told: whether it had an effect, as the client was told; None: it was not told.
    """

    lease_id: int
    clocks: dict[int, float]
    ttl_s: int
    proposer: int | None = None
    record: StoreOperationRecord | None = None
    told: bool | None = None


class Leases:
    """All of it, for one seed.

    Attributes:
        operations: by proposal.
    """

    def __init__(self, schedule: Schedule, simulation: Simulation, history: StoreHistory) -> None:
        self.operations: dict[ProposalId, LeaseOperation] = {}
        self._simulation = simulation
        self._history = history
        self._are_run = False
        self._deadlines: dict[int, tuple[Store, LeaseDeadlines]] = {}
        # With fewer clients there are fewer of these too, so that a failure without leases shrinks to none.
        count = min(Random(f"leases of {schedule.seed}").choice((0, 1, 2)), schedule.clients // 2)
        self._clients = [
            _Client(number, schedule, simulation, history, self) for number in range(1, count + 1)
        ]

    def begin(self) -> None:
        """Start the clients, and the lessors."""
        for client in self._clients:
            client.plan()
        if self._clients:
            self.run_lessors()

    def run_lessors(self) -> None:
        """Have all members let leases expire, from now on."""
        if not self._are_run:
            self._are_run = True
            self._simulation.timeline.after(CHECK_INTERVAL_S, self._look)

    def are_done(self) -> bool:
        """Whether no client waits for an answer, or will ask again."""
        return all(client.is_done for client in self._clients)

    def heal(self) -> Iterator[tuple[str, Callable[[], bool]]]:
        """What must become true when all faults have ended, and the clients too."""
        if self._are_run:
            yield "a lease lives that nobody renews", self._are_gone

    def clocks(self) -> dict[int, float]:
        """What the clocks of all members show."""
        return {member.id: member.clock.now() for member in self._simulation.members.values()}

    def propose(self, node: Node, command: LeaseCommand | Txn, operation: LeaseOperation) -> Proposal | None:
        """Have a node propose it; None if it refuses."""
        try:
            proposal = node.submit(encode_command(command))
        except ProposalError:
            if operation.record is not None:
                self._history.fail(operation.record)
            return None
        self.operations[proposal.id] = operation
        return proposal

    def delete(self, name: str, lease_id: int) -> StoreOperationRecord:
        """In the history, the end of a lease."""
        return self._history.invoke(name, None, StoreTxn(success=(StoreDelete(*range_of(lease_id)),)))

    def _are_gone(self) -> bool:
        stores = [member.machine for member in self._simulation.members.values() if member.leads]
        return any(isinstance(store, Store) and not len(store.leases) for store in stores)

    # ------------------------------------------------------------ the lessors

    def _look(self) -> None:
        self._simulation.timeline.after(CHECK_INTERVAL_S, self._look)
        for member in self._simulation.members.values():
            # A paused process does nothing, and goes on with what it believed.
            if member.node is not None and member.state is ProcessState.UP and not member.node.is_restoring:
                self._look_at(member, member.node)

    def _look_at(self, member: SimulatedMember, node: Node) -> None:
        store = member.machine
        assert isinstance(store, Store)
        if member.id not in self._deadlines or self._deadlines[member.id][0] is not store:
            self._deadlines[member.id] = store, LeaseDeadlines(store)
        deadlines = self._deadlines[member.id][1]
        now_s, term = member.clock.now(), node.term
        deadlines.see_reign(now_s, term, member.leads)
        while deadlines.take_touched(now_s, ALL):
            pass
        due, _ = deadlines.look(now_s, ALL, ALL, ALL)
        for lease in due.expired if member.leads else ():
            operation = LeaseOperation(
                lease_id=lease.id,
                clocks=self.clocks(),
                ttl_s=0,
                proposer=member.id,
                record=self.delete("lessor", lease.id),
            )
            proposal = self.propose(node, ExpireLeases(term, (lease,)), operation)
            if proposal is not None:
                self._simulation.trace.note(f"node {member.id}", f"lets lease {lease.id} expire")
                member.add_poll(lambda: True)  # the node has something to do
                self._simulation.timeline.after(GIVE_UP_S, give_up, proposal)

    # ------------------------------------------------------------ the verdict

    def judge(self) -> dict[ProposalId, StoreOperationRecord]:
        """Raise Violation for what leases must not do; return what has changed keys, by proposal."""
        model, changes = LeaseModel(), {}
        for entry in self._simulation.invariants.committed_commands():
            proposal_id, _ = decode_proposal(entry.data)
            operation = self.operations.get(proposal_id)
            has_effect = self._replay(model, entry)
            if operation is None:
                continue
            if operation.told is not None and operation.told != has_effect:
                raise Violation(
                    LEASES,
                    f"entry {entry.index} {'has' if operation.told else 'has not'} found that lease"
                    f" {operation.lease_id} lives, as a client was told",
                )
            if operation.record is not None and has_effect:
                changes[proposal_id] = operation.record
        for proposal_id, operation in self.operations.items():
            record = operation.record
            if record is not None and record.ended is None and proposal_id not in changes:
                self._history.fail(record)  # the log is whole: it is not in it, or had no effect
        return changes

    def _replay(self, model: LeaseModel, entry: Entry) -> bool:
        proposal_id, encoded = decode_proposal(entry.data)
        try:
            command = decode_command(encoded)
        except InvalidTxn:  # a stranger's
            return False
        match command:
            case GrantLease(lease_id):
                return model.grant(lease_id, proposal_id)
            case RevokeLease(lease_id):
                return model.revoke(lease_id)
            case RenewLeases(ids):
                return model.renew(ids[0], proposal_id)
            case ExpireLeases(term, ((lease_id, renewal),)):
                renewed_by = model.renewed_by.get(lease_id)
                if not model.expire(lease_id, renewal, is_of_term=term == entry.term):
                    return False
                self._check_time(self.operations[proposal_id], renewed_by, entry.index)
                return True
            case Txn(success=(Put(lease=int(lease_id)), *_)):
                return model.lives(lease_id)
        return False

    def _check_time(self, expiry: LeaseOperation, renewed_by: object, index: int) -> None:
        renewal = self.operations[renewed_by]  # type: ignore[index]  # the id of a proposal
        leader = expiry.proposer
        assert leader is not None
        asked_s = renewal.clocks.get(leader)
        if asked_s is not None and expiry.clocks[leader] < asked_s + renewal.ttl_s:
            raise Violation(
                LEASES,
                f"lease {expiry.lease_id} expires with entry {index}, by the clock of node {leader}"
                f" {expiry.clocks[leader] - asked_s:.3f} s after its client asked for the last renewal, not"
                f" {renewal.ttl_s} s",
            )


class _Client:
    """A client with one lease."""

    def __init__(
        self, number: int, schedule: Schedule, simulation: Simulation, history: StoreHistory, leases: Leases
    ) -> None:
        self.is_done = False
        self._id = number
        self._name = f"lease client {number}"
        self._ends_at = schedule.duration_s
        self._simulation = simulation
        self._history = history
        self._leases = leases
        self._random = Random(f"lease client {number} of {schedule.seed}")
        self._ttl_s = self._random.choice((1, 2, 4))
        self._believes_in_it = False
        self._count = 0

    def plan(self) -> None:
        """Plan the next request."""
        pause_s = self._random.uniform(0.05, self._random.choice((0.3, 0.3, 0.3, 1.5 * self._ttl_s)))
        self._simulation.timeline.after(pause_s, self._ask)

    def _ask(self) -> None:
        if self._simulation.now >= self._ends_at:
            self.is_done = True
            return
        up = [m for m in self._simulation.members.values() if m.node is not None]
        if not up:
            self.plan()
            return
        member = self._random.choice(up)
        assert member.node is not None
        if self._random.random() < 0.2:
            self._read(member)
            return
        self._count += 1
        command, record = self._draw()
        operation = LeaseOperation(
            lease_id=self._id, clocks=self._leases.clocks(), ttl_s=self._ttl_s, record=record
        )
        proposal = self._leases.propose(member.node, command, operation)
        if proposal is None:
            self.plan()
            return
        self._simulation.trace.note(self._name, f"asks node {member.id}: {command}")
        attempt = LeaseAttempt(member, proposal, operation, self._ended)
        self._simulation.timeline.after(GIVE_UP_S, attempt.give_up)

    def _draw(self) -> tuple[LeaseCommand | Txn, StoreOperationRecord | None]:
        draw = self._random.random() if self._believes_in_it else 0.8 + 0.2 * self._random.random()
        if draw < 0.5:
            return RenewLeases((self._id, MUCH + self._count)), None
        if draw < 0.8:
            value = b"%d of %s" % (self._count, self._name.encode())
            keys = keys_of(self._id)
            request = StoreTxn(success=tuple([StorePut(key, value + key) for key in keys]))
            puts = tuple([Put(key, value + key, self._id) for key in keys])
            return Txn(success=puts), self._history.invoke(self._name, None, request)
        if draw < 0.87:
            return RevokeLease(self._id), self._leases.delete(self._name, self._id)
        return GrantLease(self._id, self._ttl_s, MUCH + self._count), None

    def _read(self, member: SimulatedMember) -> None:
        assert member.node is not None
        store = member.machine
        assert isinstance(store, Store)
        txn = StoreTxn(success=(StoreGet(*range_of(self._id)),))
        record = self._history.invoke(self._name, None, StoreStaleRead(txn))
        if member.node.is_restoring:
            self._history.fail(record)
        else:
            self._history.complete(record, read(store, txn))
        self.plan()

    def _ended(self, operation: LeaseOperation, applied: Applied | None) -> None:
        """A proposal is settled: applied, or it may be or not."""
        if applied is not None:
            self._tell(operation, applied.result)
        self._simulation.trace.note(self._name, f"is told: {operation.told}")
        self.plan()

    def _tell(self, operation: LeaseOperation, result: object) -> None:
        match result:
            case LeaseGranted() | Failed(Failure.LEASE_EXISTS):
                operation.told = isinstance(result, LeaseGranted)
                self._believes_in_it = True
            case LeaseRevoked():
                operation.told, self._believes_in_it = True, False
            case LeasesRenewed(ttls_s):
                operation.told = self._believes_in_it = ttls_s[0] > 0
            case Failed(Failure.LEASE_NOT_FOUND):
                operation.told = self._believes_in_it = False
            case TxnResult():
                operation.told = True
                assert operation.record is not None
                self._history.complete(operation.record, answer_of(result))
            case _:
                raise AssertionError(f"no result that a client with a lease is told: {result}")


class LeaseAttempt:
    """A proposal of a client, until it is settled, or the process of its node ends."""

    def __init__(
        self,
        member: SimulatedMember,
        proposal: Proposal,
        operation: LeaseOperation,
        ended: Callable[[LeaseOperation, Applied | None], None],
    ) -> None:
        self._node = member.node
        self._member = member
        self._proposal = proposal
        self._operation = operation
        self._ended = ended
        self._is_over = False
        member.add_poll(self._poll)

    def give_up(self) -> None:
        """Wait no longer."""
        if not self._is_over:
            self._proposal.give_up()
            self._end(None)

    def _poll(self) -> bool:
        if self._is_over:
            return True
        if self._proposal.is_settled:
            try:
                self._end(self._proposal.result())
            except ProposalError:
                self._end(None)
        elif self._member.node is not self._node:
            self._end(None)
        return self._is_over

    def _end(self, applied: Applied | None) -> None:
        self._is_over = True
        self._ended(self._operation, applied)


def give_up(proposal: Proposal) -> None:
    """Wait for a proposal no longer."""
    if not proposal.is_settled:
        proposal.give_up()


def keys_of(lease_id: int) -> tuple[bytes, bytes]:
    """The keys that are put with a lease, and with no other."""
    return b"a lease %d/1" % lease_id, b"a lease %d/2" % lease_id


def lock_key(lease_id: int) -> bytes:
    """The key with which a lease queues for the lock."""
    return LOCK + b"/%x" % lease_id


def range_of(lease_id: int) -> tuple[bytes, bytes]:
    """The range of these keys; of a lease of a lock, that of the lock's key."""
    if lease_id > FIRST_LOCK_LEASE:
        return lock_key(lease_id), lock_key(lease_id) + b"\0"
    prefix = b"a lease %d/" % lease_id
    return prefix, prefix_end(prefix)
