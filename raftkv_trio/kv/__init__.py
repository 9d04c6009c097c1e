"""The key-value state machine and its commands."""

from raftkv_trio.kv.codec import Compare, Delete, Put, Txn, decode_txn, encode_txn
from raftkv_trio.kv.store import KeyValue, Store, TxnResult

__all__ = ["Compare", "Delete", "KeyValue", "Put", "Store", "Txn", "TxnResult", "decode_txn", "encode_txn"]
