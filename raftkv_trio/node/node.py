"""One node around any state machine: `run_node` is its task tree, `Node` the handle for its program."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NoReturn

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig
from raftkv_trio.errors import ChangeRefused, DiskFull, NoLeader, TransferFailed
from raftkv_trio.node.forgetting import objection_to_forgetting
from raftkv_trio.node.measures import NodeMeasures
from raftkv_trio.node.open_snapshot import OpenSnapshot
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.node.proposals import Proposal
from raftkv_trio.node.recovery import (
    check_cluster_to_join,
    check_encryption,
    highest_level_in,
    open_or_join,
    restore_machine,
)
from raftkv_trio.node.status import MemberStatus, NodeStatus, NodeView
from raftkv_trio.node.tracing import Trace
from raftkv_trio.payload.membership import ChangeRequest
from raftkv_trio.raft.types import StateRole
from raftkv_trio.state_machine import StateMachine
from raftkv_trio.storage import Disk, OsDisk, SnapshotMeta
from raftkv_trio.world import World

#: How long after its deadline a wait ends at the latest.
OVERDUE_S = 0.1


async def run_node(
    config: NodeConfig,
    machine: StateMachine,
    *,
    disk: Disk | None = None,
    world: World | None = None,
    watch: Callable[[NodeParts], None] | None = None,
    waits_to_join: Callable[[str], None] = lambda reason: None,
    task_status: trio.TaskStatus["Node"] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one node until cancelled; `started` gives its `Node` once peers can connect.

    Args:
        machine: the state machine to replicate, in its initial state; from now on only the node changes it.
        disk, world: what the node runs on; the real ones by default.
        watch: called with the node's parts before any of its tasks begins; for the simulator and tests.
        waits_to_join: called with the reason each time that a joining node has to wait for another reason.

    Raises:
        ConfigError: the data directory or the address does not fit, and nothing was started. Or the directory
            is new, and a peer knows this member by another one.
        StorageError: the disk failed; nothing was acknowledged after that.
        NodeRemoved: the cluster has removed this node; its directory does not open again.

    Cancellation unwinds every task at any moment, tells every caller that waits for a proposal or a read what
    may have happened, and leaves a directory that starts again with everything that was acknowledged.
    """
    disk, world = disk or OsDisk(waits_for_files=True), world or World()
    check_encryption(config, world)
    worker = world.worker
    storage = await open_or_join(config, disk, world, waits_to_join)
    try:
        await check_cluster_to_join(config, storage, world)
        await worker.run(restore_machine, machine, storage, highest_level_in(world))
        parts = NodeParts(config, machine, storage, world)
        if watch is not None:
            watch(parts)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(parts.applier.run)
                nursery.start_soon(parts.log_writer.run)
                nursery.start_soon(parts.snapshotter.run)
                await nursery.start(parts.peers.run, parts.listen)
                nursery.start_soon(parts.driver.run)
                nursery.start_soon(_keep_ending_overdue, parts)
                nursery.start_soon(parts.driver.run_clock, world.random.random() * config.tick_interval_s)
                nursery.start_soon(parts.news.run, worker)
                nursery.start_soon(parts.removal.end_node)
                nursery.start_soon(parts.lost_entries.run, worker)
                task_status.started(Node(parts))
        finally:
            parts.close("the node is stopping")
            if (removed_at := parts.removal.confirmed_index) is not None:
                with trio.CancelScope(shield=True):  # bounded: one small file
                    await worker.run(storage.mark_removed, removed_at)
            if parts.lost_entries.reason is not None:
                with trio.CancelScope(shield=True):  # bounded: one small file
                    await worker.run(parts.lost_entries.mark)
    finally:
        with trio.CancelScope(shield=True):  # bounded: one record and one fsync
            await worker.run(partial(storage.close, clean=True))


async def _keep_ending_overdue(parts: NodeParts) -> NoReturn:
    """End reads and proposals whose callers wait no longer; not in the driver's ticks, nor on its clock."""
    while True:
        await trio.sleep(OVERDUE_S)
        parts.reads.end_overdue(trio.current_time())
        parts.proposals.end_overdue(trio.current_time())


