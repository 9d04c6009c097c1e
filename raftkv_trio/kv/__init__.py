"""The key-value store, and the transactions (txns) that change it: pure and deterministic, after etcd v3.

A `Store` is a `StateMachine`: `run_node` replicates it, and it runs without a node just as well. Its only
command is the `Txn`: if all compares hold, run one list of operations, else the other, at one revision.

>>> from raftkv_trio import Committed
>>> from raftkv_trio.kv import *
>>> store = Store()
>>> create = Txn(
...     compares=(Compare.absent(b"color"),),
...     success=(Put(b"color", b"red"),),
...     failure=(Get(b"color"),),
... )

A log holds a txn as bytes, its command. The log index is the node's matter; the store counts revisions.

>>> [first] = store.apply([Committed(term=1, index=2, command=encode_txn(create))])
>>> first.succeeded, first.revision
(True, 2)

The same command a second time finds the key, so it runs the other list:

>>> [second] = store.apply([Committed(term=1, index=3, command=encode_txn(create))])
>>> second.succeeded, second.results[0].key_values[0].value
(False, b'red')

Reads show what is applied so far:

>>> store.get(b"color").mod_revision
2
>>> [record.key for record in store.range(b"c", prefix_end(b"c"))]
[b'color']

A command that is not a valid txn changes nothing, on any node, and has a result all the same:

>>> store.apply([Committed(term=1, index=4, command=b"?")])
[Rejected(reason='a command is not valid CBOR')]

Two stores with the same state have the same hash, and a snapshot restores a state exactly:

>>> copy = Store()
>>> copy.restore(store.snapshot())
>>> copy.state_hash == store.state_hash
True
"""

from raftkv_trio.kv.auth.auth import ALL_KEYS, Auth, Role, User
from raftkv_trio.kv.auth.commands import (
    MAX_NAME_BYTES,
    MAX_PASSWORD_BYTES,
    ROOT,
    SERVER,
    Access,
    Actor,
    AddRole,
    AddUser,
    AuthCommand,
    ChangePassword,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    GrantPermission,
    GrantRole,
    KeyRange,
    Permission,
    ResetAuth,
    RevokePermission,
    RevokeRole,
)
from raftkv_trio.kv.checks import MAX_NESTING, MAX_OPERATIONS, MAX_PARTS, Fault, InvalidTxn, check_txn
from raftkv_trio.kv.codec import MAX_REQUEST_ID_BYTES, decode_command, encode_command, encode_txn
from raftkv_trio.kv.lease_commands import (
    MAX_LEASES,
    MAX_TTL_S,
    CheckpointedLease,
    CheckpointLeases,
    ExpireLeases,
    GrantLease,
    LeaseCommand,
    RenewedLease,
    RenewLeases,
    RevokeLease,
)
from raftkv_trio.kv.leases import LEASE_BYTES, Lease, Leases
from raftkv_trio.kv.levels import AUTH_LEVEL, HISTORY_LEVEL, LEASES_LEVEL
from raftkv_trio.kv.record import KeyValue
from raftkv_trio.kv.results import (
    AuthChanged,
    AuthFailed,
    CommandFailed,
    CompactedRevision,
    CompactResult,
    DeleteResult,
    Failed,
    Failure,
    FutureRevision,
    GetResult,
    KeyNotFound,
    LeaseExists,
    LeaseGranted,
    LeaseNotFound,
    LeaseResult,
    LeaseRevoked,
    LeasesCheckpointed,
    LeasesExpired,
    LeasesRenewed,
    OperationResult,
    OverQuota,
    PutResult,
    QuotaExceeded,
    Rejected,
    RequestReused,
    Result,
    ResultForgotten,
    TxnResult,
)
from raftkv_trio.kv.store import Observer, Store
from raftkv_trio.kv.txn import (
    TO_THE_LAST,
    Compact,
    Compare,
    Delete,
    Get,
    Operation,
    Put,
    Relation,
    Target,
    Txn,
    is_read_only,
    prefix_end,
)

__all__ = [
    "ALL_KEYS",
    "AUTH_LEVEL",
    "HISTORY_LEVEL",
    "LEASES_LEVEL",
    "LEASE_BYTES",
    "MAX_LEASES",
    "MAX_NAME_BYTES",
    "MAX_NESTING",
    "MAX_OPERATIONS",
    "MAX_PARTS",
    "MAX_PASSWORD_BYTES",
    "MAX_REQUEST_ID_BYTES",
    "MAX_TTL_S",
    "ROOT",
    "SERVER",
    "TO_THE_LAST",
    "Access",
    "Actor",
    "AddRole",
    "AddUser",
    "Auth",
    "AuthChanged",
    "AuthCommand",
    "AuthFailed",
    "ChangePassword",
    "CheckpointLeases",
    "CheckpointedLease",
    "CommandFailed",
    "Compact",
    "CompactResult",
    "CompactedRevision",
    "Compare",
    "Delete",
    "DeleteResult",
    "DeleteRole",
    "DeleteUser",
    "DisableAuth",
    "EnableAuth",
    "ExpireLeases",
    "Failed",
    "Failure",
    "Fault",
    "FutureRevision",
    "Get",
    "GetResult",
    "GrantLease",
    "GrantPermission",
    "GrantRole",
    "InvalidTxn",
    "KeyNotFound",
    "KeyRange",
    "KeyValue",
    "Lease",
    "LeaseCommand",
    "LeaseExists",
    "LeaseGranted",
    "LeaseNotFound",
    "LeaseResult",
    "LeaseRevoked",
    "Leases",
    "LeasesCheckpointed",
    "LeasesExpired",
    "LeasesRenewed",
    "Observer",
    "Operation",
    "OperationResult",
    "OverQuota",
    "Permission",
    "Put",
    "PutResult",
    "QuotaExceeded",
    "Rejected",
    "Relation",
    "RenewLeases",
    "RenewedLease",
    "RequestReused",
    "ResetAuth",
    "Result",
    "ResultForgotten",
    "RevokeLease",
    "RevokePermission",
    "RevokeRole",
    "Role",
    "Store",
    "Target",
    "Txn",
    "TxnResult",
    "User",
    "check_txn",
    "decode_command",
    "encode_command",
    "encode_txn",
    "is_read_only",
    "prefix_end",
]
