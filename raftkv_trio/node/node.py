"""One node around any state machine: `run_node` is its task tree, `Node` the handle on it."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import trio

from raftkv_trio.config import NodeConfig
from raftkv_trio.errors import ChangeRefused, ConfigError, NodeRemoved, NoLeader
from raftkv_trio.node.applier import Applier, Commits
from raftkv_trio.node.driver.driver import Driver
from raftkv_trio.node.log_writer import LogWriter
from raftkv_trio.node.measures import NodeMeasures
from raftkv_trio.node.proposals import Proposal, ProposalTable
from raftkv_trio.node.reads import AppliedIndex, PendingReads
from raftkv_trio.node.recovery import (
    check_cluster,
    committed_membership,
    core_config,
    open_or_join,
    recovered_log,
    restore_machine,
)
from raftkv_trio.node.snapshotter import Snapshotter
from raftkv_trio.node.status import MemberStatus, NodeStatus, NodeView
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import ChangeRequest, Membership
from raftkv_trio.peers.directory_ids import DirectoryIds
from raftkv_trio.peers.peers import Peers
from raftkv_trio.peers.wire import InboxItem
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import StateRole
from raftkv_trio.state_machine import StateMachine
from raftkv_trio.storage import (
    BOOTSTRAP_TERM,
    Disk,
    DiskFile,
    NodeStorage,
    OsDisk,
    SnapshotMeta,
)
from raftkv_trio.sync import ByteBoundedQueue, Wakeup
from raftkv_trio.world import World

logger = logging.getLogger(__name__)

MAX_INBOX_BYTES = 8 * 1024 * 1024
LAST_WORDS_S = 2.0  # from its removal to a node's end


async def run_node(
    config: NodeConfig,
    machine: StateMachine,
    *,
    disk: Disk | None = None,
    world: World | None = None,
    watch: Callable[["Node"], None] | None = None,
    waits_to_join: Callable[[str], None] = lambda reason: None,
    task_status: trio.TaskStatus["Node"] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one node until cancelled; `started` gives its `Node` once peers can connect.

    Args:
        machine: replicated; it must be in its initial state, and belongs to the node from here on.
        disk, world: what it runs on; real where not given.
        watch: given the node before any of its tasks begins, for whoever follows it step by step.
        waits_to_join: told why a joiner has to wait before it starts, each time for another reason.

    Raises:
        ConfigError: the data directory or the address does not fit; nothing was started. Or the directory is
            new, and a peer knows this member by another one.
        StorageError: the disk failed; nothing was acknowledged after that.
        NodeRemoved: the cluster has removed this node; its directory does not open again.

    Cancellation unwinds every task at any moment, tells those who wait for proposals and reads what may have
    happened, and leaves a directory that starts again with everything acknowledged.
    """
    disk, world = disk or OsDisk(), world or World()
    worker = world.worker
    storage = await open_or_join(config, disk, world, waits_to_join)
    try:
        await worker.run(restore_machine, machine, storage)
        node = Node(config, machine, storage, world)
        if watch is not None:
            watch(node)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.applier.run)
                nursery.start_soon(node.log_writer.run)
                nursery.start_soon(node.snapshotter.run)
                await nursery.start(node.peers.run, node.listen)
                nursery.start_soon(node.driver.run)
                nursery.start_soon(node.driver.tick, world.random.random() * config.tick_interval_s)
                nursery.start_soon(node.end_when_removed)
                task_status.started(node)
        finally:
            node.close("the node is stopping")
            if node.removed.is_set() and (removed_at := node.removed_at) is not None:
                with trio.CancelScope(shield=True):  # bounded: one small file
                    await worker.run(storage.mark_removed, removed_at)
    finally:
        with trio.CancelScope(shield=True):  # bounded: one record and one fsync
            await worker.run(partial(storage.close, clean=True))


