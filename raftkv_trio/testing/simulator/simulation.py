"""A cluster on virtual time, in one thread and without Trio: equal seeds give equal runs.

    simulation = Simulation(Counter, nodes=3, seed=7)
    simulation.partition([simulation.leader()])
    simulation.run_for(5)  # the other nodes elect a leader
    assert simulation.propose(b"2") == 2
    simulation.heal()

Virtual time passes only inside `run_for`, `run_until`, `propose` and the other methods that wait. Raft's
invariants are checked after each turn of a node's driver; a broken one raises Violation.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import ClassVar

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import NoLeader
from raftkv_trio.state_machine import StateMachine
from raftkv_trio.testing.invariants.configurations import halves
from raftkv_trio.testing.invariants.invariants import Invariants
from raftkv_trio.testing.invariants.violation import LIVENESS, Violation
from raftkv_trio.testing.schedules.schedule import Limits, Occasion
from raftkv_trio.testing.simulator.simulated_member import ProcessState, SimulatedMember
from raftkv_trio.testing.simulator.stepped_member import SteppedMember
from raftkv_trio.testing.world.message_network import Conditions, MessageNetwork
from raftkv_trio.testing.world.stranger import INTERVAL_S, STRANGER_ID, Overheard, draw_frame
from raftkv_trio.testing.world.timeline import Timeline, Trace

# Without a handler Python prints warnings to stderr. Simulated nodes warn of simulated faults, and the trace
# shows those anyway; if the user has configured logging, the warnings go there.
logging.getLogger("raftkv_trio").addHandler(logging.NullHandler())


def address_of(node: int) -> PeerAddress:
    """The address of a node."""
    return PeerAddress(f"node{node}", 9021)


class Simulation:
    """Nodes 1 to `nodes`, each with a state machine, a disk and a clock, and the network between them.

    Attributes:
        members: by id; they have the disks and the clocks.
        network, timeline, trace, invariants: what the members share.
        supervised: whether a node that went down is started again after a while, as a supervisor does.
        leaving: members that somebody has asked to remove; they may be removed already.

    Args:
        make_machine: makes one state machine in its initial state; called at each start of a node.
        seed: of everything random in the simulation.
        conditions: of the network; None: fast and without loss.
        limits: of every node's configuration.
        turn_delay_s: longest time from an event to the driver's turn that takes it.
        keep_trace: keep the lines of the trace, in `trace.lines`.

    Raises:
        ValueError, TypeError: an argument makes no sense.
    """

    network_type: ClassVar[type[MessageNetwork]] = MessageNetwork
    member_type: ClassVar[type[SimulatedMember]] = SteppedMember

    def __init__(
        self,
        make_machine: Callable[[], StateMachine],
        *,
        nodes: int = 3,
        seed: int = 0,
        conditions: Conditions | None = None,
        limits: Limits | None = None,
        turn_delay_s: float = 0.0005,
        keep_trace: bool = False,
    ) -> None:
        if nodes < 1:
            raise ValueError(f"nodes is {nodes}, and has to be 1 or more")
        if not callable(make_machine):
            raise TypeError(f"make_machine makes a state machine, and is no {type(make_machine).__name__}")
        self.supervised = False
        self.timeline = Timeline()
        self.trace = Trace(self.timeline, keep=keep_trace)
        self.random = Random(f"simulation {seed}")
        self.conditions = conditions or Conditions()
        self.network = self.network_type(self.timeline, self.random, self.trace, self.conditions)
        self.invariants = Invariants()
        self.leaving: set[int] = set()
        self._make_member = partial(
            self.member_type,
            make_machine=make_machine,
            limits=limits or Limits(),
            turn_delay_s=turn_delay_s,
            timeline=self.timeline,
            trace=self.trace,
            random=self.random,
            network=self.network,
            invariants=self.invariants,
            went_down=self._went_down,
            happened=self._happened,
        )
        addresses = {i: address_of(i) for i in range(1, nodes + 1)}
        self.members = {i: self._make_member(i, addresses) for i in addresses}
        self._down_s: dict[int, float] = {}
        self._again_s: dict[int, float] = {}
        self._has_power = False  # whether nobody loses power again, whatever was planned
        self._awaiting: dict[Occasion, list[Callable[[int | None], None]]] = {o: [] for o in Occasion}
        self._restarting: set[int] = set()
        for member in self.members.values():
            self.timeline.after(self.random.uniform(0, 0.1), member.start)

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.timeline.now

    # ------------------------------------------------------------ time

    def run_for(self, seconds: float) -> None:
        """Let this much virtual time pass."""
        self.timeline.run_until(self.timeline.now + seconds)

    def run_until(self, condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
        """Let time pass until `condition` holds; raises Violation (liveness) after `within_s`."""
        deadline = self.timeline.now + within_s
        while not condition():
            if self.timeline.next_at > deadline:
                self.timeline.run_until(deadline)
                raise Violation(LIVENESS, f"what was waited for has not come within {within_s} s")
            self.timeline.step()

    def _wait(self, condition: Callable[[], bool], within_s: float, otherwise: str) -> None:
        """Wait for what needs a leader; raises NoLeader with the text `otherwise` after `within_s`."""
        try:
            self.run_until(condition, within_s=within_s)
        except Violation as error:
            if error.invariant != LIVENESS:
                raise
            raise NoLeader(otherwise) from None

    # ------------------------------------------------------------ clients

    def leader(self, *, within_s: float = 10.0) -> int:
        """Wait for a leader that a majority follows, and return its id; raises NoLeader after `within_s`."""
        self._wait(
            lambda: self._leader() is not None, within_s, f"no majority follows a leader within {within_s} s"
        )
        leader_id = self._leader()
        assert leader_id is not None
        return leader_id

    def propose(self, command: bytes, *, node: int | None = None, within_s: float = 5.0) -> object:
        """Propose a command, wait until it is applied, and return the state machine's result.

        Args:
            node: where to propose it; None: at the leader.

        Raises:
            NoLeader: the command was not applied, and never will be.
            OutcomeUnknown: it was not applied within `within_s`, and may still be.
            ProposalError: the node refused it for another reason; it is never applied.
        """
        if not isinstance(command, bytes):
            raise TypeError(f"a command is bytes, and no {type(command).__name__}")
        asked = self.members[self.leader(within_s=within_s) if node is None else node]
        if asked.node is None:
            raise NoLeader(f"node {asked.id} is down")
        proposal = asked.node.submit(command)
        asked.add_poll(lambda: proposal.is_settled)
        life, deadline = asked.restarts, self.timeline.now + within_s
        while not proposal.is_settled and asked.restarts == life and asked.node is not None:
            if self.timeline.next_at > deadline:
                self.timeline.run_until(deadline)
                raise proposal.give_up()
            self.timeline.step()
        applied = proposal.result()
        self.invariants.check_acknowledged(applied.term, applied.index, command)
        return applied.result

    def machine(self, node: int, *, within_s: float = 5.0) -> StateMachine:
        """Wait until a node has applied all that was acknowledged before this call, and return its machine.

        This is a linearizable read. Raises NoLeader after `within_s`; `local_machine` does not wait.
        """
        asked = self.members[node]
        if asked.parts is None:
            raise NoLeader(f"node {node} is down")
        round_, running = asked.parts.reads.join(), asked.parts
        asked.add_poll(lambda: True)

        def is_readable() -> bool:
            return round_.index is not None and running.applied.index >= round_.index

        self._wait(is_readable, within_s, f"node {node} could not read within {within_s} s")
        return self.local_machine(node)

    def local_machine(self, node: int) -> StateMachine:
        """A node's state machine as it is now, or as it was when the node went down."""
        machine = self.members[node].machine
        assert machine is not None, f"node {node} has never been up"
        return machine

    def _leader(self) -> int | None:
        for member in self.members.values():
            if member.parts is None or not member.leads:
                continue
            followers = self._followers(member.id)
            conf = member.parts.raw.raft.conf_state
            if all(2 * len(followers.intersection(half)) > len(half) for half in halves(conf)):
                return member.id
        return None

    def _followers(self, leader_id: int) -> set[int]:
        """The nodes that follow this leader, the leader included."""
        return {
            m.id for m in self.members.values() if m.parts is not None and m.parts.raw.leader_id == leader_id
        }

    # ------------------------------------------------------------ faults

    def partition(self, *groups: Iterable[int]) -> None:
        """Let no message pass between these groups; all nodes in none of them form one more group."""
        sides = [set(group) for group in groups]
        sides.append(set(self.members).difference(*sides))
        self.cut([(a, b) for side in sides for a in side for b in self.members if b not in side])

    def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Lose every message of these (sender, receiver) until `heal`."""
        self.network.cut(tuple(pairs))

    def heal(self) -> None:
        """End all partitions and cuts."""
        self.network.mend_all()

    def crash(self, node: int, *, power: bool = True) -> None:
        """End a node's process at once. It stays down until `start`.

        Args:
            power: the machine loses power too, so that what was not synced may be lost.
        """
        if node not in self.members:
            raise ValueError(f"there is no node {node}; there are {sorted(self.members)}")
        self.members[node].halt(power=power)

    def add(self, node: int) -> SimulatedMember:
        """Add a node that is not started yet; once started, it waits until it is a member of the cluster."""
        addresses = {i: address_of(i) for i in (*self.members, node)}
        member = self.members[node] = self._make_member(node, addresses, joins=True)
        member.disk_call_s = self.members[1].disk_call_s
        return member

    def start(self, node: int) -> None:
        """Start a node that is down, from what is on its disk."""
        self._restarting.discard(node)
        if self.members[node].state is ProcessState.DOWN:
            self.members[node].start()
            if node in self._again_s:
                self.timeline.after(self._again_s.pop(node), self._lose_power_again, node)

    def pause(self, node: int) -> None:
        """Let nothing of a node go on until `resume`, as SIGSTOP does."""
        self.members[node].pause()

    def resume(self, node: int) -> None:
        """Let a paused node go on, as SIGCONT does."""
        self.members[node].resume()

    def run_clone(self, node: int, for_s: float) -> None:
        """Start a copy of a running node's data directory as a second process under its id, for a while.

        At level 1 it does nothing: there are no connections that two processes could take from each other.
        """

    def run_stranger(self, for_s: float) -> None:
        """Let a process that is in no configuration say to members whatever may harm them, for a while."""
        random = Random(f"stranger {self.random.getrandbits(64)}")
        self._speak_as_stranger(random, self.now + for_s)

    def _speak_as_stranger(self, random: Random, until: float) -> None:
        victims = [member for member in self.members.values() if member.parts is not None]
        if victims:
            victim = random.choice(victims)
            assert victim.parts is not None
            heard = Overheard(victim.parts.raw.term, victim.parts.raw.last_index)
            self.network.inject(STRANGER_ID, victim.id, draw_frame(random, victim.id, heard))
        if self.now < until:
            self.timeline.after(random.uniform(*INTERVAL_S), self._speak_as_stranger, random, until)

    def plan_restart(self, node: int, down_s: float, *, again_s: float | None = None) -> None:
        """Decide how long a supervised node stays down the next time.

        Args:
            again_s: how long after the start that follows it loses power; None: it does not.
        """
        self._down_s[node] = down_s
        if again_s is not None:
            self._again_s[node] = again_s

    def end_power_losses(self) -> None:
        """No node loses power any more because `plan_restart` has said so."""
        self._has_power = True

    def _lose_power_again(self, node: int) -> None:
        if not self._has_power:
            self.crash(node)

    def at_next(self, occasion: Occasion, action: Callable[[int | None], None], *, within_s: float) -> None:
        """Call `action` with the id of the node to which this happens next; with None after `within_s`."""
        waiting = [action]

        def act(node: int | None) -> None:
            if waiting:
                waiting.pop()(node)

        self._awaiting[occasion].append(act)
        self.timeline.after(within_s, act, None)

    def _happened(self, member: SimulatedMember, occasion: Occasion) -> None:
        waiting, self._awaiting[occasion] = self._awaiting[occasion], []
        for act in waiting:
            self.timeline.after(0, act, member.id)

    def _went_down(self, member: SimulatedMember) -> None:
        if self.supervised and member.id not in self._restarting:
            self._restarting.add(member.id)
            seconds = self._down_s.pop(member.id, None) or self.random.uniform(0.1, 1.0)
            self.timeline.after(seconds, self.start, member.id)
