"""The applier: applies committed entries to the state machine. In etcd's raft this is the apply thread.

It takes one batch at a time from the commit stream, and reports to the driver after each batch. So at most
one batch is on its way, and the driver never waits for the applier. A long batch is applied in slices, so
that heartbeats go out in between.

Each entry is applied once, in the order of the log, by every node (paper, section 5.3). The machine lives in
memory: a node that starts again restores its newest snapshot and applies the log from there.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from raftkv_trio.errors import CorruptLog, DecodeError, remedy
from raftkv_trio.node.measures import Histogram
from raftkv_trio.node.proposals import Applied, ProposalTable
from raftkv_trio.node.reads import AppliedIndex
from raftkv_trio.node.steps import Steps, checkpoint, in_event_loop, in_worker, receive, run_steps
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Membership
from raftkv_trio.payload.proposal import ProposalId, decode_proposal
from raftkv_trio.raft.confchange import describe_members
from raftkv_trio.raft.types import Entry, EntryType, Snapshot
from raftkv_trio.state_machine import Committed, LevelledStateMachine, StateMachine
from raftkv_trio.storage import NodeStorage, SnapshotId, SnapshotMeta
from raftkv_trio.world import Clock, Worker

logger = logging.getLogger(__name__)

SLICE_ENTRIES = 128


class Restore(NamedTuple):
    """On the commit stream in place of entries: restore this snapshot, which is on the disk."""

    snapshot: Snapshot


Commits = Sequence[Entry] | Restore


class Applier:
    """Applies what the commit stream holds, and settles the proposals that waited for it.

    Attributes:
        machine: the state machine. While a snapshot is being restored, nothing may read it.
        position: index and term of the last entry applied, and the configuration as of that entry.
        membership: the members as of that entry.
        log_bytes: sum of the sizes of all entries applied since the start.
        restored_at_log_bytes: `log_bytes` when a snapshot was restored last; 0 if none was.
        restores: how many restores of a snapshot have begun.
        applies: how long applying a slice took.
        on_restored: called with each snapshot that was restored; None: nobody follows.

    Args:
        position: of the snapshot that the machine was restored from at the start.
        proposals: told which proposals are applied.
        applied: tells readers how far the machine is.
        commits: what to apply, from the driver.
        snapshots: has the snapshots to restore.
        worker: restores a snapshot beside the event loop.
        done: called when everything that came from the commit stream is applied.
    """

    def __init__(
        self,
        machine: StateMachine,
        position: SnapshotMeta,
        proposals: ProposalTable,
        applied: AppliedIndex,
        membership: Membership,
        commits: trio.MemoryReceiveChannel[Commits],
        snapshots: NodeStorage,
        worker: Worker,
        clock: Clock,
        done: Callable[[], None],
    ) -> None:
        self.applies = Histogram()
        self.position = position
        self.log_bytes = self.restored_at_log_bytes = 0
        self.restores = 0
        self.on_restored: Callable[[Restore], None] | None = None
        self.machine = machine
        self.membership = membership
        self._proposals = proposals
        self._applied = applied
        self._commits = commits
        self._snapshots = snapshots
        self._restored_envelope: Envelope | None = None
        self._worker = worker
        self._clock = clock
        self._done = done

    async def run(self) -> None:
        """Apply until cancelled; raises CorruptLog, StorageError.

        Cancellation comes between two slices. It leaves a machine that the next start makes again.
        """
        await run_steps(self.steps(), self._worker, self._clock)

    def steps(self) -> Steps[None]:
        """The task, step by step; raises CorruptLog, StorageError."""
        while True:
            # The channel is not closed here: when both tasks are cancelled, the driver may be in its last
            # turn and send one more batch.
            try:
                commits = yield from receive(self._commits)
            except trio.EndOfChannel:
                return  # the driver has ended
            if isinstance(commits, Restore):
                self.begin_restore()
                yield from in_worker(self.restore, commits)
                self.restored(commits)
            else:
                for start in range(0, len(commits), SLICE_ENTRIES):
                    yield from in_event_loop(self._apply_slice, commits[start : start + SLICE_ENTRIES])
                    yield from checkpoint()
            self._done()

    def _apply_slice(self, entries: Sequence[Entry]) -> None:
        begun_at = self._clock.now()
        self.apply(entries)
        self.applies.observe(self._clock.now() - begun_at)

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply entries, which follow the last one applied, and settle the proposals among them.

        Raises CorruptLog.
        """
        for proposal_id, outcome in apply_entries(self.machine, self.membership, entries):
            self._proposals.applied(proposal_id, outcome)
        self.log_bytes += sum([len(entry.data) for entry in entries])
        last = entries[-1]
        is_new_term = last.term > self.position.term
        self.position = SnapshotMeta(last.index, last.term, self.membership.conf_state)
        if is_new_term:
            # Proposals of older terms that are not applied by now never will be: an entry of an older term
            # cannot come behind one of a newer term.
            self._proposals.term_applied(last.term)
        # Last: this wakes readers, who then read the machine.
        self._applied.advance(last.index)

    @property
    def is_restoring(self) -> bool:
        """Whether a snapshot is replacing the machine's state at this moment."""
        return self._applied.is_restoring

    def begin_restore(self) -> None:
        """Keep readers away from the machine until `restored`."""
        self.restores += 1
        self._applied.restoring()

    def restore(self, restore: Restore) -> None:
        """Replace the machine's state. Runs in a worker thread, so it changes nothing else of the node.

        Raises CorruptLog, UpgradeNeeded, StorageError.
        """
        snapshot = SnapshotId(restore.snapshot.term, restore.snapshot.index)
        self._restored_envelope = Envelope.decode(
            self._snapshots.read_envelope(snapshot), highest_level=self.membership.highest_level
        )
        set_level(self.machine, self._restored_envelope)
        self.machine.restore(self._snapshots.snapshot_chunks(snapshot))

    def restored(self, restore: Restore) -> None:
        """Take over what else the snapshot says; the machine has its state already."""
        snapshot = restore.snapshot
        assert self._restored_envelope is not None
        # Back in the event loop: the parts below belong to it, and change in one piece between two tasks.
        self.position = SnapshotMeta(snapshot.index, snapshot.term, snapshot.conf_state)
        self.membership.restore(self._restored_envelope, snapshot.conf_state)
        self.restored_at_log_bytes = self.log_bytes
        logger.info("restored the snapshot at index %d", snapshot.index)
        self._proposals.snapshot_applied(snapshot.term)
        self._proposals.term_applied(snapshot.term)
        self._applied.advance(snapshot.index)
        if self.on_restored is not None:
            self.on_restored(restore)


