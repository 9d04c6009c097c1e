"""The simulated operator: adds members and starts their processes, removes and replaces members.

The operator asks any running member, and asks again if there is no answer, as people do. The answers are
checked: a refused change must be in no log, a confirmed change must be in the log.
"""

from collections.abc import Set
from dataclasses import replace

from raftkv_trio.errors import ChangeRefused, OutcomeUnknown, ProposalError
from raftkv_trio.node.node import Node
from raftkv_trio.node.proposals import Proposal
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.raft.confchange import all_members
from raftkv_trio.testing.invariants.configurations import halves
from raftkv_trio.testing.schedules.schedule import Fault
from raftkv_trio.testing.simulator.simulated_member import SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation, address_of

MAX_ATTEMPTS = 5
#: How often the operator looks for members that know no present one.
LOOK_EVERY_S = 5.0
ANSWER_TIMEOUT_S = 3.0
#: More nodes would make a seed take too long.
MAX_NODES = 9


def join(simulation: Simulation, fault: Fault) -> None:
    """Add `number` new nodes in one request; if the fault names a node, that one, removed before or not."""
    if fault.node is not None:
        ids = [fault.node]
    else:
        first = max(simulation.members) + 1
        ids = [i for i in range(first, first + fault.number) if i <= MAX_NODES]
    if ids:
        _Request(simulation, _additions(ids), is_forced=fault.forced).ask()
        _begin(simulation, ids, fault.duration_s)


def remove(simulation: Simulation, fault: Fault) -> None:
    """Remove `number` members in one request, first the member that the fault names."""
    changes = _removals(simulation, fault)
    if changes:
        _Request(simulation, changes, is_forced=fault.forced).ask()


def replace_member(simulation: Simulation, fault: Fault) -> None:
    """Remove members and add as many new ones, in one request."""
    changes = _removals(simulation, fault)
    first = max(simulation.members) + 1
    ids = [i for i in range(first, first + len(changes)) if i <= MAX_NODES]
    if changes and ids:
        _Request(simulation, [*changes, *_additions(ids)], is_forced=fault.forced).ask()
        _begin(simulation, ids, fault.duration_s)


def help_the_lost(simulation: Simulation) -> None:
    """From now on, start members to which no known node can name the others with a `--cluster` that does.

    While such a member was down, all members that it knows were removed; it listens to nobody else.
    """
    present = all_members(simulation.invariants.configuration.conf_state)
    for node_id in present:
        member = simulation.members[node_id]
        if member.parts is not None and not _named_to(simulation, node_id, present) >= {*present}:
            simulation.trace.note("operator", f"names the present members to node {node_id}")
            member.config = replace(member.config, members={i: address_of(i) for i in present})
            member.stop()
    simulation.timeline.after(LOOK_EVERY_S, help_the_lost, simulation)


def _named_to(simulation: Simulation, node_id: int, present: tuple[int, ...]) -> set[int]:
    """The present members that one of them knows, or can hear of."""
    named, to_ask = {node_id}, [node_id]
    while to_ask:
        parts = simulation.members[to_ask.pop()].parts
        more = [i for i in present if parts is not None and i in parts.known and i not in named]
        named.update(more)
        to_ask += more
    return named


def _additions(ids: list[int]) -> list[MemberChange]:
    return [MemberChange(Action.ADD, i, address_of(i)) for i in ids]


def _begin(simulation: Simulation, ids: list[int], delay_s: float) -> None:
    """Start the processes of new nodes, whether or not the request succeeds."""
    for node_id in ids:
        if node_id not in simulation.members:
            simulation.add(node_id)
            simulation.timeline.after(delay_s, simulation.start, node_id)


def _removals(simulation: Simulation, fault: Fault) -> list[MemberChange]:
    present = all_members(simulation.invariants.configuration.conf_state)
    chosen: list[int] = []
    for _ in range(max(1, fault.number)):
        first = not chosen and fault.node in present
        node_id = fault.node if first else simulation.random.choice(present)
        assert node_id is not None
        if node_id not in chosen and can_lose(simulation, leaving={*chosen, node_id}):
            chosen.append(node_id)
    return [MemberChange(Action.REMOVE, i) for i in chosen]


