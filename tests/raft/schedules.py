"""Random schedules over whole clusters of cores: any order, loss, duplication, crash and change of members.

What the paper proves of every schedule (figure 3) is checked after every step:

- Election Safety: at most one leader a term;
- Log Matching: an entry of one index and term is the same everywhere, and follows an entry of one term;
- Leader Completeness: whoever leads has everything that was committed in earlier terms;
- State Machine Safety: nobody commits, or applies, another entry at an index than anybody else.
"""

import random

from raftkv_trio.raft.confchange import (
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Transition,
    all_members,
)
from raftkv_trio.raft.errors import ProposalDropped
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.types import Entry, Message, StateRole
from tests.raft.cores import ELECTION_TICKS, Core, Network, bootstrap

MAX_WIRE = 40


class Schedule:
    """One cluster of three to five cores; `run` raises AssertionError, or whatever a core does."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._size = rng.randrange(3, 6)
        voters = range(1, rng.randrange(3, self._size + 1) + 1)
        self._network = Network(
            snapshot=bootstrap(voters),
            random=rng,
            max_message_bytes=rng.choice([1, 60, 1000]),
            max_inflight_messages=rng.choice([1, 3, 256]),
            max_committed_bytes_per_ready=rng.choice([1, 60, 1000]),
            pre_vote=rng.random() < 0.7,
            check_quorum=rng.random() < 0.7,
        )
        for node_id in range(len(voters) + 1, self._size + 1):
            self._network.join(node_id)
        self._leaders: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._committed: dict[int, Entry] = {}
        self._committed_in: dict[int, int] = {}  # the term of whoever first knew it to be
        self._checked_commit: dict[int, int] = {}
        self._proposals = 0
        # Swarm: some schedules lose nothing, some crash all the time, some change no members.
        self._patience = rng.choice([2, 6])  # messages, writes and applies of a step
        self._diligence = rng.choice([0.2, 0.6, 1.0])  # share of steps in which the disk is quick
        self._actions = [
            (self._move, 60),
            (self._write, rng.choice([2, 10])),
            (self._apply, rng.choice([2, 10])),
            (self._tick, rng.choice([5, 15])),
            (self._campaign, rng.choice([0.2, 1])),
            (self._propose, rng.choice([3, 10])),
            (self._lose, rng.choice([0, 1, 10])),
            (self._duplicate, rng.choice([0, 1, 10])),
            (self._crash, rng.choice([0, 0.3, 2])),
            (self._cut_off, rng.choice([0, 0.5])),
            (self._change, rng.choice([0, 1, 4])),
            (self._transfer, rng.choice([0, 0.5])),
            (self._compact, rng.choice([0, 1])),
        ]

    def run(self, steps: int) -> None:
        """Take `steps` random steps, then heal everything and see that the cluster makes progress."""
        actions, weights = zip(*self._actions, strict=True)
        cores = list(self._network.cores)
        for action in self._rng.choices(actions, weights, k=steps):
            node_id = self._rng.choice(cores)
            action(self._network[node_id])
            self._check(self._network[node_id])
        self._heal()

    # ------------------------------------------------------------ steps

    def _move(self, core: Core) -> None:
        """Hand out what a core wants done, and deliver some messages, of whatever age."""
        self._network.hand_out(core.id)
        if self._rng.random() < self._diligence:
            self._write(core)
            self._apply(core)
        for _ in range(min(len(self._network.wire), self._rng.randrange(2 * self._patience))):
            message = self._take_message()
            self._network.deliver(message)
            self._check(self._network[message.to])
        while len(self._network.wire) > MAX_WIRE:
            self._take_message()

    def _write(self, core: Core) -> None:
        for _ in range(min(len(core.writes), self._patience)):
            self._network.wire += core.write()

    def _apply(self, core: Core) -> None:
        for _ in range(min(len(core.applies), self._patience)):
            self._network.wire += core.apply()

    def _tick(self, core: Core) -> None:
        for _ in range(self._rng.choice([1, 1, 3])):
            core.raw.tick()

    def _campaign(self, core: Core) -> None:
        """Its election timeout passes, and the leader's lease on the others with it."""
        for other in self._network.cores.values():
            if not other.leads and self._rng.random() < 0.7:
                other.raw.raft.election_elapsed = ELECTION_TICKS
        core.raw.campaign()

    def _propose(self, core: Core) -> None:
        self._proposals += 1
        try:
            core.raw.propose(b"%d" % self._proposals)
        except ProposalDropped:
            pass  # it does not lead, or hands over

    def _lose(self, core: Core) -> None:
        if self._network.wire:
            self._take_message()

    def _duplicate(self, core: Core) -> None:
        if self._network.wire:
            self._network.wire.append(self._rng.choice(self._network.wire))

    def _crash(self, core: Core) -> None:
        self._checked_commit.pop(core.id, None)
        self._network.restart(core.id)

    def _cut_off(self, core: Core) -> None:
        self._network.isolated ^= {core.id}

    def _change(self, core: Core) -> None:
        ids = self._rng.sample(range(1, self._size + 1), self._rng.choice([0, 1, 1, 2]))
        kinds = [
            ConfChangeType.ADD_VOTER,
            ConfChangeType.ADD_VOTER,
            ConfChangeType.REMOVE,
            ConfChangeType.ADD_LEARNER,
        ]
        changes = tuple([ConfChangeSingle(self._rng.choice(kinds), node_id) for node_id in ids])
        if core.leads:
            try:
                core.raw.propose_conf_change(ConfChangeV2(changes, self._rng.choice(list(Transition))))
            except ProposalDropped:
                pass  # it hands over, or is removed

    def _transfer(self, core: Core) -> None:
        core.raw.transfer_leader(self._rng.randrange(1, self._size + 1))

    def _compact(self, core: Core) -> None:
        """Make a snapshot of what is applied, and forget some of the log behind it."""
        self._snapshot(core)
        storage, index = core.storage, core.storage.snapshot().index
        if index > storage.first_index() and self._rng.random() < 0.7:
            storage.compact(self._rng.randrange(storage.first_index(), index + 1))

    def _snapshot(self, core: Core) -> None:
        storage, applied = core.storage, core.raw.applied
        if core.applies or applied <= storage.snapshot().index or applied > storage.last_index():
            return
        storage.create_snapshot(applied, core.raw.raft.conf_state, b"")
        hard_state, _ = storage.initial_state()
        storage.set_hard_state(hard_state._replace(commit=max(hard_state.commit, applied)))

    def _take_message(self) -> Message:
        position = self._rng.randrange(len(self._network.wire))
        message = self._network.wire[position]
        del self._network.wire[position]
        return message

    # ------------------------------------------------------------ what must hold

    def _check(self, core: Core) -> None:
        raw = core.raw
        if core.leads:
            assert self._leaders.setdefault(raw.term, core.id) == core.id, f"two leaders in term {raw.term}"
        log = raw.raft.log
        first = log.first_index()
        entries = core.log
        previous_term = log.term(first - 1)
        for entry in entries:
            known = self._entries.setdefault((entry.term, entry.index), (entry.data, previous_term))
            assert known == (entry.data, previous_term), f"two entries {entry.term}/{entry.index}"
            previous_term = entry.term
        for index in range(max(first, self._checked_commit.get(core.id, 0) + 1), raw.commit + 1):
            entry = entries[index - first]
            assert self._committed.setdefault(index, entry) == entry, f"two committed entries at {index}"
            self._committed_in.setdefault(index, raw.term)
        self._checked_commit[core.id] = raw.commit
        if core.leads:
            self._check_complete(core, first, entries)
        for entry in core.applied[-20:]:
            assert self._committed[entry.index] == entry

    def _check_complete(self, core: Core, first: int, entries: list[Entry]) -> None:
        for index, entry in self._committed.items():
            if index >= first and self._committed_in[index] < core.raw.term:
                assert index - first < len(entries), f"the leader of term {core.raw.term} lacks entry {index}"
                assert entries[index - first] == entry

    # ------------------------------------------------------------ liveness

    def _heal(self) -> None:
        """With everything delivered again, a leader is elected and commits, and all members hear of it."""
        network = self._network
        network.isolated.clear()
        network.settle()
        for _ in range(20 * ELECTION_TICKS):
            network.tick()
            for core in network.cores.values():
                self._check(core)
                self._snapshot(core)  # a new member can only be sent one that it is a member in
                self._report_lost_snapshots(core)
            leaders = [core for core in network.cores.values() if core.leads]
            newest = max(leaders, key=lambda core: core.raw.term, default=None)
            if newest is not None and self._serves(newest):
                return
        if not self._last_word_was_lost():
            raise AssertionError("no leader could commit after everything had healed")

    def _last_word_was_lost(self) -> bool:
        """Whether a leader stepped down at its removal and nobody heard that it was committed.

        A configuration is in force when it is applied, as in etcd. So the others still need the vote of the
        removed one, which knows more than they do and refuses it. Hand over first, and it cannot happen.
        """
        cores = self._network.cores.values()
        able = [core for core in cores if core.raw.raft.promotable]
        return any(
            not core.raw.raft.log.is_up_to_date(other.raw.last_index, other.raw.raft.log.last_term())
            for core in cores
            if core not in able and core.raw.term > 1
            for other in able
        )

    def _report_lost_snapshots(self, core: Core) -> None:
        """What a node's streams would tell: nothing is on its way any more, so what waits is lost."""
        for member, progress in core.raw.status().progress.items():
            if progress.state is ProgressState.SNAPSHOT:
                core.raw.report_snapshot(member, ok=False)

    def _serves(self, leader: Core) -> bool:
        network = self._network
        try:
            leader.raw.propose(b"after all")
        except ProposalDropped:
            return False
        network.tick(3)
        members = all_members(leader.raw.raft.conf_state)
        return leader.raw.role is StateRole.LEADER and all(
            network[member].raw.commit == leader.raw.last_index for member in members
        )


def run_schedule(seed: int, steps: int = 900) -> None:
    """One schedule of this seed."""
    Schedule(random.Random(seed)).run(steps)
