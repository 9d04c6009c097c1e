"""`/-/metrics`: the counts and durations of node and REST app, in Prometheus' text format.

Each app has a registry of its own, so that several nodes fit into one process. Labels take their values from
small fixed sets; a key is never a label. Names are written without their prefix here: `leader_known` is
`raftkv_leader_known`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST as METRICS_CONTENT_TYPE
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from raftkv_trio.access.watching import WatchHub
from raftkv_trio.kv import Store
from raftkv_trio.logs import dropped_records
from raftkv_trio.node.measures import BOUNDS_S, Durations, NodeMeasures, PeerMeasures
from raftkv_trio.node.node import Node
from raftkv_trio.node.status import NodeStatus
from raftkv_trio.rest.counts import RequestCounts
from raftkv_trio.tls.credentials import Credentials
from raftkv_trio.tls.ends import ends_of

__all__ = ["METRICS_CONTENT_TYPE", "Metrics"]

NAME_PREFIX = "raftkv"
Labels = tuple[str, ...]


class Metrics:
    """The metrics of one node, its store and its app.

    Args:
        quota_bytes: of the store; 0: it has none.
        in_use: the certificates of this process.
        watches: of all APIs.
    """

    def __init__(
        self,
        node: Node,
        store: Store,
        quota_bytes: int,
        requests: RequestCounts,
        in_use: Sequence[Credentials],
        watches: WatchHub,
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_NodeCollector(node, store, quota_bytes, requests, in_use, watches))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All metrics with their present values."""
        return generate_latest(self._registry)


class _NodeCollector(Collector):
    def __init__(
        self,
        node: Node,
        store: Store,
        quota_bytes: int,
        requests: RequestCounts,
        in_use: Sequence[Credentials],
        watches: WatchHub,
    ) -> None:
        self._watches = watches
        self._node = node
        self._store = store
        self._quota_bytes = quota_bytes
        self._requests = requests
        self._in_use = in_use

    def collect(self) -> Iterator[Metric]:
        measures = self._node.measures()
        yield from _of_consensus(self._node.status(), measures)
        yield _gauge("store_size_bytes", "Bytes of all keys and values.", self._store.size_bytes)
        yield _gauge(
            "store_quota_bytes", "The most that these may be; 0: there is no quota.", self._quota_bytes
        )
        yield _gauge("leases", "Leases that exist.", len(self._store.leases))
        yield _counter(
            "leases_expired",
            "Leases that have expired, by the entries that this process has applied.",
            (),
            {(): self._store.expired_leases},
        )
        yield from _of_watches(self._watches)
        yield from _of_proposals(measures)
        yield from _of_peers(measures)
        yield from _of_certificates(self._in_use)
        yield _counter(
            "log_records_dropped",
            "Log records of this process that are not in its log, by reason.",
            ("reason",),
            {(reason,): count for reason, count in dropped_records().items()},
        )
        yield _counter(
            "http_requests",
            "Requests answered; route and method are none if the bytes were no request.",
            ("method", "route", "status"),
            {(m, route, str(status)): n for (m, route, status), n in sorted(self._requests.counts.items())},
        )


def _of_consensus(status: NodeStatus, measures: NodeMeasures) -> Iterator[Metric]:
    yield _gauge("leader_known", "Whether this node knows a leader.", status.leader_id is not None)
    yield _gauge("leading", "Whether this node leads.", status.role == "leader")
    yield _counter(
        "leader_changes", "How often this node learnt of a new leader.", (), {(): measures.leader_changes}
    )
    yield _gauge("term", "The current term.", status.term)
    yield _gauge("commit_index", "The last index known to be committed.", status.commit_index)
    yield _gauge("applied_index", "The last index applied to the store.", status.applied_index)
    yield _gauge("feature_level", "The feature level of the cluster.", status.feature_level)
    yield _gauge(
        "highest_feature_level", "The highest one that this program knows.", status.highest_feature_level
    )
    yield _histogram(
        "log_write_duration_seconds",
        "From handing a batch to the disk until it is durable.",
        (),
        {(): measures.log_writes},
    )
    yield _histogram(
        "apply_duration_seconds",
        "Applying a slice of committed entries to the store.",
        (),
        {(): measures.applies},
    )