def set_level(machine: StateMachine, envelope: Envelope) -> None:
    """Tell the machine the feature level of its cluster, if it wants to know."""
    if isinstance(machine, LevelledStateMachine):
        machine.set_level(envelope.level)


def apply_entries(
    machine: StateMachine, membership: Membership, entries: Sequence[Entry]
) -> list[tuple[ProposalId, Applied]]:
    """Apply committed entries, and return the outcome of each proposal among them.

    Raises CorruptLog, and UpgradeNeeded if one of them raises the feature level above what this node knows.

    Commands go to the machine in one batch after all changes of members. That keeps their order among
    themselves, and changes of members do not concern the machine. Only an entry that raises the feature level
    does: the commands before it are applied at the old level, and those behind it at the new one.
    """
    outcomes: list[tuple[ProposalId, Applied]] = []
    ids: list[ProposalId] = []
    commands: list[Committed] = []
    for entry in entries:
        if entry.type is not EntryType.NORMAL:
            level = membership.envelope.level
            proposer = membership.apply(entry)
            if membership.envelope.level != level:
                outcomes += _apply_commands(machine, ids, commands)
                ids, commands = [], []
                set_level(machine, membership.envelope)
                logger.info("feature level %d from index %d on", membership.envelope.level, entry.index)
            else:
                members = describe_members(membership.conf_state)
                logger.info("members as of index %d: %s", entry.index, members)
            if proposer is not None:
                outcomes.append((proposer, Applied(entry.term, entry.index, None)))
            continue
        if not entry.data:
            continue  # a new leader's first entry, which commits those before it (paper, section 5.4.2)
        try:
            proposal_id, command = decode_proposal(entry.data)
        except DecodeError as error:
            # Skipping the entry would let this machine differ from the others, so the node ends.
            raise CorruptLog(
                f"committed entry {entry.index} cannot be decoded: {error}; if a newer version of raftkv-trio"
                f" has written it, use that version; otherwise {remedy(None)}"
            ) from error
        ids.append(proposal_id)
        commands.append(Committed(entry.term, entry.index, command))
    return outcomes + _apply_commands(machine, ids, commands)


def _apply_commands(
    machine: StateMachine, ids: Sequence[ProposalId], commands: Sequence[Committed]
) -> list[tuple[ProposalId, Applied]]:
    """Apply one batch of commands, and return their outcomes."""
    results = machine.apply(commands) if commands else ()
    if len(results) != len(commands):
        raise ValueError(
            f"apply returned {len(results)} results for {len(commands)} commands; it must return one for each"
        )
    return [
        (proposal_id, Applied(committed.term, committed.index, result))
        for proposal_id, committed, result in zip(ids, commands, results, strict=True)
    ]
