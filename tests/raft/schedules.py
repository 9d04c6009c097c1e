"""Random schedules over whole clusters of cores: any order, loss, duplication, crash and change of members.

What must hold of every schedule is in `figure_3.py`, and is checked after every step. At the end everything
heals, and the cluster has to go on (`healing.py`).
"""

import random
from collections import deque
from collections.abc import Callable

from raftkv_trio.raft.confchange import (
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Transition,
    is_joint,
)
from raftkv_trio.raft.errors import ProposalDropped
from raftkv_trio.raft.types import Message, MessageType
from tests.raft.cores import ELECTION_TICKS, Core, Network, bootstrap
from tests.raft.figure_3 import Figure3
from tests.raft.healing import heal, report_lost_snapshots, take_snapshot

MAX_WIRE = 60
VOTES = frozenset({MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP, MessageType.VOTE, MessageType.VOTE_RESP})

Action = Callable[[Core], None]


class Schedule:
    """One cluster of three to five cores; `run` raises AssertionError, or what a core raises."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._size = rng.randrange(3, 6)
        voters = range(1, rng.randrange(3, self._size + 1) + 1)
        self._network = Network(
            snapshot=bootstrap(voters),
            random=rng,
            election_ticks=rng.choice([3, ELECTION_TICKS]),
            max_message_bytes=rng.choice([1, 60, 1000]),
            max_inflight_messages=rng.choice([1, 3, 256]),
            max_committed_bytes_per_ready=rng.choice([1, 60, 1000]),
            pre_vote=rng.random() < 0.6,
            check_quorum=rng.random() < 0.6,
        )
        for node_id in range(len(voters) + 1, self._size + 1):
            self._network.join(node_id)
        self._figure_3 = Figure3()
        self._proposals = 0
        self._stalled: set[tuple[Action, int]] = set()  # whose disk, or state machine, stands still
        # Swarm: some schedules lose nothing, some crash all the time, some change no members.
        self._haste = rng.choice([4, 10])  # messages, writes and applies of a step
        self._eagerness = rng.choice([0.3, 0.8, 1.0])  # share of messages that are acted on at once
        self._diligence = rng.choice([0.3, 0.7, 1.0])  # share of times that the disk is quick
        self._disorder = rng.choice([0.0, 0.1, 1.0])  # share of messages that overtake others
        trouble = rng.choice([0.2, 0.6, 1.5])
        self._actions = [
            (self._move, 40),
            (self._write, rng.choice([2, 10])),
            (self._apply, rng.choice([2, 10])),
            (self._tick, rng.choice([5, 15])),
            (self._propose, rng.choice([2, 8])),
            (self._read, rng.choice([0, 3])),
            (self._change, rng.choice([0, 1, 4])),
            (self._elect, rng.choice([0.5, 2])),
            (self._mend, rng.choice([1, 4])),
            (take_snapshot, 3),
            (report_lost_snapshots, 2),
            (self._compact, rng.choice([0, 2, 6])),
            (self._campaign, trouble * rng.choice([0.3, 1, 4])),
            (self._lose, trouble * rng.choice([0, 1, 10])),
            (self._duplicate, trouble * rng.choice([0, 1, 10])),
            (self._crash, trouble * rng.choice([0, 0.3, 3])),
            (self._partition, trouble * rng.choice([0, 0.3, 1])),
            (self._depose, trouble * rng.choice([0, 1, 3])),
            (self._elect_twice, trouble * rng.choice([0, 1, 3])),
            (self._overwrite, trouble * rng.choice([0, 1, 3])),
            (self._leave_behind, trouble * rng.choice([0, 1, 3])),
            (self._stall, trouble * rng.choice([0, 1, 2])),
            (self._report_unreachable, trouble * rng.choice([0, 1, 3])),
            (self._transfer, trouble * rng.choice([0, 0.5])),
            (self._forget_leader, trouble * rng.choice([0, 0.5])),
        ]

    def run(self, steps: int) -> None:
        """Take `steps` random steps, then heal everything and see that the cluster makes progress."""
        actions, weights = zip(*self._actions, strict=True)
        cores = list(self._network.cores)
        for action in self._rng.choices(actions, weights, k=steps):
            node_id = self._rng.choice(cores)
            action(self._network[node_id])
            self._figure_3.check(self._network[node_id])
        self._cut_off(set())
        heal(self._network, self._figure_3)

    # ------------------------------------------------------------ steps

    def _move(self, core: Core) -> None:
        """Let a core work, and deliver some messages to others, which may work at once."""
        wire = self._network.wire
        self._work(core)
        for _ in range(min(len(wire), self._rng.randrange(2 * self._haste))):
            message = self._take_message(self._disorder)
            self._network.deliver(message)
            receiver = self._network[message.to]
            self._figure_3.check(receiver)
            if self._rng.random() < self._eagerness:
                self._work(receiver)
        while len(wire) > MAX_WIRE:
            self._take_message(1)

    def _work(self, core: Core) -> None:
        """Take what a core wants done; the disk and the state machine may be quick."""
        self._network.hand_out(core.id)
        if self._rng.random() < self._diligence:
            self._write(core)
            self._apply(core)

    def _write(self, core: Core) -> None:
        if core.writes and (self._write, core.id) not in self._stalled:
            for _ in range(min(len(core.writes), self._haste)):
                self._network.wire += core.write()
                self._figure_3.check(core)

    def _apply(self, core: Core) -> None:
        if core.applies and (self._apply, core.id) not in self._stalled:
            for _ in range(min(len(core.applies), self._haste)):
                self._network.wire += core.apply()

    # ------------------------------------------------------------ what is rare when every step is drawn

    def _depose(self, core: Core) -> None:
        """Cut a leader off with what it has just appended; the other side elects another one, and goes on."""
        old = self._leader_or(core)
        self._propose(old)
        self._network.hand_out(old.id)
        others = self._others(old)
        split = self._rng.randrange(self._size // 2)
        self._cut_off({old.id, *[core.id for core in others[:split]]})
        self._elect(others[-1])
        if self._rng.random() < 0.3:
            self._exchange(*others[split:])
            old.raw.read_index(self._figure_3.new_read())

    def _elect_twice(self, core: Core) -> None:
        """Two elections; between them a node, perhaps the leader, comes back that could write nothing."""
        first, second, *_ = self._others(core)
        two_sides = self._rng.random() < 0.5
        self._stalled.add((self._write, core.id))
        self._cut_off({second.id} if two_sides else set())
        self._elect(first if two_sides else core)
        self._propose(core)
        core = self._network.restart(core.id)
        self._stalled.clear()
        self._cut_off({first.id} if two_sides else set())
        self._elect(second if two_sides else core)
        self._propose(core)

    def _overwrite(self, core: Core) -> None:
        """Several leaders in turn reach one follower only, and its disk makes no progress."""
        self._stalled.add((self._write, core.id))
        for leader in self._others(core)[: self._rng.randrange(2, 4)]:
            self._cut_off(set())
            self._elect(leader)
            self._cut_off({leader.id, core.id})
            self._propose(leader)
            self._exchange(leader, core)
        self._cut_off(set())
        self._stalled.clear()

    def _leave_behind(self, core: Core) -> None:
        """A follower whose state machine makes no progress misses so much that it needs a snapshot."""
        leader = self._leader_or(core)
        self._stalled.add((self._apply, core.id))
        self._cut_off(set())
        self._change(leader)
        self._exchange(*self._network.cores.values())
        self._cut_off({core.id})
        for _ in range(3):
            self._propose(leader)
            self._exchange(*self._others(core))
        take_snapshot(leader)
        if leader.storage.snapshot().index > leader.storage.first_index():
            leader.storage.compact(leader.storage.snapshot().index)
        self._cut_off(set())
        self._network.wire.clear()
        leader.raw.report_unreachable(core.id)
        leader.raw.tick()
        self._stalled.add((self._write, core.id))
        self._exchange(leader, core)
        self._stalled.clear()
        self._apply(core)  # what it had committed before the snapshot came

    def _others(self, core: Core) -> list[Core]:
        """The other cores, in any order."""
        others = [other for other in self._network.cores.values() if other is not core]
        self._rng.shuffle(others)
        return others

    def _exchange(self, *cores: Core) -> None:
        """These work, write, apply and hear from each other, a few times."""
        network, ids = self._network, {core.id for core in cores}
        for _ in range(4):
            for core in cores:
                network.hand_out(core.id)
                self._write(core)
                self._apply(core)
            ours = [message for message in network.wire if {message.from_, message.to} <= ids]
            network.wire = deque([message for message in network.wire if message not in ours])
            for message in ours:
                network.deliver(message)
                self._figure_3.check(network[message.to])

    # ------------------------------------------------------------ single steps

    def _stall(self, core: Core) -> None:
        """Let a disk or a state machine stand still."""
        self._stalled.add((self._rng.choice([self._write, self._apply]), core.id))

    def _tick(self, core: Core) -> None:
        if self._rng.random() < 0.6:
            core = self._leader_or(core)  # whose heartbeats start again what was lost
        for _ in range(self._rng.choice([1, 1, 3])):
            core.raw.tick()

    def _campaign(self, core: Core) -> None:
        """Its election timeout passes, and the leader's lease on the others with it."""
        for other in self._network.cores.values():
            if not other.leads and self._rng.random() < 0.7:
                other.raw.raft.election_elapsed = ELECTION_TICKS
        core.raw.campaign()

    def _elect(self, core: Core) -> None:
        """As `_campaign`, and all votes arrive at once, and nothing else."""
        network = self._network
        self._campaign(core)
        for _ in range(4):  # requests for pre-votes, their answers, requests for votes, and their answers
            for voter in network.cores.values():
                network.hand_out(voter.id)
                self._write(voter)
            votes = [message for message in network.wire if message.type in VOTES]
            network.wire = deque([message for message in network.wire if message.type not in VOTES])
            for message in votes:
                network.deliver(message)
                self._figure_3.check(network[message.to])

    def _propose(self, core: Core) -> None:
        core = self._leader_or(core)
        self._proposals += 1
        try:
            core.raw.propose(b"%d" % self._proposals)
        except ProposalDropped:
            pass  # it does not lead, or hands over
        self._figure_3.check(core)

    def _lose(self, core: Core) -> None:
        if self._network.wire:
            self._take_message(1)

    def _duplicate(self, core: Core) -> None:
        if self._network.wire:
            self._network.wire.append(self._rng.choice(self._network.wire))

    def _crash(self, core: Core) -> None:
        """It comes back with what is durable, and sometimes is the first to campaign."""
        if self._rng.random() < 0.5:
            core = self._leader_or(core)
        core = self._network.restart(core.id)
        if self._rng.random() < 0.5:
            self._elect(core)

    def _partition(self, core: Core) -> None:
        """Cut the cluster in two."""
        self._cut_off({core.id, *self._rng.sample(range(1, self._size + 1), self._rng.randrange(2))})

    def _mend(self, core: Core) -> None:
        """Make the cluster whole, and let every disk go on."""
        self._cut_off(set())
        self._stalled.clear()

    def _cut_off(self, side: set[int]) -> None:
        self._network.lost = lambda message: (message.from_ in side) is not (message.to in side)

    def _change(self, core: Core) -> None:
        core = self._leader_or(core)
        if core.leads:
            change = ConfChangeV2()
            if not is_joint(core.configuration) or self._rng.random() < 0.2:
                changes = self._swap(core) if self._rng.random() < 0.4 else self._any_changes()
                change = ConfChangeV2(changes, self._rng.choice(list(Transition)))
            try:
                core.raw.propose_conf_change(change)
            except ProposalDropped:
                pass  # it hands over, or is removed

    def _any_changes(self) -> tuple[ConfChangeSingle, ...]:
        ids = self._rng.sample(range(1, self._size + 1), self._rng.choice([1, 1, 2]))
        kinds = [
            ConfChangeType.ADD_VOTER,
            ConfChangeType.ADD_VOTER,
            ConfChangeType.REMOVE,
            ConfChangeType.ADD_LEARNER,
        ]
        return tuple([ConfChangeSingle(self._rng.choice(kinds), node_id) for node_id in ids])

    def _swap(self, core: Core) -> tuple[ConfChangeSingle, ...]:
        """Replace voters by all members that are not voters, one for one."""
        voters = core.configuration.voters
        new = [node_id for node_id in self._network.cores if node_id not in voters]
        old = self._rng.sample(voters, min(len(new), len(voters)))
        return tuple(
            [ConfChangeSingle(ConfChangeType.ADD_VOTER, node_id) for node_id in new]
            + [ConfChangeSingle(ConfChangeType.REMOVE, node_id) for node_id in old]
        )

    def _report_unreachable(self, core: Core) -> None:
        core.raw.report_unreachable(self._rng.randrange(1, self._size + 1))

    def _transfer(self, core: Core) -> None:
        core.raw.transfer_leader(self._rng.randrange(1, self._size + 1))

    def _forget_leader(self, core: Core) -> None:
        core.raw.forget_leader()

    def _read(self, core: Core) -> None:
        self._leader_or(core).raw.read_index(self._figure_3.new_read())

    def _compact(self, core: Core) -> None:
        """Make a snapshot of what is applied, and forget some of the log behind it."""
        if self._rng.random() < 0.5:
            core = self._leader_or(core)
        take_snapshot(core)
        storage, index = core.storage, core.storage.snapshot().index
        if index > storage.first_index() and self._rng.random() < 0.7:
            storage.compact(self._rng.randrange(storage.first_index(), index + 1))

    def _take_message(self, disorder: float) -> Message:
        wire = self._network.wire
        position = self._rng.randrange(len(wire)) if self._rng.random() < disorder else 0
        message = wire[position]
        del wire[position]
        return message

    def _leader_or(self, core: Core) -> Core:
        """A node that leads, mostly that of the latest term; `core` if there is none."""
        leaders = [other for other in self._network.cores.values() if other.leads] or [core]
        if self._rng.random() < 0.7:
            return max(leaders, key=lambda leader: leader.raw.term)
        return self._rng.choice(leaders)


def run_schedule(seed: int, steps: int = 400) -> None:
    """One schedule of this seed."""
    Schedule(random.Random(seed)).run(steps)
