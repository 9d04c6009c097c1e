"""The configuration of a node and of a server: frozen, checked when it is made, passed on as an argument.

The command line makes these objects from its flags, a program that embeds a node makes them itself. A value
that is wrong raises `ConfigError`, whose text names the field.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from raftkv_trio.addresses import (
    MAX_URL_CHARACTERS,
    ClientAddress,
    PeerAddress,
    a_label_form,
    cluster_id_of,
    is_loopback,
    is_wildcard,
    may_be_same_host,
)
from raftkv_trio.errors import ConfigError

DEFAULT_CLUSTER = "http://127.0.0.1:9021"
DEFAULT_REST_PORT = 9121
MAX_METRICS_CONNECTIONS = 16
DEFAULT_HOST = "127.0.0.1"
ANY_HOST = "*"  # in `host_whitelist`
DEFAULT_REQUEST_TIMEOUT_S = 5.0
DEFAULT_RETENTION_REVISIONS = 10_000
DEFAULT_AUTH_TOKEN_TTL_S = 300  # etcd's
MAX_COMMAND_OVERHEAD_BYTES = 16 * 1024  # what the command of a write has besides the value: mostly the key
#: Largest command, and largest sum of the entries of one message. A frame may hold 1 MiB of other messages
#: before it, and is limited to 4 MiB.
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
#: Most entries of one message that this node sends; `peers/wire.py` has the limit of what it takes.
MAX_MESSAGE_ENTRIES = 8 * 1024
#: Largest change of members, as it is requested: a hundred members and their URLs.
MAX_CHANGE_BYTES = 16 * 1024
#: Largest data of a log entry: the largest command, with the header of a proposal. So an entry always fits
#: into a frame, and a leader can send whatever it has appended.
MAX_ENTRY_BYTES = MAX_MESSAGE_BYTES + 4096
MIN_SECRET_BYTES = 32
MIN_SEGMENT_BYTES = 1024  # room for the records at the beginning and end of a segment
DEFAULT_SEGMENT_BYTES = 64 * 1024 * 1024
DEFAULT_SNAPSHOT_ENTRIES = 10_000
DEFAULT_SNAPSHOT_LOG_BYTES = 64 * 1024 * 1024
DEFAULT_CATCH_UP_ENTRIES = 10_000
TLS_VERSIONS = ("1.2", "1.3")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """The configuration of one node, whatever its state machine.

    Attributes:
        node_id: this node's id, a positive integer.
        members: the members of a new cluster by id, with `node_id` among them. Used only to bootstrap: later
            the cluster itself knows its members.
        data_dir: the data directory, a path or its text; made if it does not exist.
        cluster_token: distinguishes clusters that use the same addresses.
        cluster_secret: what all nodes of the cluster share, at least 32 random bytes: a node without it is
            refused; None: whoever knows the cluster's id and reaches the peer port may introduce itself.
        join: if the data directory is new, join the running cluster of the other `members` instead of
            bootstrapping one. At least one of them must be a member that runs, and this node must have been
            added with the address that `members` gives it.
        listen: the address at which to listen for peers; None: this node's address in `members`.
        client_url, etcd_url: the URLs at which clients reach this node, and those of etcd's API, which other
            members tell to operators and to clients; None: they tell nothing.
        tick_interval_s: the length of a tick.
        heartbeat_ticks: the interval between a leader's heartbeats.
        election_ticks: a follower that hears of no leader for this time, or up to twice this time, campaigns.
        max_command_bytes: the largest command of a proposal.
        max_pending_proposals, max_pending_bytes: how many proposals, and bytes of commands, may wait at once;
            further ones are refused. Allow no more than a slow disk writes in a few seconds: a caller that
            waits longer gives up, and its command is written nevertheless.
        max_message_bytes: the largest sum of the entries in one append message; one entry may be larger.
        max_inflight_messages, max_inflight_bytes: how much may be on its way to one follower, unanswered.
        max_uncommitted_bytes: the largest sum of the entries in the leader's log beyond its commit index.
        max_outbox_bytes: how much may wait for one peer's connection; further messages are dropped.
        segment_bytes: the size of a new segment of the log; a batch that is larger gets a segment of its
            size. A node survives a full disk only if half a segment has room for everything on its way to the
            log: `max_pending_bytes` on a leader, `max_inflight_bytes` on a follower.
        snapshot_entries, snapshot_log_bytes: a snapshot is taken after this number, or size, of entries, or
            later, as `snapshot_log_share` says.
        snapshot_log_share: a snapshot is not taken before the log behind the newest one has this part of its
            size. So snapshots cost no more than the log times the inverse of this, and a start reads no more
            log than this part of the state, if that is more than the two limits above.
        catch_up_entries, catch_up_bytes: how many entries are kept in memory after they are applied, for
            followers that lag a little; a follower that lags more is sent a snapshot.
        max_catch_up_bytes: how much of the log the leader keeps in memory, at most, while a member catches
            up. It slows writers when a voter lacks half of that.
    """

    node_id: int
    members: Mapping[int, PeerAddress]
    data_dir: Path
    cluster_token: str = ""
    cluster_secret: bytes | None = field(default=None, repr=False)
    join: bool = False
    listen: PeerAddress | None = None
    client_url: str | None = None
    etcd_url: str | None = None
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
    snapshot_log_share: float = 0.25
    catch_up_entries: int = DEFAULT_CATCH_UP_ENTRIES
    catch_up_bytes: int = 64 * 1024 * 1024
    max_catch_up_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        self._check_types()
        for name in ("client_url", "etcd_url"):
            if len(getattr(self, name) or "") > MAX_URL_CHARACTERS:
                raise ConfigError(f"`{name}` must have at most {MAX_URL_CHARACTERS} characters")
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
        if not 0 <= self.snapshot_log_share < math.inf:  # so that NaN is refused too
            raise ConfigError("`snapshot_log_share` must be a number that is not negative")
        if min(self.catch_up_entries, self.catch_up_bytes) < 0:
            raise ConfigError("`catch_up_entries` and `catch_up_bytes` must not be negative")
        if self.max_catch_up_bytes < 1:
            raise ConfigError("`max_catch_up_bytes` must be at least 1")
        if self.tick_interval_s <= 0:
            raise ConfigError("`tick_interval_s` must be positive")
        if not 1 <= self.heartbeat_ticks < self.election_ticks:
            raise ConfigError("`heartbeat_ticks` must be at least 1, and less than `election_ticks`")

    def _check_types(self) -> None:
        """Refuse what a program without a type checker passes easily by mistake, and take a path's text."""
        try:
            object.__setattr__(self, "data_dir", Path(self.data_dir))
        except TypeError:
            raise ConfigError(f"`data_dir` {self.data_dir!r} is no path") from None
        if not isinstance(self.members, Mapping) or not all(
            isinstance(node_id, int) and isinstance(address, PeerAddress)
            for node_id, address in self.members.items()
        ):
            raise ConfigError(
                f"`members` {self.members!r} does not map ids to PeerAddress; make it with parse_cluster"
            )
        if not isinstance(self.node_id, int):
            raise ConfigError(f"`node_id` {self.node_id!r} is no integer")
        secret = self.cluster_secret
        if secret is not None and (not isinstance(secret, bytes) or len(secret) < MIN_SECRET_BYTES):
            raise ConfigError(f"`cluster_secret` must be at least {MIN_SECRET_BYTES} bytes")

    @property
    def cluster_id(self) -> int:
        """The id of the cluster that a bootstrap with these members and this token makes."""
        return cluster_id_of(self.members, self.cluster_token)

    @property
    def election_timeout_s(self) -> float:
        """The shortest time without a leader's heartbeat after which a follower starts an election."""
        return self.election_ticks * self.tick_interval_s

    @property
    def transfer_timeout_s(self) -> float:
        """How long a node that stops waits until another one leads in its place."""
        # The word to the next leader and its election take two round trips, and an election timeout is many.
        return min(max(0.5, self.election_timeout_s / 2), 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestConfig:
    """The configuration of a node's REST API.

    Attributes:
        host: the address at which it listens, IPv6 without brackets; `::` means all addresses, also of IPv4.
        port: its port; with 0 the system chooses one.
        advertise: the address at which clients reach it; None: the one at which it listens.
        request_timeout_s: how long a read or write may wait for a leader and a quorum.
        idle_timeout_s: how long a client's connection may be idle.
        header_timeout_s: how long a client may take to send the head of a request, from its first byte on.
        body_timeout_s: how long a client may take to send a value.
        send_timeout_s: how long a client may take to read 64 KiB of a response.
        max_header_bytes: the largest head of a request, which includes the key.
        max_value_bytes: the largest value of a key.
        max_receiving_bytes: the largest total of the values that are being received at once.
        quota_bytes: the most bytes of keys and values that puts of this node's clients may bring the store
            to; 0: no quota. The same on all members.
        max_connections: the largest number of client connections, of which one host has nine tenths at most.
            For a further one the connection that has been idle for the longest time is closed; if none is
            idle, the further one is answered with 503.
        host_whitelist: host names under which clients may ask for this node, beside `localhost`, `host`, the
            one of `advertise`, and those of the members; IP addresses always may. `*` means any name.
        root_members: whether `POST /4` and `DELETE /3` change the members, as in raftexample.
        listen_metrics: where health and metrics are served too, on `MAX_METRICS_CONNECTIONS` connections of
            their own; None: nowhere else.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_REST_PORT
    advertise: ClientAddress | None = None
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S
    idle_timeout_s: float = 75.0  # nginx keeps idle connections to us for 60 s, and must be first to close
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    send_timeout_s: float = 10.0
    max_header_bytes: int = 16 * 1024
    max_value_bytes: int = 1536 * 1024
    max_receiving_bytes: int = 64 * 1024 * 1024
    quota_bytes: int = 2 * 1024 * 1024 * 1024
    max_connections: int = 2000
    host_whitelist: tuple[str, ...] = ()
    root_members: bool = True
    listen_metrics: PeerAddress | None = None

    def __post_init__(self) -> None:
        if not self.host:
            raise ConfigError("`host` is empty; give an address, or 0.0.0.0 or :: for all addresses")
        if self.advertise is not None and is_wildcard(self.advertise.host):
            raise ConfigError(
                f"`advertise` {self.advertise.url} is no URL that clients can dial; name a host"
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"`port` {self.port} is not a TCP port; use 0 to 65535")
        for name in ("request", "idle", "header", "body", "send"):
            if not getattr(self, f"{name}_timeout_s") > 0:  # so that NaN is refused too
                raise ConfigError(f"`{name}_timeout_s` must be positive")
        for name, least in (("header", 256), ("value", 0), ("receiving", self.max_value_bytes)):
            if getattr(self, f"max_{name}_bytes") < least:
                raise ConfigError(f"`max_{name}_bytes` must be at least {least}")
        if not 0 <= self.quota_bytes < 2**63:
            raise ConfigError("`quota_bytes` must be at least 0, which means no quota, and below 2**63")
        if self.max_connections < 1:
            raise ConfigError("`max_connections` must be at least 1")
        for name in self.host_whitelist:
            if name != ANY_HOST and not re.fullmatch(r"[a-z0-9._-]+", a_label_form(name)):
                raise ConfigError(f"`host_whitelist` {name!r} is no host name; leave out scheme and port")

    @property
    def of_metrics(self) -> "RestConfig | None":
        """The configuration of what listens at `listen_metrics`; None if nothing does."""
        if self.listen_metrics is None:
            return None
        return replace(
            self,
            host=self.listen_metrics.host,
            port=self.listen_metrics.port,
            max_connections=MAX_METRICS_CONNECTIONS,
            listen_metrics=None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """TLS on the port for clients. All files are PEM, and are read again when they change.

    Attributes:
        cert_file: the server's certificate, and those between it and its CA.
        key_file: its private key, without a passphrase.
        client_cert_auth: whether only clients are served that show a certificate of `trusted_ca_file`.
        trusted_ca_file: the CAs of clients.
        client_crl_file: the certificates of clients that their CAs have revoked.
        tls_min_version: the lowest version of TLS, one of `TLS_VERSIONS`.
    """

    cert_file: Path | None = None
    key_file: Path | None = None
    client_cert_auth: bool = False
    trusted_ca_file: Path | None = None
    client_crl_file: Path | None = None
    tls_min_version: str = TLS_VERSIONS[0]

    def __post_init__(self) -> None:
        _check_pair(self, "cert_file", "key_file")
        if self.tls_min_version not in TLS_VERSIONS:
            raise ConfigError(f"`tls_min_version` must be one of {', '.join(TLS_VERSIONS)}")
        if self.client_cert_auth and self.trusted_ca_file is None:
            raise ConfigError("`client_cert_auth` needs the CAs of clients; name them with `trusted_ca_file`")
        for name in ("trusted_ca_file", "client_crl_file"):
            if getattr(self, name) is not None and not self.client_cert_auth:
                raise ConfigError(
                    f"`{name}` has no effect, since no certificate of a client is asked for;"
                    " set `client_cert_auth` too, or leave it out"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTls:
    """TLS between members, always mutual and of version 1.3.

    All files are PEM, and are read again when they change.

    Attributes:
        peer_cert_file: this node's certificate, for both sides of a connection; it names the node.
        peer_key_file: its private key, without a passphrase.
        peer_trusted_ca_file: the CAs of all members.
        peer_crl_file: the certificates of members that their CAs have revoked.
        peer_cert_allowed_san: names of certificates that may speak for any member, beside those that name it.
        peer_tls_transition: whether members that speak without TLS are accepted, and dialled, too: while a
            cluster goes over to TLS, or back.
    """

    peer_cert_file: Path | None = None
    peer_key_file: Path | None = None
    peer_trusted_ca_file: Path | None = None
    peer_crl_file: Path | None = None
    peer_cert_allowed_san: tuple[str, ...] = ()
    peer_tls_transition: bool = False

    def __post_init__(self) -> None:
        _check_pair(self, "peer_cert_file", "peer_key_file")
        if self.peer_trusted_ca_file is None:
            raise ConfigError(
                "`peer_trusted_ca_file` is missing: members check each other's certificates; name their CA"
            )


def _check_pair(tls: ClientTls | PeerTls, certificate: str, key: str) -> None:
    """Raise ConfigError unless both halves of a pair are given."""
    if getattr(tls, certificate) is None and getattr(tls, key) is None:
        raise ConfigError(f"TLS needs a certificate and its key; name them with `{certificate}` and `{key}`")
    check_no_half_pair(tls, certificate, key)


def check_no_half_pair(tls: object, certificate: str, key: str) -> None:
    """Raise ConfigError if, of these two fields, one is given and the other one is None."""
    given, missing = certificate, key
    if getattr(tls, given) is None:
        given, missing = missing, given
    if getattr(tls, given) is not None and getattr(tls, missing) is None:
        raise ConfigError(f"`{given}` is only half of a pair; name the other half with `{missing}`")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionConfig:
    """What is kept of the store's past revisions. The leader compacts the rest; the same on all members.

    Attributes:
        retention_revisions: so many of the newest revisions are kept; None: their number is no reason to
            compact.
        retention_s: the revisions of so many seconds are kept; None: their age is no reason to compact.
        max_history_bytes: about so many bytes of keys and values of past revisions are kept at most, whatever
            the others say; 0: no bound.
    """

    retention_revisions: int | None = DEFAULT_RETENTION_REVISIONS
    retention_s: float | None = None
    max_history_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.retention_revisions is not None and self.retention_revisions < 1:
            raise ConfigError("`retention_revisions` must be at least 1")
        if self.retention_s is not None and not 0 < self.retention_s < math.inf:
            raise ConfigError("`retention_s` must be a positive number of seconds")
        if self.max_history_bytes < 0:
            raise ConfigError("`max_history_bytes` must be at least 0, which means no bound")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """What watches may cost, and when their clients hear of progress.

    Attributes:
        max_stream_bytes: how much may wait for the client of one stream; its watchers then leave the events
            in the history, and read them there when the client has taken half of it.
        max_queued_bytes: the same of all streams together.
        max_watcher_bytes: of all watchers; each counts as 1 KiB and its key and range end.
        progress_interval_s: how often a watcher without events is told the revision, if it wants that.
        keep_alive_s: how often a stream of Server-Sent Events is sent something when nothing happens.
        no_leader_s: a stream that needs a leader is ended when there has been none for so long.
    """

    max_stream_bytes: int = 1024 * 1024
    max_queued_bytes: int = 64 * 1024 * 1024
    max_watcher_bytes: int = 256 * 1024 * 1024
    progress_interval_s: float = 600.0
    keep_alive_s: float = 15.0
    no_leader_s: float = 3.0

    def __post_init__(self) -> None:
        for name in ("max_stream_bytes", "max_queued_bytes", "max_watcher_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be at least 1")
        for name in ("progress_interval_s", "keep_alive_s", "no_leader_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"`{name}` must be a positive number of seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The configuration of a server: a node with the key-value store, and its APIs for clients.

    Attributes:
        etcd_port: where etcd's API is served, at the host of `rest`; None: nowhere.
        compaction: what is kept of the store's history.
        lease_checkpoints: whether a new leader gives a long lease what it had left at its last checkpoint,
            and not its whole time again. The same on all members.
        watch: the bounds of watches.
        auth_token_ttl_s: how long a user's token is good, in seconds.
        tls: of the port for clients; None: it speaks without TLS.
        peer_tls: of the connections between members; None: they speak without TLS.
        insecure: whether other hosts may reach the REST API without TLS.
    """

    node: NodeConfig
    rest: RestConfig = field(default_factory=RestConfig)
    etcd_port: int | None = None
    compaction: CompactionConfig = field(default_factory=CompactionConfig)
    lease_checkpoints: bool = False
    watch: WatchConfig = field(default_factory=WatchConfig)
    auth_token_ttl_s: int = DEFAULT_AUTH_TOKEN_TTL_S
    tls: ClientTls | None = None
    peer_tls: PeerTls | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.auth_token_ttl_s < 1:
            raise ConfigError("`auth_token_ttl_s` must be at least 1")
        largest = self.node.max_command_bytes - MAX_COMMAND_OVERHEAD_BYTES
        if self.rest.max_value_bytes > largest:
            raise ConfigError(f"`max_value_bytes` must be at most {largest}")
        peers = self.node.listen or self.node.members[self.node.node_id]
        if self.rest.port == peers.port and may_be_same_host(self.rest.host, peers.host):
            raise ConfigError(
                f"`port` {self.rest.port} is the port for peers too; choose another for clients"
            )
        if self.etcd_port is not None:
            if not 0 <= self.etcd_port <= 65535:
                raise ConfigError(f"`etcd_port` {self.etcd_port} is not a TCP port; use 0 to 65535")
            if self.etcd_port and self.etcd_port in (self.rest.port, peers.port):
                raise ConfigError(
                    f"`etcd_port` {self.etcd_port} is in use for another purpose; choose another"
                )
        if self.peer_tls is None and any(address.is_tls for address in self.node.members.values()):
            raise ConfigError(
                "`members` has a URL with https://, and there is no certificate for peers; name it with"
                " `peer_cert_file`, `peer_key_file` and `peer_trusted_ca_file`, or write http://"
            )
        if self.is_open and not self.insecure:
            raise ConfigError(
                f"`host` {self.rest.host} can be reached from other hosts, and without TLS these can read and"
                " change all keys; give a certificate with `cert_file` and `key_file`, or set `insecure`"
                " if only trusted hosts can reach it"
            )

    @property
    def of_etcd(self) -> RestConfig | None:
        """The configuration of what serves etcd's API; None if nothing does."""
        if self.etcd_port is None:
            return None
        return replace(self.rest, port=self.etcd_port, listen_metrics=None)

    @property
    def min_lease_ttl_s(self) -> int:
        """The least time that a lease is granted for, as in etcd: one and a half election timeouts.

        A lease of less could expire in each election.
        """
        return math.ceil(round(3 * self.node.election_ticks // 2 * self.node.tick_interval_s, 6))

    @property
    def is_open(self) -> bool:
        """Whether other hosts may reach the REST API without TLS."""
        return self.tls is None and not is_loopback(self.rest.host)

    def client_url(self, port: int) -> str:
        """The URL at which clients reach a REST API that listens at `port`, as the configuration tells it.

        If the API listens at all addresses, the host is the one at which this node's peers reach it. If that
        is no address to dial either, the members are all on this machine, and so is the URL.
        """
        if self.rest.advertise is not None:
            return self.rest.advertise.url
        return self._url(port, (self.rest.host, self.node.members[self.node.node_id].host))

    def etcd_url(self, port: int) -> str:
        """The same for etcd's API; a host that the REST API advertises is its host too."""
        advertised = () if self.rest.advertise is None else (self.rest.advertise.host,)
        return self._url(port, (*advertised, self.rest.host, self.node.members[self.node.node_id].host))

    def _url(self, port: int, hosts: tuple[str, ...]) -> str:
        host = next(host for host in (*hosts, DEFAULT_HOST) if not is_wildcard(host))
        return ClientAddress(host, port, is_tls=self.tls is not None).url
