"""The wiring: all parts of one node, and which part tells which.

Parts are made from the bottom up, each from parts that exist already:

1. what the data directory holds: the log, the members, the core on top of them;
2. what several tasks share: the driver's wakeup, the queues, the tables of waiting proposals and reads;
3. the peers, the applier, the log writer and the snapshotter, which report to the driver through (2);
4. the driver, which gives work to all of (3).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig
from raftkv_trio.node.applier import Applier, Commits
from raftkv_trio.node.command_check import command_check
from raftkv_trio.node.disk_room import DiskRoom
from raftkv_trio.node.driver.active_members import ActiveMembers
from raftkv_trio.node.driver.admission import Admission
from raftkv_trio.node.driver.catching_up import CatchingUp
from raftkv_trio.node.driver.commit_news import CommitNews
from raftkv_trio.node.driver.completions import Completions
from raftkv_trio.node.driver.driver import Driver
from raftkv_trio.node.driver.feature_levels import FeatureLevels
from raftkv_trio.node.driver.known_leader import KnownLeader
from raftkv_trio.node.driver.known_nodes import KnownNodes
from raftkv_trio.node.driver.leadership import LeadershipTransfer
from raftkv_trio.node.driver.membership_changes import MembershipChanges
from raftkv_trio.node.driver.peer_reports import PeerReports
from raftkv_trio.node.driver.proposing import Proposer
from raftkv_trio.node.freshness import Freshness
from raftkv_trio.node.log_writer import LogWriter
from raftkv_trio.node.lost_entries import LostEntries, SilencedTransport
from raftkv_trio.node.proposals import ProposalTable
from raftkv_trio.node.reads import AppliedIndex, PendingReads
from raftkv_trio.node.recovery import (
    OwnDirectory,
    check_cluster,
    committed_membership,
    core_config,
    highest_level_in,
    read_envelope,
    recovered_log,
)
from raftkv_trio.node.removal import Removal
from raftkv_trio.node.snapshot_contents import check_contents
from raftkv_trio.node.snapshotter import Snapshotter
from raftkv_trio.node.tracing import Tracer
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Membership
from raftkv_trio.peers.incoming import InboxItem, SnapshotCheck
from raftkv_trio.peers.outbox import PeerTransport
from raftkv_trio.peers.peer_keys import PeerKeys
from raftkv_trio.peers.peers import Peers
from raftkv_trio.peers.refusals import Refusals
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import Entry, Message, Snapshot
from raftkv_trio.state_machine import StateMachine
from raftkv_trio.storage import NodeStorage, SnapshotId
from raftkv_trio.sync import ByteBoundedQueue, Wakeup
from raftkv_trio.world import World

MAX_INBOX_BYTES = 8 * 1024 * 1024


class NodeParts:
    """The parts of one node. `run_node` runs their tasks; the level-1 simulator steps them one by one.

    Attributes:
        listen: the address that peers connect to.
        inbox: what peers sent, for the driver.
        proposals, reads, applied: what this node's clients wait for.
        freshness: what reads without a wait are allowed by.
        known: the nodes that this one listens to.
        levels: the feature levels of this node and of others.
        refusals: what it has refused of others.
        tracer: the writes whose way is followed.
        admission: decides what the driver takes of others; tells if this node lags because of that.

    Args:
        machine: in the state of the newest snapshot in `storage`.
        transport: takes what the driver sends to other members, in place of `peers`; for the simulator.

    Raises:
        ConfigError: `storage` does not fit `config`.
        CorruptLog, StorageError: `storage` cannot be read.
    """

    def __init__(
        self,
        config: NodeConfig,
        machine: StateMachine,
        storage: NodeStorage,
        world: World,
        *,
        transport: PeerTransport | None = None,
    ) -> None:
        self.config, self.storage, self.world = config, storage, world

        # 1. What the data directory holds, and the core that continues from there.
        log = recovered_log(storage)
        highest_level = highest_level_in(world)
        envelope = read_envelope(storage, highest_level)
        latest_envelope = committed_membership(envelope, log, highest_level)
        check_cluster(config, storage, latest_envelope)
        self.listen = (
            config.listen or latest_envelope.addresses.get(config.node_id) or config.members[config.node_id]
        )

        # 2. What several tasks share.
        wakeup = Wakeup()
        self._command_check = command_check(machine)
        self.tracer = Tracer(world.clock.now)
        self.inbox: ByteBoundedQueue[tuple[int, InboxItem]] = ByteBoundedQueue(wakeup, MAX_INBOX_BYTES)
        self.proposals = self._make_proposals(wakeup)
        self.applied = applied = AppliedIndex(storage.snapshot.index)
        self.freshness = Freshness(lambda: applied.index, world.clock.real_now)
        boot_nonce = world.random.getrandbits(63)
        self.refusals = Refusals(world.clock)
        self.reads = self._make_reads(wakeup, boot_nonce)
        self.raw = RawNode(core_config(config, storage.snapshot.index, world.random), log)
        self._own_directory = OwnDirectory(config, self.raw)
        self.removal = Removal(config.node_id, self.applied, world.clock, self.close)
        self.lost_entries = LostEntries(config.node_id, storage, world.clock, self.close)
        self.reports = PeerReports(self.proposals, wakeup)
        self.active = ActiveMembers(self.raw, world.clock, config.election_timeout_s)
        self.leader = KnownLeader(world.clock)
        self.leadership_transfer = LeadershipTransfer(
            self.raw, wakeup, world.clock, self.active, self.proposals, config.election_timeout_s
        )
        self.catching_up = self._make_catching_up(log)
        commits, commit_stream = trio.open_memory_channel[Commits](1)
        self._completions = self._make_completions(log, wakeup, commits)
        self.news = CommitNews(world.clock, wakeup)
        self._snapshotter_wakeup = Wakeup()
        self.known = self._make_known(log, latest_envelope)
        self.levels = FeatureLevels(
            self.raw, applied, entries=_entries(log), envelope=latest_envelope, highest=highest_level
        )

        # 3. The tasks that the driver works with.
        self.peers = self._make_peers(latest_envelope, boot_nonce, machine)
        self.membership = Membership(
            envelope, storage.snapshot.conf_state, self._members_applied, highest_level=highest_level
        )
        self.applier = self._make_applier(machine, commit_stream)
        self.log_writer = LogWriter(
            storage,
            world.worker,
            world.clock,
            self._completions.durable,
            self._completions.recorded,
            self.tracer,
        )
        self.snapshotter = self._make_snapshotter()

        # 4. The driver.
        self.admission = Admission(self.raw, self.known, self.refusals, self._command_check, highest_level)
        self.membership_changes = self._make_membership_changes(log)
        self.driver = self._make_driver(wakeup, SilencedTransport(transport or self.peers, self.lost_entries))
        self.removal.members_applied(envelope)  # its last process may have ended before anybody confirmed it

    def close(self, reason: str) -> None:
        """Settle everything that waits, and refuse what comes later: the node stops for this reason."""
        self.proposals.close(reason)
        self.reads.close(reason)
        self.applied.close(reason)
        self.snapshotter.close(reason)

    # ------------------------------------------------------------ what one part tells several others

    def _members_applied(self, envelope: Envelope) -> None:
        self.known.envelope = self.levels.envelope = envelope
        self.peers.update(envelope)
        self.removal.members_applied(envelope)

    def _members_confirmed(self, by: int, addresses: Mapping[int, PeerAddress]) -> None:
        self.peers.confirmed(by, addresses)

    def _directory_refused(self, peer_id: int) -> None:
        self._own_directory.refused_by(peer_id, self.membership.envelope.members.keys())

    def _batch_applied(self) -> None:
        self._completions.applied()
        self._snapshotter_wakeup.set()
        # The core has ignored these: one that it installs is applied no earlier than its file has its name.
        self.storage.forget_received(lambda received: received.index <= self.applied.index)

    def _is_of_leader(self, message: Message) -> bool:
        # A leader of this term may not be known yet, since nothing has come from it after this node's start.
        if message.term == self.raw.term:
            return self.raw.leader_id in (None, message.from_)
        return message.term > self.raw.term

    def _snapshot_stepped(self, snapshot: Snapshot) -> None:
        # The core commits up to a snapshot that it takes. Up to there the file may be on its way to the log
        # writer, which must find it. Once the machine has applied that index, the file has its name, or the
        # core has had the entries already when the snapshot came.
        if snapshot.index > self.raw.commit or snapshot.index <= self.applied.index:
            ignored = SnapshotId(snapshot.term, snapshot.index)
            self.storage.forget_received(lambda received: received == ignored)

    # ------------------------------------------------------------ the longer constructor calls

    def _make_proposals(self, wakeup: Wakeup) -> ProposalTable:
        return ProposalTable(
            node_id=self.config.node_id,
            random=self.world.random,
            wakeup=wakeup,
            max_command_bytes=self.config.max_command_bytes,
            max_count=self.config.max_pending_proposals,
            max_bytes=self.config.max_pending_bytes,
            command_check=self._command_check,
        )

    def _make_reads(self, wakeup: Wakeup, boot_nonce: int) -> PendingReads:
        return PendingReads(
            node_id=self.config.node_id,
            boot_nonce=boot_nonce,
            wakeup=wakeup,
            freshness=self.freshness,
        )

    def _make_catching_up(self, log: MemoryStorage) -> CatchingUp:
        return CatchingUp(
            self.raw,
            log,
            self.active,
            self.world.clock,
            lambda: self.snapshotter.want(),
            max_bytes=self.config.max_catch_up_bytes,
            tick_interval_s=self.config.tick_interval_s,
        )

    def _make_completions(
        self, log: MemoryStorage, wakeup: Wakeup, commits: trio.MemorySendChannel[Commits]
    ) -> Completions:
        return Completions(
            self.raw,
            log,
            wakeup,
            commits,
            self.catching_up,
            lambda: self.snapshotter.pinned_index,
            catch_up_entries=self.config.catch_up_entries,
            catch_up_bytes=self.config.catch_up_bytes,
            snapshot_entries=self.config.snapshot_entries,
            snapshot_log_bytes=self.config.snapshot_log_bytes,
        )

    def _make_known(self, log: MemoryStorage, latest_envelope: Envelope) -> KnownNodes:
        return KnownNodes(
            self.raw,
            configured=self.config.members,
            entries=_entries(log),
            envelope=latest_envelope,
            confirmed=self._members_confirmed,
        )

    def _make_peers(self, latest_envelope: Envelope, boot_nonce: int, machine: StateMachine) -> Peers:
        check = partial(check_contents, machine, highest_level=self.levels.highest)
        return Peers(
            identity=self.storage.identity,
            boot_nonce=boot_nonce,
            envelope=latest_envelope,
            peer_keys=PeerKeys(self.storage, self.world.worker),
            cluster_secret=self.config.cluster_secret,
            world=self.world,
            max_outbox_bytes=self.config.max_outbox_bytes,
            client_url=self.config.client_url,
            etcd_url=self.config.etcd_url,
            inbox=self.inbox,
            storage=self.storage,
            events=self.reports,
            known=self.known,
            levels=self.levels,
            refusals=self.refusals,
            directory_refused=self._directory_refused,
            told_removed=self.removal.told_by_member,
            snapshot_check=SnapshotCheck(self._is_of_leader, check),
        )

    def _make_applier(
        self, machine: StateMachine, commit_stream: trio.MemoryReceiveChannel[Commits]
    ) -> Applier:
        return Applier(
            machine,
            self.storage.snapshot,
            self.proposals,
            self.applied,
            self.membership,
            commit_stream,
            self.storage,
            self.world.bulk_worker,
            self.world.clock,
            self._batch_applied,
        )

    def _make_snapshotter(self) -> Snapshotter:
        return Snapshotter(
            self.storage,
            self.applier,
            self.log_writer,
            self.world.bulk_worker,
            self.world.clock,
            self._snapshotter_wakeup,
            DiskRoom(self.proposals).report,
            entries=self.config.snapshot_entries,
            log_bytes=self.config.snapshot_log_bytes,
            log_share=self.config.snapshot_log_share,
        )

    def _make_membership_changes(self, log: MemoryStorage) -> MembershipChanges:
        return MembershipChanges(
            self.config.node_id,
            self.raw,
            log,
            self.membership,
            self.world.clock,
            self.active,
            self.leadership_transfer,
            self.config.election_timeout_s,
            self.snapshotter.want,
        )

    def _make_driver(self, wakeup: Wakeup, transport: PeerTransport) -> Driver:
        proposer = Proposer(
            self.raw,
            self.proposals,
            self.membership_changes,
            self.catching_up,
            self.refusals,
            max_command_bytes=self.config.max_command_bytes,
            max_batch_bytes=self.config.max_message_bytes,
            tracer=self.tracer,
            command_check=self._command_check,
        )
        return Driver(
            raw=self.raw,
            wakeup=wakeup,
            admission=self.admission,
            known=self.known,
            inbox=self.inbox,
            completions=self._completions,
            reports=self.reports,
            proposals=self.proposals,
            reads=self.reads,
            proposer=proposer,
            changes=self.membership_changes,
            levels=self.levels,
            active=self.active,
            catching_up=self.catching_up,
            news=self.news,
            leader=self.leader,
            leadership_transfer=self.leadership_transfer,
            lost_entries=self.lost_entries,
            log_writer=self.log_writer,
            snapshot_stepped=self._snapshot_stepped,
            peers=transport,
            clock=self.world.clock,
            tracer=self.tracer,
            tick_interval_s=self.config.tick_interval_s,
        )


def _entries(log: MemoryStorage) -> Sequence[Entry]:
    """All entries of the log, applied or not."""
    return log.entries(log.first_index(), log.last_index() + 1, None)
