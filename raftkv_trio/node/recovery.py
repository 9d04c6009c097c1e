"""What a node begins with: its directory, its machine, its log, and the members that it knows from there."""

import logging
from collections.abc import Callable
from pathlib import Path
from random import Random

from raftkv_trio.addresses import restored_cluster_id
from raftkv_trio.config import NodeConfig
from raftkv_trio.errors import ConfigError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.membership import Membership
from raftkv_trio.peers.incoming import open_peer_listener
from raftkv_trio.peers.joining import find_cluster
from raftkv_trio.raft.config import Config
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import ConfState, EntryType, HardState, Snapshot
from raftkv_trio.state_machine import StateMachine
from raftkv_trio.storage import (
    BOOTSTRAP_INDEX,
    BOOTSTRAP_TERM,
    Bootstrap,
    Disk,
    NodeStorage,
    is_new,
    open_storage,
)
from raftkv_trio.world import World

logger = logging.getLogger(__name__)


async def open_or_join(
    config: NodeConfig, disk: Disk, world: World, waits_to_join: Callable[[str], None]
) -> NodeStorage:
    """A node's data directory; made where there is none, by a joiner once it has found its cluster.

    `waits_to_join` is told why that takes longer.

    Raises ConfigError, StorageError. Cancellation leaves a directory that is whole, or made again at a start.
    """
    joined: Bootstrap | None = None
    if await world.worker.run(is_new, disk, Path(config.data_dir)):
        # Before a directory is made: it would remember members that do not fit this machine.
        await (
            await open_peer_listener(world.network, config.listen or config.members[config.node_id])
        ).aclose()
        if config.join:
            joined = await find_cluster(
                config.node_id, config.members, world.network, world.clock, waits_to_join
            )
    storage = await world.worker.run(open_directory, disk, config, world.random, joined)
    if (torn := storage.torn_tail) is not None:
        logger.warning("%s was torn at offset %d by a crash; kept as %s", torn.file, torn.offset, torn.kept)
    return storage


def open_directory(
    disk: Disk, config: NodeConfig, random: Random, joined: Bootstrap | None = None
) -> NodeStorage:
    """Open a node's data directory, or make it, of a new cluster or of that which was `joined`.

    Raises ConfigError, StorageError.
    """
    bootstrap = joined or Bootstrap(
        cluster_id=config.cluster_id,
        conf_state=ConfState(voters=tuple(sorted(config.members))),
        envelope=Envelope.of(config.members).encode(),
    )
    return open_storage(
        disk,
        config.data_dir,
        node_id=config.node_id,
        bootstrap=bootstrap,
        rng=random,
        segment_bytes=config.segment_bytes,
    )


def restore_machine(machine: StateMachine, storage: NodeStorage) -> None:
    """Give a new machine the state of the newest snapshot; raises CorruptLog, StorageError."""
    if storage.snapshot.index > BOOTSTRAP_INDEX:  # the one of the bootstrap is of the initial state
        machine.restore(storage.snapshot_chunks(storage.snapshot.id))


def recovered_log(storage: NodeStorage) -> MemoryStorage:
    """The log as it was when the node ended, behind its newest snapshot."""
    meta, hard_state = storage.snapshot, storage.hard_state
    return MemoryStorage(
        Snapshot(meta.index, meta.term, meta.conf_state),
        HardState(max(hard_state.term, meta.term), hard_state.vote, max(hard_state.commit, meta.index)),
        storage.take_entries(),
    )


def committed_membership(envelope: Envelope, log: MemoryStorage) -> Envelope:
    """The members as of what is known to be committed, before any of it is applied."""
    hard_state, conf_state = log.initial_state()
    membership = Membership(envelope, conf_state)
    for entry in log.entries(log.first_index(), min(hard_state.commit, log.last_index()) + 1, None):
        if entry.type is not EntryType.NORMAL:
            membership.apply(entry)
    return membership.envelope


def check_cluster(config: NodeConfig, storage: NodeStorage, envelope: Envelope) -> None:
    """Warn if the configured `members` are not those of the first start, which are the ones that count.

    Raises ConfigError if they have no member of this cluster, which can only be a mistake.
    """
    cluster_id, origin = config.cluster_id, storage.origin
    is_made_with_these = storage.identity.cluster_id == (
        cluster_id if origin is None else restored_cluster_id(cluster_id, origin)
    )
    if config.join and is_made_with_these:
        logger.warning(
            "join is ignored: %s was created without it, and belongs to a cluster of its own; to join another"
            " cluster, remove the directory or configure another one",
            config.data_dir,
        )
    if config.join or is_made_with_these:
        return
    if config.members.items().isdisjoint(envelope.addresses.items()):
        raise ConfigError(
            f"{config.data_dir} belongs to another cluster, of which `members` names no member;"
            " check `members` and `data_dir`"
        )
    logger.warning(
        "the configured members differ from those that %s was created with, and are ignored", config.data_dir
    )


def check_own_directory(config: NodeConfig, raw: RawNode, peer_id: int) -> None:
    """Raise ConfigError if this node's directory is new, and a peer knows this node by another directory.

    The statement of one peer is enough to stop a node with a new directory: that peer met this member with
    another directory, whose votes are missing here, and stopping loses nothing. But no peer can stop a node
    that has ever voted or heard of a leader: such a node has left the term that new directories begin with.
    """
    if raw.term <= BOOTSTRAP_TERM:
        raise ConfigError(
            f"node {peer_id} knows node {config.node_id} by another data directory, and {config.data_dir} is"
            " new: a member that has lost its directory has forgotten its votes; bring the directory back, or"
            " remove the member and add it under a new id"
        )


def core_config(config: NodeConfig, applied: int, random: Random) -> Config:
    """What the core is told."""
    return Config(
        id=config.node_id,
        election_ticks=config.election_ticks,
        heartbeat_ticks=config.heartbeat_ticks,
        applied=applied,
        async_storage_writes=True,
        max_message_bytes=config.max_message_bytes,
        max_committed_bytes_per_ready=config.max_inflight_bytes,
        max_uncommitted_bytes=config.max_uncommitted_bytes,
        max_inflight_messages=config.max_inflight_messages,
        max_inflight_bytes=config.max_inflight_bytes,
        disable_proposal_forwarding=True,
        initial_election_ticks_left=1,
        random=random,
    )