def can_lose(simulation: Simulation, *, leaving: Set[int] = frozenset(), rotten: int | None = None) -> bool:
    """Whether a majority of voters keeps whole disks, whether or not the pending requests succeed.

    Args:
        leaving: members that are to be removed.
        rotten: a member whose disk is to be damaged.
    """
    lost = {m.id for m in simulation.members.values() if m.is_rotten or m.id == rotten}
    gone = simulation.leaving | leaving
    return not lost or all(
        2 * len(set(half) - gone - lost) > len(half)
        for conf in simulation.invariants.configurations_in_force()
        for half in halves(conf)
    )


class _Request:
    """One request, repeated until it is answered or given up."""

    def __init__(self, simulation: Simulation, changes: list[MemberChange], *, is_forced: bool) -> None:
        self._simulation = simulation
        self._request = ChangeRequest(tuple(changes), is_forced)
        self._attempts = 0
        self._may_happen = False
        simulation.leaving |= self._removed

    @property
    def _removed(self) -> set[int]:
        return {c.node_id for c in self._request.changes if c.action is Action.REMOVE}

    def ask(self) -> None:
        """Ask any member that is up; if none is, try again later."""
        simulation = self._simulation
        self._attempts += 1
        up = [m for m in simulation.members.values() if m.node is not None]
        if not up:
            self._again()
            return
        member = simulation.random.choice(up)
        assert member.node is not None
        self._note(f"asks node {member.id}: {self._text()}")
        try:
            proposal = member.node.change_members(self._request)
        except ProposalError as error:
            self._answered(error)
            return
        _PendingChange(self, member, member.node, proposal)

    def confirmed(self, term: int, index: int) -> None:
        """A member says that the change is applied."""
        self._note("is told that it is done")
        self._simulation.invariants.check_acknowledged(term, index, self._request.encode())

    def refused(self, error: ProposalError, proposal: Proposal) -> None:
        """A member refuses the change, or does not know its outcome."""
        if not isinstance(error, OutcomeUnknown):
            self._simulation.invariants.refused(proposal.id)
        self._answered(error)

    def _answered(self, error: ProposalError) -> None:
        self._note(f"is told: {error}")
        self._may_happen = self._may_happen or isinstance(error, OutcomeUnknown)
        if isinstance(error, ChangeRefused) and "quorum" not in str(error):
            if not self._may_happen:
                self._simulation.leaving -= self._removed
            return
        self._again()

    def _again(self) -> None:
        if self._attempts < MAX_ATTEMPTS:
            self._simulation.timeline.after(self._simulation.random.uniform(0.1, 2.0), self.ask)

    def _note(self, what: str) -> None:
        self._simulation.trace.note("operator", what)

    def _text(self) -> str:
        changes = ", ".join([f"{c.action.name} {c.node_id}" for c in self._request.changes])
        return f"{changes}{', by force' if self._request.is_forced else ''}"


class _PendingChange:
    """One request at one member, until it is answered."""

    def __init__(self, request: _Request, member: SimulatedMember, node: Node, proposal: Proposal) -> None:
        self._request = request
        self._member = member
        self._node = node
        self._proposal = proposal
        self._is_over = False
        request._simulation.timeline.after(ANSWER_TIMEOUT_S, self._give_up)
        member.add_poll(self._poll)

    def _poll(self) -> bool:
        if self._is_over:
            return True
        if self._proposal.is_settled:
            self._is_over = True
            try:
                applied = self._proposal.result()
            except ProposalError as error:
                self._request.refused(error, self._proposal)
            else:
                self._request.confirmed(applied.term, applied.index)
        elif self._member.node is not self._node:
            self._end(OutcomeUnknown("the connection broke"))
        return self._is_over

    def _give_up(self) -> None:
        if not self._is_over:
            self._end(self._proposal.give_up())

    def _end(self, error: ProposalError) -> None:
        self._is_over = True
        self._request.refused(error, self._proposal)
