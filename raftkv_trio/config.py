"""What one node is told: frozen, checked when it is built, passed down by argument.

The CLI builds these once; a library user builds them by hand. Everything wrong raises `ConfigError`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raftkv_trio.addresses import PeerAddress, cluster_id_of
from raftkv_trio.errors import ConfigError

DEFAULT_CLUSTER = "http://127.0.0.1:9021"
DEFAULT_REST_PORT = 9121
DEFAULT_HOST = "127.0.0.1"
DEFAULT_REQUEST_TIMEOUT_S = 5.0
MAX_COMMAND_OVERHEAD_BYTES = 16 * 1024  # what a write has beside its value: a key and what tells it apart
#: Most bytes of one command, or of the entries of one message: a frame has up to a MiB of others before it.
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
MIN_SEGMENT_BYTES = 1024  # room for the records that begin and end it
DEFAULT_SEGMENT_BYTES = 64 * 1024 * 1024
DEFAULT_SNAPSHOT_ENTRIES = 10_000
DEFAULT_SNAPSHOT_LOG_BYTES = 64 * 1024 * 1024
DEFAULT_CATCH_UP_ENTRIES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node around any state machine.

    Attributes:
        members: the first configuration, used once, at bootstrap; it must hold `node_id`.
        cluster_token: sets apart clusters of the same addresses.
        join: a new directory begins as one of the cluster that the other `members` belong to; one of them has
            to be a living member, and this node's address the one that it was added with.
        listen: where peers are accepted; None: this node's own address of `members`.
        client_url: where the others may say that clients reach this node; None: they say nothing.
        max_command_bytes: largest command of one proposal.
        max_pending_proposals, max_pending_bytes: what may wait at once; beyond it proposals are refused. No
            more than a slow disk takes in a few seconds: whoever waits longer gives up, and is written all
            the same.
        max_message_bytes: most bytes of entries in one append (one entry may be larger).
        max_inflight_messages, max_inflight_bytes: appends to one follower that are not answered yet.
        max_uncommitted_bytes: most bytes in the leader's log beyond its commit index.
        max_outbox_bytes: what may wait for one peer's connection; beyond it messages are dropped.
        segment_bytes: size that a segment of the log is given when it is begun; a larger batch gets one of
            its size. On a full disk a node ends for want of room unless half a segment holds what is on its
            way to the log: `max_pending_bytes` on a leader, `max_inflight_bytes` on a follower.
        snapshot_entries, snapshot_log_bytes: a snapshot is taken after so many entries, or bytes of entries.
        catch_up_entries, catch_up_bytes: what is kept in memory behind a snapshot, for followers that lag a
            little; the others are sent the snapshot.
    """

    node_id: int
    members: Mapping[int, PeerAddress]
    data_dir: Path
    cluster_token: str = ""
    join: bool = False
    listen: PeerAddress | None = None
    client_url: str | None = None
    tick_interval_s: float = 0.1
    heartbeat_ticks: int = 1
    election_ticks: int = 10
    max_command_bytes: int = MAX_MESSAGE_BYTES
    max_pending_proposals: int = 10_000
    max_pending_bytes: int = 8 * 1024 * 1024
    max_message_bytes: int = 1024 * 1024
    max_inflight_messages: int = 256
    max_inflight_bytes: int = 16 * 1024 * 1024
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    max_outbox_bytes: int = 32 * 1024 * 1024
    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    snapshot_entries: int = DEFAULT_SNAPSHOT_ENTRIES
    snapshot_log_bytes: int = DEFAULT_SNAPSHOT_LOG_BYTES
    catch_up_entries: int = DEFAULT_CATCH_UP_ENTRIES
    catch_up_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.node_id not in self.members:
            known = ", ".join(map(str, sorted(self.members)))
            raise ConfigError(f"`node_id` {self.node_id} is not in `members`, which names {known}")
        if self.join and len(self.members) == 1:
            raise ConfigError("`join` needs the peer URL of a member in `members`, beside this node's own")
        if max(self.max_command_bytes, self.max_message_bytes) > MAX_MESSAGE_BYTES:
            raise ConfigError(
                f"`max_command_bytes` and `max_message_bytes` must be at most {MAX_MESSAGE_BYTES}"
            )
        if self.segment_bytes < MIN_SEGMENT_BYTES:
            raise ConfigError(f"`segment_bytes` must be at least {MIN_SEGMENT_BYTES}")
        if min(self.snapshot_entries, self.snapshot_log_bytes) < 1:
            raise ConfigError("`snapshot_entries` and `snapshot_log_bytes` must be at least 1")
        if min(self.catch_up_entries, self.catch_up_bytes) < 0:
            raise ConfigError("`catch_up_entries` and `catch_up_bytes` must not be negative")
        if self.tick_interval_s <= 0:
            raise ConfigError("`tick_interval_s` must be positive")
        if not 1 <= self.heartbeat_ticks < self.election_ticks:
            raise ConfigError("`heartbeat_ticks` must be at least 1, and less than `election_ticks`")

    @property
    def cluster_id(self) -> int:
        """The id of the cluster that a bootstrap with these members and this token makes."""
        return cluster_id_of(self.members, self.cluster_token)

    @property
    def election_timeout_s(self) -> float:
        """The shortest time without a leader's heartbeat after which a follower starts an election."""
        return self.election_ticks * self.tick_interval_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RestConfig:
    """The REST app of one node; `port` 0 lets the system choose.

    Attributes:
        advertise: where clients reach it; None: where it listens.
        request_timeout_s: how long a read or write may wait for a leader and a quorum.
        idle_timeout_s: how long a connection may be without a request.
        header_timeout_s: how long a request's head may take, from its first byte on.
        body_timeout_s: how long a value may take to arrive.
        send_timeout_s: how long a client may take to read 64 KiB of an answer.
        max_header_bytes: longest head of a request, its target included.
        max_value_bytes: largest value of a key.
        max_receiving_bytes: most bytes of values that are being received at once, over all connections.
        max_connections: what comes beyond it is told to come later.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_REST_PORT
    advertise: PeerAddress | None = None
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S
    idle_timeout_s: float = 60.0
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    send_timeout_s: float = 10.0
    max_header_bytes: int = 16 * 1024
    max_value_bytes: int = 1536 * 1024
    max_receiving_bytes: int = 64 * 1024 * 1024
    max_connections: int = 2000

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"`port` {self.port} is not a TCP port; use 0 to 65535")
        for name in ("request", "idle", "header", "body", "send"):
            if not getattr(self, f"{name}_timeout_s") > 0:  # so that NaN is refused too
                raise ConfigError(f"`{name}_timeout_s` must be positive")
        for name, least in (("header", 256), ("value", 0), ("receiving", self.max_value_bytes)):
            if getattr(self, f"max_{name}_bytes") < least:
                raise ConfigError(f"`max_{name}_bytes` must be at least {least}")
        if self.max_connections < 1:
            raise ConfigError("`max_connections` must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One server: a node, the key-value state machine and its REST app."""

    node: NodeConfig
    rest: RestConfig = field(default_factory=RestConfig)

    def __post_init__(self) -> None:
        largest = self.node.max_command_bytes - MAX_COMMAND_OVERHEAD_BYTES
        if self.rest.max_value_bytes > largest:
            raise ConfigError(f"`max_value_bytes` must be at most {largest}")
        peers = self.node.listen or self.node.members[self.node.node_id]
        if self.rest.port == peers.port:
            raise ConfigError(
                f"`port` {self.rest.port} is the port for peers too; choose another for clients"
            )

    def client_url(self, port: int) -> str:
        """Where clients reach the REST app that listens at `port`, as far as the flags tell.

        An app that listens at all addresses is reached where this node's peers reach it.
        """
        if self.rest.advertise is not None:
            return self.rest.advertise.url
        host = self.rest.host
        if host in ("", "0.0.0.0", "::"):
            host = self.node.members[self.node.node_id].host
        return PeerAddress(host, port).url
