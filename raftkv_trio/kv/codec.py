"""Commands as bytes: the CBOR form of a txn. Logs hold it, so numbers and order never change.

    [1, [[key, target, relation, operand] ...], [operation ...], [operation ...]]
    [2, the same three lists, quota in bytes]
    operation: [1, key, value, lease] put | [2, key, range end] delete | [3, key, range end, limit] get

Every node must decode the same bytes to the same txn, or refuse them. So each field must have exactly the
type that is written above, whatever other types CBOR allows.

Whatever is new in a later version, be it a single operation, needs a new version number. Every version
begins with the same two bytes: a list of at most 23 items, and its first item, a number up to 23. So a
program can always tell a command of a newer version, which it must neither run nor refuse, from bytes that
are no command, which every version refuses.
"""

from enum import IntEnum
from typing import Any

import cbor2

from raftkv_trio import strict_cbor
from raftkv_trio.errors import DecodeError, UpgradeNeeded
from raftkv_trio.kv.txn import (
    MAX_OPERATIONS,
    Compare,
    Delete,
    Get,
    InvalidTxn,
    Operation,
    Put,
    Relation,
    Target,
    Txn,
    check_txn,
)

VERSION = 2
_MAX_VERSION = 23  # that fits into one byte of CBOR
_MAX_DEPTH = 3  # a command, its lists, their items
_MAX_ITEMS = 6 + 3 * MAX_OPERATIONS * 5  # the command, version, lists, quota; each of their items has four
_MAX_INT = 2**63 - 1
_TARGETS = {int(target): target for target in Target}
_RELATIONS = {int(relation): relation for relation in Relation}


class _Kind(IntEnum):
    PUT = 1
    DELETE = 2
    GET = 3


_KINDS: dict[type[Operation], int] = {Put: int(_Kind.PUT), Delete: int(_Kind.DELETE), Get: int(_Kind.GET)}


def encode_txn(txn: Txn) -> bytes:
    """The command of a txn; raises InvalidTxn if no store would run the txn."""
    check_txn(txn)
    compares = [[c.key, int(c.target), int(c.relation), c.operand] for c in txn.compares]
    lists = [compares, _pack(txn.success), _pack(txn.failure)]
    # Version 1 as long as it can say all, so that programs that know no other can run the command.
    return cbor2.dumps([1, *lists] if txn.quota_bytes is None else [2, *lists, txn.quota_bytes])


def decode_txn(command: bytes) -> Txn:
    """Decode what `encode_txn` encoded.

    Raises UpgradeNeeded for a command of a newer version, and InvalidTxn for any other bytes.
    """
    # Before anything else: a newer version may nest deeper, or have other fields.
    check_version(command)
    try:
        value = strict_cbor.decode(command, max_depth=_MAX_DEPTH, max_items=_MAX_ITEMS)
    except DecodeError as error:
        raise InvalidTxn("a command is not valid CBOR") from error
    return _single_put(value) or _any_txn(value)


def _single_put(value: object) -> Txn | None:
    """The txn if it puts one key and nothing else, as nearly all do, and `_any_txn` would accept it."""
    # A start decodes the whole log, so this decides how long that takes. What is not exactly of this form
    # takes the long way, whether it is right or wrong.
    match value:
        case [2, [], [[1, bytes(key), bytes(content), None] as put], [], quota]:
            if type(value[0]) is type(put[0]) is int and key:
                return Txn((), (Put(key, content),), (), _int(quota))
    return None


def _any_txn(value: object) -> Txn:
    match _list(value):
        case [int(version), compares, success, failure] if version == 1 and type(version) is int:
            quota_bytes = None
        case [int(version), compares, success, failure, quota] if version == 2:
            quota_bytes = _int(quota)
        case _:
            raise InvalidTxn("a command does not have the form of a txn")
    txn = Txn(
        tuple([_compare(item) for item in _list(compares)]),
        tuple([_operation(item) for item in _list(success)]),
        tuple([_operation(item) for item in _list(failure)]),
        quota_bytes,
    )
    check_txn(txn)
    return txn


def check_version(command: bytes) -> None:
    """Raise UpgradeNeeded if `command` begins as one of a newer version than ours."""
    # In CBOR a list of 1 to 23 items begins with 0x80 + length, and a number up to 23 is its own byte.
    if len(command) >= 2 and 0x81 <= command[0] <= 0x97 and VERSION < command[1] <= _MAX_VERSION:
        raise UpgradeNeeded("a command is", command[1], VERSION)


def _pack(operations: tuple[Operation, ...]) -> list[list[object]]:
    return [[_KINDS[type(operation)], *operation] for operation in operations]


def _compare(item: object) -> Compare:
    key, target, relation, operand = _list(item, 4)
    if _int(target) not in _TARGETS or _int(relation) not in _RELATIONS:
        raise InvalidTxn("a compare has an unknown target or relation")
    operand = _bytes(operand) if target == Target.VALUE else _int(operand)
    return Compare(_bytes(key), _TARGETS[target], _RELATIONS[relation], operand)


def _operation(item: object) -> Operation:
    kind, fields = _list(item)[:1], _list(item)[1:]
    match kind and _int(kind[0]), fields:
        case _Kind.PUT, [key, value, lease]:
            return Put(_bytes(key), _bytes(value), _optional_int(lease))
        case _Kind.DELETE, [key, range_end]:
            return Delete(_bytes(key), _optional_bytes(range_end))
        case _Kind.GET, [key, range_end, limit]:
            return Get(_bytes(key), _optional_bytes(range_end), _optional_int(limit))
    raise InvalidTxn("an operation is neither put, delete nor get, or has other fields")


def _list(value: object, length: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise InvalidTxn("a command does not have the form of a txn")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise InvalidTxn("a field of a command is not bytes")
    return value


def _int(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise InvalidTxn("a field of a command is not an integer from 0 to 2**63-1")
    return value


def _optional_bytes(value: object) -> bytes | None:
    return None if value is None else _bytes(value)


def _optional_int(value: object) -> int | None:
    return None if value is None else _int(value)