class Node:
    """A running node: submit commands, wait until reads are linearizable, look at its status.

    `run_node` makes it. Every method may be called from any task of the same Trio run.

    Attributes:
        id: this node's id.
        cluster_id: of the cluster that its data directory belongs to.
        removed: set when the cluster has removed this node and a remaining member has confirmed it; shortly
            after that `run_node` raises NodeRemoved.
    """

    def __init__(self, parts: NodeParts) -> None:
        self.id = parts.config.node_id
        self.cluster_id = parts.storage.identity.cluster_id
        self.removed = parts.removal.confirmed
        self._parts = parts
        self._view = NodeView(parts)

    # ------------------------------------------------------------ writes

    def begin_trace(self) -> Trace:
        """Time the write that has arrived now, which is given its proposal once that is submitted.

        For the server of this program: it may change in any release.
        """
        return self._parts.tracer.begin()

    def submit(self, command: bytes) -> Proposal:
        """Queue a command for the leader, and return at once.

        Raises TooLarge, CommandRefused, Overloaded, DiskFull; NoLeader if the node is stopping.
        """
        return self._parts.proposals.submit(command)

    def change_members(self, request: ChangeRequest) -> Proposal:
        """Queue a change of the members for the leader, which appends one change at a time; return at once.

        Raises Overloaded, DiskFull; NoLeader if the node is stopping. If the leader refuses the change,
        `Proposal.wait` raises ChangeRefused.
        """
        return self._parts.proposals.submit(request.encode(), is_change=True)

    def dry_run_change(self, request: ChangeRequest) -> str | None:
        """Check a change of the members without making it: what it would wait for; None if for nothing.

        Raises ChangeRefused as the change itself would, and NoLeader if this node does not lead.
        """
        if self._parts.raw.role is not StateRole.LEADER:
            raise NoLeader(f"node {self.id} does not lead; ask the leader")
        objection = self._parts.membership_changes.check(request)
        if isinstance(objection, ChangeRefused):
            raise objection
        return objection and objection.reason

    async def propose(self, command: bytes) -> object:
        """Submit a command, and return the state machine's result once the command is applied here.

        Raises ProposalError. Cancellation gives the command up; it may then be applied or not. A caller that
        must know which uses `submit` and `Proposal.give_up`.
        """
        proposal = self.submit(command)
        try:
            return (await proposal.wait()).result
        except trio.Cancelled:
            proposal.give_up()
            raise

    async def wait_readable(self) -> int:
        """Wait until this node has applied everything that was acknowledged on any node before this call.

        Returns the index that it had to reach. Raises NoLeader if the node stops. Without a leader it waits
        until the caller cancels it, which leaves nothing behind.
        """
        index = await self._parts.reads.wait_index()
        assert index is not None, "there is no deadline"
        await self._parts.applied.wait(index)
        return index

    async def wait_readable_until(self, deadline: float) -> bool:
        """The same up to a deadline, on Trio's clock; False if that has passed, by 0.1 s at most.

        It costs less than a cancel scope around `wait_readable`, where reads come by the thousand.
        """
        index = await self._parts.reads.wait_index(deadline)
        if index is None:
            return False
        if index > self.applied_index or self.is_restoring:  # as is rare on the leader
            with trio.move_on_at(deadline) as scope:
                await self._parts.applied.wait(index)
            return not scope.cancelled_caught
        return True

    def is_fresh_within(self, seconds: float) -> bool:
        """Whether the state machine holds all that was acknowledged on any node up to so many seconds ago.

        If not, `wait_readable` is the way to read. False while a snapshot replaces the state. A node that is
        asked this often keeps itself fresh: it asks the leader by itself, at most once in a tick.
        """
        return not self.is_restoring and self._parts.freshness.is_within(seconds)

    @property
    def is_restoring(self) -> bool:
        """Whether a snapshot is replacing the machine's state at this moment, so that nothing may read it."""
        return self._parts.applied.is_restoring

    async def wait_restored(self) -> None:
        """Return when no restore is under way. Raises NoLeader if the node stops.

        Cancellation leaves nothing behind.
        """
        await self._parts.applied.wait(0)

    async def transfer_leadership(self, to: int | None = None) -> None:
        """Transfer leadership to voter `to`, or to any active voter; return when that one leads.

        Without an active voter to transfer to, it waits; so it does if this node has stopped leading and no
        other leader is known yet. Cancellation withdraws the request; a transfer that has begun succeeds, or
        is given up after an election timeout.

        Raises TransferFailed if this node is elected again, or another node than `to` leads; at once if this
        node does not lead, or is the only voter.
        """
        raw, term = self._parts.raw, self._parts.raw.term
        if raw.role is not StateRole.LEADER:
            raise TransferFailed(f"node {self.id} does not lead; ask the leader to transfer leadership")
        if raw.status().configuration.voters == (self.id,):
            raise TransferFailed(f"node {self.id} is the only voter, so no other node can lead")
        request = self._parts.leadership_transfer.request(to)
        try:
            # A leader without a quorum steps down too. That alone is no success: in that term there is no
            # other leader, so success is a leader of a later term.
            while raw.term == term or raw.leader_id is None:
                await self._parts.leader.changed.wait()
        finally:
            self._parts.leadership_transfer.withdraw(request)
        if raw.leader_id == self.id:
            raise TransferFailed(f"node {self.id} was elected again; no other voter took over")
        if to not in (None, raw.leader_id):
            raise TransferFailed(f"node {raw.leader_id} leads now, and not node {to}")

    async def resign(self) -> None:
        """Transfer leadership because this node is about to stop; return when it does not lead.

        If it is elected after that, it transfers leadership again. Returns at once if this node does not lead
        or is the only voter. Without an active voter to transfer to, it waits. Cancellation
        withdraws nothing.
        """
        self._parts.leadership_transfer.resign()
        if self._parts.raw.status().configuration.voters == (self.id,):
            return
        while self._parts.raw.role is StateRole.LEADER:
            await self._parts.leader.changed.wait()

    async def forget_directory(self, node_id: int) -> bool:
        """Forget by which data directory this node knows another one, and meet that one anew.

        For an operator, if a stranger was first under that id. Ask the leader first, which alone knows what a
        learner has acknowledged. Returns whether the other node was known.

        Raises ChangeRefused if it must be removed instead: it is a voter, or this node leads and that one has
        acknowledged entries. NoSuchMember if this node leads and that one is no member. DiskFull if there is
        no room, StorageError. Cancellation may leave it forgotten.
        """
        if (objection := objection_to_forgetting(node_id, self._parts.raw)) is not None:
            raise objection
        try:
            return await self._parts.peers.forget(node_id)
        except OSError as error:
            raise DiskFull(f"cannot forget node {node_id}: {error.strerror or error}") from error

    async def take_snapshot(self) -> SnapshotMeta:
        """Take a snapshot of everything that is applied here now; return it, or a newer one.

        Raises SnapshotNotTaken if there is no room for it, NoLeader if the node stops or has lost what it had
        acknowledged. Cancellation does not stop the writing.
        """
        return await self._parts.snapshotter.take()

    async def open_snapshot(self) -> OpenSnapshot:
        """Take a snapshot as `take_snapshot` does, and open its file; the caller closes it.

        Raises as `take_snapshot`, and OSError. Cancellation as in `take_snapshot`.
        """
        meta = await self.take_snapshot()
        worker, storage = self._parts.world.bulk_worker, self._parts.storage
        return OpenSnapshot(await worker.run(storage.open_snapshot, meta.id), worker)

    def end_waiting(self, reason: str) -> None:
        """End everything that waits on this node, and refuse what comes later, for this reason.

        Proposals and reads then raise NoLeader or OutcomeUnknown, as they do at the end of `run_node`. A
        program that is about to cancel `run_node` calls this first, to answer its own clients while it can.
        """
        self._parts.close(reason)

    @property
    def lost_entries(self) -> str | None:
        """Why this node can take no part any more, in words: it has lost entries that it had acknowledged.

        None as long as nothing is known to be lost.
        """
        return self._parts.lost_entries.reason

    @property
    def second_process(self) -> str | None:
        """Why this process is refused, in words: the members know another one that runs under this node's id.

        None if it is not refused. The other process is told too, in its status.
        """
        second_process = self._parts.peers.second_process
        return second_process.reason if second_process.is_refused else None

    def status(self) -> NodeStatus:
        """This node as it sees itself now."""
        return self._view.status()

    @property
    def applied_index(self) -> int:
        """The index up to which this node has applied the log; cheaper than `status`."""
        return self._parts.applied.index

    @property
    def feature_level(self) -> int:
        """The feature level of the cluster, as of what is applied here (`payload/levels.py`).

        A command that needs a level may be submitted as soon as this is that level: the command's entry then
        comes behind the one that has raised it, whichever node appends it.
        """
        return self._parts.membership.envelope.level

    @property
    def term(self) -> int:
        """This node's term; cheaper than `status`."""
        return self._parts.raw.term

    def measures(self) -> NodeMeasures:
        """What this node has counted and timed since it started."""
        return self._view.measures()

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows; cheaper than `status`."""
        return self._parts.raw.role is StateRole.LEADER

    @property
    def has_leader(self) -> bool:
        """Whether this node knows a leader; cheaper than `status`."""
        return self._parts.raw.leader_id is not None

    @property
    def next_free_id(self) -> int:
        """The id after all that are or were in use, as far as this node has applied the log."""
        envelope = self._parts.applier.membership.envelope
        return max((*envelope.members, *envelope.removed)) + 1

    @property
    def addresses(self) -> Mapping[int, PeerAddress]:
        """Where each member of the configuration listens for the others, by id; cheaper than `members`."""
        return self._parts.applier.membership.envelope.addresses

    def members(self) -> Sequence[MemberStatus]:
        """The members of the configuration, by id."""
        return self._view.members()
