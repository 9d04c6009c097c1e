"""How a node starts from its data directory: state machine, log, members, the core's configuration.

A node that starts again must be the voter that it was: hard state and entries come back exactly as they were
durable. Everything else (the state machine, the members) is made again from the newest snapshot and the log,
so nothing of it has to be durable by itself.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Set
from random import Random

from raftkv_trio.addresses import PeerAddress, cluster_id_of, restored_cluster_id
from raftkv_trio.config import MAX_MESSAGE_ENTRIES, NodeConfig
from raftkv_trio.errors import ConfigError
from raftkv_trio.logs import NAMES_FIELDS
from raftkv_trio.node.applier import set_level
from raftkv_trio.node.words import Words
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.levels import HIGHEST
from raftkv_trio.payload.membership import Membership
from raftkv_trio.peers.incoming import open_peer_listener
from raftkv_trio.peers.joining import Joiner, check_joined, find_cluster
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
    UnusableDirectory,
    is_new,
    open_storage,
)
from raftkv_trio.world import TcpNetwork, World

logger = logging.getLogger(__name__)


def check_encryption(config: NodeConfig, world: World) -> None:
    """Refuse a URL that asks for TLS if there is none. Raises ConfigError."""
    if isinstance(world.network, TcpNetwork) and any(a.is_tls for a in config.members.values()):
        raise ConfigError(
            "`members` has a URL with https://, and the network of the node's world speaks without TLS; make"
            " one with `open_tls_network`, or write http://"
        )


async def check_cluster_to_join(config: NodeConfig, storage: NodeStorage, world: World) -> None:
    """If this node is to join a cluster: refuse a directory of another one, if a member can be asked.

    Raises ConfigError. Cancellation leaves nothing behind.
    """
    if not config.join:
        return
    # Only where no other member of the directory's own cluster is configured: whoever listens at the address
    # of one that is down could end this node. The handshake refuses another cluster in any case.
    known = await world.worker.run(read_envelope, storage, highest_level_in(world))
    others = {(i, address) for i, address in config.members.items() if i != config.node_id}
    if others.isdisjoint(known.addresses.items()):
        cluster_id = storage.identity.cluster_id
        await check_joined(_joiner(config, world), cluster_id, config.members, config.data_dir)


def _joiner(config: NodeConfig, world: World) -> Joiner:
    highest = highest_level_in(world)
    return Joiner(config.node_id, world.network, world.random, config.cluster_secret, highest)


def highest_level_in(world: World) -> int:
    """The highest feature level that a node in this world knows."""
    return HIGHEST if world.highest_level is None else world.highest_level


def read_envelope(storage: NodeStorage, highest_level: int = HIGHEST) -> Envelope:
    """The envelope of the newest snapshot. Raises CorruptLog, UpgradeNeeded, StorageError."""
    return Envelope.decode(storage.read_envelope(storage.snapshot.id), highest_level=highest_level)


async def open_or_join(
    config: NodeConfig, disk: Disk, world: World, waits_to_join: Callable[[str], None]
) -> NodeStorage:
    """Open a node's data directory; create it if there is none. A joining node finds its cluster before that.

    `waits_to_join` is called with the reason if finding it takes longer.

    Raises ConfigError, StorageError. Cancellation leaves a whole directory, or one that the next start
    creates again.
    """
    joined: Bootstrap | None = None
    if await world.worker.run(is_new, disk, config.data_dir):
        # If the address cannot be bound the members are probably those of another machine. Find that out
        # before a directory is created: the directory would keep them for ever.
        await (
            await open_peer_listener(world.network, config.listen or config.members[config.node_id])
        ).aclose()
        if config.join:
            joined = await find_cluster(_joiner(config, world), config.members, world.clock, waits_to_join)
    highest = highest_level_in(world)
    storage = await world.worker.run(open_directory, disk, config, world.random, joined, highest)
    if (torn := storage.torn_tail) is not None:
        logger.warning(
            "%s: a crash has torn the last record, at offset %d; what was cut off is kept as %s",
            torn.file,
            torn.offset,
            torn.kept,
        )
    return storage


def open_directory(
    disk: Disk,
    config: NodeConfig,
    random: Random,
    joined: Bootstrap | None = None,
    highest_level: int = HIGHEST,
) -> NodeStorage:
    """Open a node's data directory, or create it: for a new cluster, or for the cluster that was `joined`.

    A new cluster begins at the highest feature level: no member of it has anything older.

    Raises ConfigError, StorageError.
    """
    bootstrap = joined or Bootstrap(
        cluster_id=config.cluster_id,
        conf_state=ConfState(voters=tuple(sorted(config.members))),
        # Had one member begun at another level, it would be refused (`payload/levels.py`).
        envelope=Envelope.of(config.members, level=highest_level, since=BOOTSTRAP_INDEX).encode(),
    )
    try:
        return open_storage(
            disk,
            config.data_dir,
            node_id=config.node_id,
            bootstrap=bootstrap,
            rng=random,
            segment_bytes=config.segment_bytes,
        )
    except UnusableDirectory as error:
        # Its cause stays the error of the disk, if there was one.
        raise UnusableDirectory(
            error.what, *error.remedies, "name another with `data_dir`"
        ) from error.__cause__


def restore_machine(machine: StateMachine, storage: NodeStorage, highest_level: int = HIGHEST) -> None:
    """Give a new machine the level and the state of the newest snapshot.

    Raises CorruptLog, UpgradeNeeded, StorageError.
    """
    set_level(machine, read_envelope(storage, highest_level))
    # The snapshot at the bootstrap index has no chunks: it is the machine's initial state.
    if storage.snapshot.index > BOOTSTRAP_INDEX:
        machine.restore(storage.snapshot_chunks(storage.snapshot.id))


def recovered_log(storage: NodeStorage) -> MemoryStorage:
    """The log as it was durable when the node ended, from its newest snapshot on."""
    # The hard state on the disk may be older than the snapshot: a new directory has none yet, and a commit
    # index alone is not written each time that it moves. A snapshot holds committed entries only, so its term
    # and index are lower bounds for both.
    meta, hard_state = storage.snapshot, storage.hard_state
    return MemoryStorage(
        Snapshot(meta.index, meta.term, meta.conf_state),
        HardState(max(hard_state.term, meta.term), hard_state.vote, max(hard_state.commit, meta.index)),
        storage.take_entries(),
    )


def committed_membership(envelope: Envelope, log: MemoryStorage, highest_level: int = HIGHEST) -> Envelope:
    """The members as of the last entry that is known to be committed, before any entry is applied.

    With these the node knows where to dial and who may connect, before the applier has caught up. The core
    does not use them: it takes each configuration when its entry is applied.
    """
    hard_state, conf_state = log.initial_state()
    membership = Membership(envelope, conf_state, highest_level=highest_level)
    for entry in log.entries(log.first_index(), min(hard_state.commit, log.last_index()) + 1, None):
        if entry.type is not EntryType.NORMAL:
            membership.apply(entry)
    return membership.envelope


def check_cluster(config: NodeConfig, storage: NodeStorage, envelope: Envelope) -> None:
    """Warn if `members` or `cluster_token` are not those of the first start, which are the ones that count.

    Raises ConfigError if they have no member of this cluster, which can only be a mistake, or if the node has
    lost entries that it had acknowledged.
    """
    # The other members rely on the entries, and on votes that may be lost with them.
    if storage.lost_up_to is not None:
        raise ConfigError(
            f"node {config.node_id} has lost entries that it had acknowledged, up to entry"
            f" {storage.lost_up_to}, and does not start again; remove it from the cluster, and add a node"
            " under a new id, with a data directory of its own; if the others are no majority, bring them"
            " back first, or if they are lost, run `member force-new-cluster` on a healthy member"
        )
    is_made_with_these = _is_made_with(storage, config.members, config.cluster_token)
    if config.join and is_made_with_these:
        logger.warning(
            "`join` is ignored: node %d was first started without it, and that began a new cluster, to which"
            " %s belongs; to join a cluster that runs already, stop the node, and remove the directory or"
            " name another with `data_dir`",
            config.node_id,
            config.data_dir,
            extra=NAMES_FIELDS,
        )
    if is_made_with_these:
        return
    if config.members.items().isdisjoint(envelope.addresses.items()):
        raise ConfigError(
            f"{config.data_dir} belongs to another cluster, of which `members` names no member;"
            " check `members` and `data_dir`"
        )
    if config.join:  # a directory that has joined was made without the configured members
        return
    for sentence in _what_is_ignored(config, storage, envelope.addresses):
        logger.warning("%s", sentence, extra=NAMES_FIELDS)


def _is_made_with(storage: NodeStorage, members: Mapping[int, PeerAddress], token: str) -> bool:
    """Whether the cluster of this directory began with these members and this token."""
    cluster_id, origin = cluster_id_of(members, token), storage.origin
    return storage.identity.cluster_id == (
        cluster_id if origin is None else restored_cluster_id(cluster_id, origin)
    )


def _what_is_ignored(
    config: NodeConfig, storage: NodeStorage, present: Mapping[int, PeerAddress]
) -> Iterator[str]:
    """A sentence for each field that differs from what the directory was made with, or may differ.

    The directory has only a hash of both fields. It shows which one differs as long as the members are still
    the first ones, or if there was no token.
    """
    node = f"node {config.node_id} in {config.data_dir}"
    if dict(config.members) != dict(present):
        members = ",".join(f"{node_id}={address.url}" for node_id, address in sorted(present.items()))
        yield (
            f"`members` is ignored, except that this node listens to nodes with these ids: {node} has the"
            f" members {members}; to change them, use raftkv-trio member"
        )
    # No token is none that could be ignored, whatever the cluster began with.
    if not config.cluster_token or _is_made_with(storage, present, config.cluster_token):
        return
    if any(_is_made_with(storage, members, "") for members in (config.members, present)):
        yield f"`cluster_token` is ignored: {node} belongs to a cluster that was made without one"
    else:
        yield (
            f"`cluster_token` is ignored: {node} belongs to a cluster that was made with another one, or that"
            " began with other members"
        )


class OwnDirectory:
    """Ends the node if its directory is new, and the others know this member by another directory."""

    def __init__(self, config: NodeConfig, raw: RawNode) -> None:
        self._config = config
        self._raw = raw
        self._words = Words()

    def refused_by(self, peer_id: int, members: Set[int]) -> None:
        """A member knows this node by another directory; raises ConfigError if that ends the node.

        `members` are those of this node's configuration. The directory that is missing here has the votes
        that this member gave, and stopping loses nothing. Two members must say so, or the only other one: at
        the address of one a stranger may listen, and without a cluster secret a new directory has no means
        to tell. Who has the addresses of two could as well have been met as these two. But no peer can stop
        a node that has ever voted or heard of a leader: such a node has left the term that new directories
        begin with.
        """
        node_id = self._config.node_id
        is_believed = self._words.are_enough(peer_id, 0, members - {node_id})
        if is_believed and self._raw.term <= BOOTSTRAP_TERM:
            raise ConfigError(
                f"node {peer_id} knows node {node_id} by another data directory, and"
                f" {self._config.data_dir} is new: a member that has lost its directory has forgotten its"
                " votes; bring the directory back, or remove the member and add it under a new id"
            )


def core_config(config: NodeConfig, applied: int, random: Random) -> Config:
    """The core's part of a node's configuration; entries up to `applied` are in the state machine."""
    return Config(
        id=config.node_id,
        election_ticks=config.election_ticks,
        heartbeat_ticks=config.heartbeat_ticks,
        applied=applied,
        async_storage_writes=True,
        max_message_bytes=config.max_message_bytes,
        max_message_entries=MAX_MESSAGE_ENTRIES,
        max_committed_bytes_per_ready=config.max_inflight_bytes,
        max_uncommitted_bytes=config.max_uncommitted_bytes,
        max_inflight_messages=config.max_inflight_messages,
        max_inflight_bytes=config.max_inflight_bytes,
        # The node forwards proposals itself, with the term that they are meant for (`node/proposals.py`).
        disable_proposal_forwarding=True,
        # A cluster that was stopped as a whole should not wait a whole timeout for a leader. If there is one,
        # an early campaign disturbs nothing: PreVote makes the others refuse while they hear from it.
        initial_election_ticks_left=1,
        random=random,
    )