def _of_watches(watches: WatchHub) -> Iterator[Metric]:
    load = watches.load
    yield _gauge("watch_streams", "Streams of watches of this node's clients.", load.streams)
    yield _gauge("watchers", "Watches of this node's clients.", load.watchers)
    yield _gauge("slow_watchers", "Those that read from the history at present.", watches.unsynced)
    yield _gauge("watch_queued_bytes", "Bytes of events that wait for clients.", load.queued_bytes)
    yield _counter("watch_events", "Events that watches were told.", (), {(): load.events})


def _of_proposals(measures: NodeMeasures) -> Iterator[Metric]:
    outcomes: dict[Labels, int] = {(outcome,): count for outcome, count in measures.proposals.items()}
    yield _counter("proposals", "Writes of this node's clients, by outcome.", ("outcome",), outcomes)
    yield _gauge("proposals_pending", "Writes that wait for their outcome.", measures.pending_proposals)
    yield _gauge("proposals_pending_bytes", "Bytes of the writes that wait.", measures.pending_bytes)


def _of_peers(measures: NodeMeasures) -> Iterator[Metric]:
    peers: dict[Labels, PeerMeasures] = {(str(peer_id),): peer for peer_id, peer in measures.peers.items()}
    sent = {label: peer.sent_bytes for label, peer in peers.items()}
    dropped_bytes = {label: peer.dropped_bytes for label, peer in peers.items()}
    dropped_messages = {label: peer.dropped_messages for label, peer in peers.items()}
    yield _counter("peer_sent_bytes", "Bytes sent to a peer.", ("peer",), sent)
    yield _counter("peer_dropped_bytes", "Bytes for a peer, dropped unsent.", ("peer",), dropped_bytes)
    yield _counter(
        "peer_dropped_messages", "Messages for a peer, dropped unsent.", ("peer",), dropped_messages
    )
    yield _counter(
        "peer_refusals",
        "What was refused of other nodes: connections (handshake, protocol) and messages, by reason.",
        ("reason",),
        {(reason,): count for reason, count in measures.refusals.items()},
    )
    yield _histogram(
        "peer_append_round_trip_seconds",
        "On a leader: from sending entries to a peer until the peer reports them durable.",
        ("peer",),
        {label: peer.round_trips for label, peer in peers.items()},
    )


def _of_certificates(in_use: Sequence[Credentials]) -> Iterator[Metric]:
    ends = GaugeMetricFamily(
        f"{NAME_PREFIX}_certificate_end_timestamp_seconds",
        "When the certificate that ends first ends, by the setting that names its file.",
        labels=("file",),
    )
    for field, seconds in ends_of(in_use).items():
        ends.add_metric((field,), seconds)
    yield ends
    reloads: dict[Labels, int] = {}
    for credentials in in_use:
        field = credentials.contexts.lives[0].field
        reloads[field, "taken"] = credentials.reloads
        reloads[field, "refused"] = credentials.failed_reloads
    yield _counter(
        "certificate_reloads",
        "How often new files of certificates were taken, or refused, by the setting of their certificate.",
        ("file", "outcome"),
        reloads,
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{NAME_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, labels: Labels, counts: Mapping[Labels, int]) -> Metric:
    family = CounterMetricFamily(f"{NAME_PREFIX}_{name}", text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _histogram(name: str, text: str, labels: Labels, durations: Mapping[Labels, Durations]) -> Metric:
    family = HistogramMetricFamily(f"{NAME_PREFIX}_{name}", text, labels=labels)
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    for values, taken in durations.items():
        family.add_metric(values, list(zip(bounds, accumulate(taken.counts), strict=True)), taken.total_s)
    return family
