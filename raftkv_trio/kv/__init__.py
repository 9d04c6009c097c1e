"""The key-value state machine and its commands: pure, deterministic, in the sense of etcd v3."""

from raftkv_trio.kv.codec import decode_txn, encode_txn
from raftkv_trio.kv.store import Store
from raftkv_trio.kv.txn import (
    TO_THE_LAST,
    Compare,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    InvalidTxn,
    KeyValue,
    Operation,
    OperationResult,
    Put,
    PutResult,
    Rejected,
    Relation,
    Target,
    Txn,
    TxnResult,
    prefix_end,
)

__all__ = [
    "TO_THE_LAST",
    "Compare",
    "Delete",
    "DeleteResult",
    "Get",
    "GetResult",
    "InvalidTxn",
    "KeyValue",
    "Operation",
    "OperationResult",
    "Put",
    "PutResult",
    "Rejected",
    "Relation",
    "Store",
    "Target",
    "Txn",
    "TxnResult",
    "decode_txn",
    "encode_txn",
    "prefix_end",
]
