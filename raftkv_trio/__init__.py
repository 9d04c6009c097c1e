"""raftkv-trio: a replicated key-value node, and a replicated state machine inside any Trio program.

A program that replicates its own state machine needs `run_node`, a `NodeConfig` and a `StateMachine`. A
program that reads and writes the keys of a running cluster, or of etcd, needs a `Client`.

What is public: the names in `__all__` of `raftkv_trio`, `raftkv_trio.kv` (the key-value store and its
transactions), `raftkv_trio.raft` (the consensus core alone) and `raftkv_trio.testing` (simulated clusters for
tests of a state machine), and the attributes of these that do not begin with an underscore. All other modules
and names are internal: they may change or go in any release. Import public names from these four packages,
not from the modules that define them.

The names of this package are imported when they are first used, so that the command line can answer
`--version` without loading Trio and the node.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from raftkv_trio._version import __version__

if TYPE_CHECKING:
    from raftkv_trio.addresses import PeerAddress, parse_cluster
    from raftkv_trio.client.etcd.auth import AuthStatus, Users
    from raftkv_trio.client.etcd.client import Client
    from raftkv_trio.client.etcd.leases import Lease, LeaseLost
    from raftkv_trio.client.etcd.locks import Election, Leaders, Leadership, Lock
    from raftkv_trio.client.etcd.outcomes import (
        CallRefused,
        NotAuthenticated,
        PermissionDenied,
        WatchCompacted,
    )
    from raftkv_trio.client.etcd.pages import KeyValues
    from raftkv_trio.client.etcd.replies import (
        DeleteReply,
        EndpointStatus,
        LeaseStatus,
        Member,
        PutReply,
        RangeReply,
        TxnReply,
    )
    from raftkv_trio.client.etcd.watch import Watch, WatchEvent
    from raftkv_trio.config import NodeConfig, PeerTls
    from raftkv_trio.errors import (
        ChangeRefused,
        CommandRefused,
        ConfigError,
        CorruptLog,
        DecodeError,
        DirectoryRefused,
        DiskFull,
        MalformedRequest,
        NodeRemoved,
        NoLeader,
        NoSuchMember,
        OutcomeUnknown,
        Overloaded,
        PeerProtocolError,
        ProposalError,
        RaftError,
        RaftKVError,
        RemovedFromCluster,
        RequestIdReused,
        SecondProcessRefused,
        SlowRequest,
        SnapshotNotTaken,
        StorageError,
        StoreFull,
        TooLarge,
        TransferFailed,
        UpgradeNeeded,
        leaves,
    )
    from raftkv_trio.node.measures import Durations, NodeMeasures, PeerMeasures
    from raftkv_trio.node.node import Node, run_node
    from raftkv_trio.node.open_snapshot import OpenSnapshot
    from raftkv_trio.node.proposals import Applied, Proposal
    from raftkv_trio.node.status import MemberStatus, NodeStatus
    from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
    from raftkv_trio.state_machine import (
        CommandCheckingStateMachine,
        Committed,
        LevelledStateMachine,
        RefusedResult,
        StateMachine,
        VerifyingStateMachine,
    )
    from raftkv_trio.storage import Disk, DiskFile, OsDisk, SnapshotId, SnapshotMeta
    from raftkv_trio.tls.clients import Trust
    from raftkv_trio.tls.network import open_tls_network
    from raftkv_trio.world import (
        Clock,
        Listener,
        Network,
        TcpNetwork,
        ThreadWorker,
        TrioClock,
        Worker,
        World,
    )
else:
    _NAMES_OF = {
        "addresses": ("PeerAddress", "parse_cluster"),
        "client.etcd.auth": ("AuthStatus", "Users"),
        "client.etcd.client": ("Client",),
        "client.etcd.outcomes": (
            "CallRefused",
            "NotAuthenticated",
            "PermissionDenied",
            "WatchCompacted",
        ),
        "client.etcd.pages": ("KeyValues",),
        "client.etcd.replies": (
            "DeleteReply",
            "EndpointStatus",
            "LeaseStatus",
            "Member",
            "PutReply",
            "RangeReply",
            "TxnReply",
        ),
        "client.etcd.watch": (
            "Watch",
            "WatchEvent",
        ),
        "client.etcd.leases": (
            "Lease",
            "LeaseLost",
        ),
        "client.etcd.locks": (
            "Election",
            "Leaders",
            "Leadership",
            "Lock",
        ),
        "config": ("NodeConfig", "PeerTls"),
        "errors": (
            "ChangeRefused",
            "CommandRefused",
            "ConfigError",
            "CorruptLog",
            "DecodeError",
            "DirectoryRefused",
            "DiskFull",
            "MalformedRequest",
            "NoLeader",
            "NoSuchMember",
            "NodeRemoved",
            "OutcomeUnknown",
            "Overloaded",
            "PeerProtocolError",
            "ProposalError",
            "RaftError",
            "RaftKVError",
            "RemovedFromCluster",
            "SecondProcessRefused",
            "SlowRequest",
            "SnapshotNotTaken",
            "StorageError",
            "RequestIdReused",
            "StoreFull",
            "TooLarge",
            "TransferFailed",
            "UpgradeNeeded",
            "leaves",
        ),
        "node.measures": ("Durations", "NodeMeasures", "PeerMeasures"),
        "node.node": ("Node", "run_node"),
        "node.open_snapshot": ("OpenSnapshot",),
        "node.proposals": ("Applied", "Proposal"),
        "node.status": ("MemberStatus", "NodeStatus"),
        "payload.membership": ("Action", "ChangeRequest", "MemberChange"),
        "state_machine": (
            "CommandCheckingStateMachine",
            "Committed",
            "LevelledStateMachine",
            "RefusedResult",
            "StateMachine",
            "VerifyingStateMachine",
        ),
        "storage": ("Disk", "DiskFile", "OsDisk", "SnapshotId", "SnapshotMeta"),
        "tls.clients": ("Trust",),
        "tls.network": ("open_tls_network",),
        "world": (
            "Clock",
            "Listener",
            "Network",
            "TcpNetwork",
            "ThreadWorker",
            "TrioClock",
            "Worker",
            "World",
        ),
    }
    _HOME_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

    # Type checkers must not see this function: they would accept any name of the package.
    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Action",
    "Applied",
    "AuthStatus",
    "CallRefused",
    "ChangeRefused",
    "ChangeRequest",
    "Client",
    "Clock",
    "CommandCheckingStateMachine",
    "CommandRefused",
    "Committed",
    "ConfigError",
    "CorruptLog",
    "DecodeError",
    "DeleteReply",
    "DirectoryRefused",
    "Disk",
    "DiskFile",
    "DiskFull",
    "Durations",
    "Election",
    "EndpointStatus",
    "KeyValues",
    "Leaders",
    "Leadership",
    "Lease",
    "LeaseLost",
    "LeaseStatus",
    "LevelledStateMachine",
    "Listener",
    "Lock",
    "MalformedRequest",
    "Member",
    "MemberChange",
    "MemberStatus",
    "Network",
    "NoLeader",
    "NoSuchMember",
    "Node",
    "NodeConfig",
    "NodeMeasures",
    "NodeRemoved",
    "NodeStatus",
    "NotAuthenticated",
    "OpenSnapshot",
    "OsDisk",
    "OutcomeUnknown",
    "Overloaded",
    "PeerAddress",
    "PeerMeasures",
    "PeerProtocolError",
    "PeerTls",
    "PermissionDenied",
    "Proposal",
    "ProposalError",
    "PutReply",
    "RaftError",
    "RaftKVError",
    "RangeReply",
    "RefusedResult",
    "RemovedFromCluster",
    "RequestIdReused",
    "SecondProcessRefused",
    "SlowRequest",
    "SnapshotId",
    "SnapshotMeta",
    "SnapshotNotTaken",
    "StateMachine",
    "StorageError",
    "StoreFull",
    "TcpNetwork",
    "ThreadWorker",
    "TooLarge",
    "TransferFailed",
    "TrioClock",
    "Trust",
    "TxnReply",
    "UpgradeNeeded",
    "Users",
    "VerifyingStateMachine",
    "Watch",
    "WatchCompacted",
    "WatchEvent",
    "Worker",
    "World",
    "__version__",
    "leaves",
    "open_tls_network",
    "parse_cluster",
    "run_node",
]