class Node:
    """A running node: submit commands, wait for reads to be linearizable, see how it is.

    Made by `run_node`; every method may be called from any task of the same Trio run.

    Attributes:
        driver, applier, log_writer, snapshotter, peers, inbox, reads, applied, membership: its parts, for
            whoever runs them himself, as `raftkv_trio.testing` does.
        removed: set when the cluster has removed this node, at index `removed_at`, and a member that stays
            says so too: until then the others may need its answers.
        bulk_worker: where what takes long is read from the disk.
    """

    def __init__(self, config: NodeConfig, machine: StateMachine, storage: NodeStorage, world: World) -> None:
        self.id = config.node_id
        self.cluster_id = storage.identity.cluster_id
        self.bulk_worker = world.bulk_worker
        self.removed = trio.Event()
        self.removed_at: int | None = None
        self._config = config
        self._storage = storage
        self._clock = world.clock

        log = recovered_log(storage)
        envelope = Envelope.decode(storage.read_envelope(storage.snapshot.id))
        ahead = committed_membership(self.id, envelope, log)
        check_cluster(config, storage, ahead)
        self.listen = config.listen or ahead.addresses.get(self.id) or config.members[self.id]
        self.membership = Membership(self.id, envelope, storage.snapshot.conf_state, self._members_changed)

        wakeup = Wakeup()
        self.inbox: ByteBoundedQueue[tuple[int, InboxItem]] = ByteBoundedQueue(wakeup, MAX_INBOX_BYTES)
        commits, commit_stream = trio.open_memory_channel[Commits](1)
        self._proposals = self._make_proposals(wakeup, world)
        self.reads = PendingReads(node_id=self.id, boot_nonce=world.random.getrandbits(63), wakeup=wakeup)
        self.applied = AppliedIndex(storage.snapshot.index)
        self.driver = self._make_driver(log, wakeup, commits, world)
        self.applier = Applier(
            machine,
            storage.snapshot,
            self._proposals,
            self.applied,
            self.membership,
            commit_stream,
            storage,
            world.bulk_worker,
            world.clock,
            self._caught_up,
        )
        self.log_writer = self.driver.writer = LogWriter(
            storage, world.worker, world.clock, self.driver.completions.durable, self._recorded
        )
        self.snapshotter = Snapshotter(
            storage,
            self.applier,
            world.bulk_worker,
            world.clock,
            self.log_writer.record,
            self._no_room,
            entries=config.snapshot_entries,
            log_bytes=config.snapshot_log_bytes,
        )
        self.peers = self.driver.peers = self._make_peers(ahead, world)
        self._view = self._make_view()
        self._look_for_own_removal()  # it may have ended before anybody told it so

    def _make_proposals(self, wakeup: Wakeup, world: World) -> ProposalTable:
        return ProposalTable(
            node_id=self.id,
            random=world.random,
            wakeup=wakeup,
            max_command_bytes=self._config.max_command_bytes,
            max_count=self._config.max_pending_proposals,
            max_bytes=self._config.max_pending_bytes,
        )

    def _make_driver(
        self, log: MemoryStorage, wakeup: Wakeup, commits: trio.MemorySendChannel[Commits], world: World
    ) -> Driver:
        return Driver(
            self._config,
            raw=RawNode(core_config(self._config, self._storage.snapshot.index, world.random), log),
            log=log,
            wakeup=wakeup,
            inbox=self.inbox,
            proposals=self._proposals,
            reads=self.reads,
            membership=self.membership,
            want_snapshot=lambda: self.snapshotter.want(),
            commits=commits,
            clock=world.clock,
        )

    def _make_peers(self, envelope: Envelope, world: World) -> Peers:
        return Peers(
            identity=self._storage.identity,
            envelope=envelope,
            directory_ids=DirectoryIds(self._storage, world.worker),
            world=world,
            max_outbox_bytes=self._config.max_outbox_bytes,
            client_url=self._config.client_url,
            inbox=self.inbox,
            storage=self._storage,
            snapshot_sent=self.driver.snapshot_sent,
            unreachable=self.driver.unreachable,
            unsent=self.driver.proposer.unsent,
            directory_refused=self._directory_refused,
            told_removed=self.told_removed,
        )

    def _make_view(self) -> NodeView:
        return NodeView(
            self._config,
            self._storage,
            self._clock,
            self._proposals,
            self.driver,
            self.log_writer,
            self.applier,
            self.applied,
            self.peers,
        )

    # ------------------------------------------------------------ for whoever uses it

    def submit(self, command: bytes) -> Proposal:
        """Send a command on its way; raises TooLarge, Overloaded, DiskFull or NoLeader at once."""
        return self._proposals.submit(command)

    def change_members(self, request: ChangeRequest) -> Proposal:
        """Send a change of the members on its way, which waits its turn behind others.

        Raises Overloaded, DiskFull or NoLeader at once; that it is refused, waiting for it tells.
        """
        return self._proposals.submit(request.encode(), is_change=True)

    def dry_run_change(self, request: ChangeRequest) -> str | None:
        """What a change of the members would wait for if it were asked for now; None where for nothing.

        Raises ChangeRefused as the change itself would, and NoLeader where this node does not lead.
        """
        if self.driver.raw.role is not StateRole.LEADER:
            raise NoLeader(f"only a leader can tell, and node {self.id} does not lead")
        verdict = self.driver.changes.verdict(request)
        if isinstance(verdict, ChangeRefused):
            raise verdict
        return verdict and verdict.reason

    async def propose(self, command: bytes) -> object:
        """Submit a command and return the state machine's result once it is applied here.

        Raises ProposalError. Cancellation gives the command up, which may then be applied or not: whoever
        needs to tell uses `submit`.
        """
        proposal = self.submit(command)
        try:
            return (await proposal.wait()).result
        except trio.Cancelled:
            proposal.give_up()
            raise

    async def wait_readable(self) -> int:
        """Wait until what this node has applied includes all that was acknowledged anywhere before this call.

        Returns the index reached. Raises NoLeader when the node stops; without a leader it waits as long as
        its caller lets it. Cancellation leaves nothing behind.
        """
        index = await self.reads.wait_index()
        await self.applied.wait(index)
        return index

    async def transfer_leadership(self, to: int | None = None) -> None:
        """If this node leads and is not the only voter, have another lead, or `to`; return when one does.

        Without an active follower it waits as long as its caller lets it. Cancellation leaves a transfer that
        has begun to succeed or to time out after an election timeout.
        """
        if self.driver.raw.status().configuration.voters == (self.id,):
            return
        self.driver.leadership.want(to)
        try:
            while self.driver.raw.role is StateRole.LEADER:
                await self.driver.leader_changed.wait()
        finally:
            self.driver.leadership.drop()

    async def take_snapshot(self) -> SnapshotMeta:
        """Have a snapshot of all that is applied here now, and return it, or a newer one.

        Raises StorageError where it could not be written. Cancellation lets it be written all the same.
        """
        return await self.snapshotter.take()

    async def open_snapshot(self) -> DiskFile:
        """A snapshot file, open, of all that is applied here now, or of more.

        Raises StorageError where it could not be written, OSError. Cancellation is that of `take_snapshot`.
        """
        meta = await self.take_snapshot()
        return await self.bulk_worker.run(self._storage.open_snapshot, meta.id)

    def status(self) -> NodeStatus:
        """This node as it sees itself at this moment."""
        return self._view.status()

    def measures(self) -> NodeMeasures:
        """What this node has counted and timed of itself since it started."""
        return self._view.measures()

    def members(self) -> Sequence[MemberStatus]:
        """The members of the configuration, by id."""
        return self._view.members()

    # ------------------------------------------------------------ told by its parts

    def _caught_up(self) -> None:
        self.driver.completions.applied()
        self.snapshotter.wakeup.set()

    def _no_room(self, reason: str | None) -> None:
        """Take no writes; and let another lead, who may have room."""
        if reason != self._proposals.no_room:
            logger.warning(
                "%s", f"{reason}: no writes are taken" if reason else "there is room on the disk again"
            )
            if reason is None:
                self.driver.leadership.drop()
            else:
                self.driver.leadership.want()
        self._proposals.no_room = reason

    def _recorded(self, snapshot: SnapshotMeta) -> None:
        self.driver.completions.recorded(snapshot)
        self.snapshotter.recorded()

    def _members_changed(self) -> None:
        """The applier has applied a change of members."""
        self.peers.update(self.membership.envelope)
        self._look_for_own_removal()

    def _look_for_own_removal(self) -> None:
        if self.membership.removed_at is not None and self.removed_at is None:
            self._is_removed(self.membership.removed_at)
            logger.info("it answers the others until one that stays tells it so too")

    def told_removed(self, index: int) -> None:
        """A member says that this node was removed; it can only know better if it knows more."""
        if self.removed_at is not None:
            self.removed.set()
        elif index > self.applied.index:
            self.close(
                f"node {self.id} was removed from the cluster, by entry {index}, which it has not seen"
            )
            self._is_removed(index)
            self.removed.set()

    def _is_removed(self, index: int) -> None:
        logger.warning("node %d was removed from the cluster, by entry %d", self.id, index)
        self.removed_at = index

    async def end_when_removed(self) -> None:
        """Raise NodeRemoved once this node is removed, and who waited for that has been answered."""
        await self.removed.wait()
        await self._clock.sleep_until(self._clock.now() + LAST_WORDS_S)
        raise NodeRemoved(f"node {self.id} was removed from its cluster, by entry {self.removed_at}")

    def close(self, reason: str) -> None:
        """Refuse what comes and settle what waits; called by `run_node` as it unwinds."""
        self._proposals.close(reason)
        self.snapshotter.close(reason)
        self.reads.close(reason)
        self.applied.close(reason)

    def _directory_refused(self, peer_id: int) -> None:
        """End this node if its directory is a new one; one that was in use goes on without that peer.

        One peer's word is enough against a new directory: it has met this member under another one, whose
        votes are forgotten here, while nothing is lost by stopping. But no peer can so end a node that has
        ever voted or heard of a leader, and has thereby left the term that directories are made with.
        """
        if self.driver.raw.term <= BOOTSTRAP_TERM:
            raise ConfigError(
                f"node {peer_id} knows node {self.id} by another data directory, and"
                f" {self._config.data_dir} is new: a member that has lost its directory has forgotten its"
                " votes; bring the directory back, or remove the member and add it under a new id"
            )
