"""The store's commands as bytes: one kind, a txn of compares and two lists of operations (etcd's Txn)."""

from typing import Any, NamedTuple

import cbor2

_VERSION = 1
MAX_DEPTH = 6


class Compare(NamedTuple):
    """Holds where the key's `field` is in the relation `op` to `value`.

    `field` is version, create or mod (integers; 0 for an absent key) or value (bytes; an absent key has none,
    and then no relation holds). `op` is one of = ! > <.
    """

    key: bytes
    field: str
    op: str
    value: int | bytes


class Put(NamedTuple):
    """Set a key."""

    key: bytes
    value: bytes


class Delete(NamedTuple):
    """Remove a key, or with `end` all keys from `key` up to and without `end`."""

    key: bytes
    end: bytes | None = None


Operation = Put | Delete


class Txn(NamedTuple):
    """If all `compares` hold, `success`, else `failure`; all of it at one revision."""

    compares: tuple[Compare, ...] = ()
    success: tuple[Operation, ...] = ()
    failure: tuple[Operation, ...] = ()


class MalformedCommand(ValueError):
    """Bytes that are no command; the same on every node, so a result and no error of the machine."""


def encode_txn(txn: Txn) -> bytes:
    return cbor2.dumps([_VERSION, [list(c) for c in txn.compares], *map(_pack, (txn.success, txn.failure))])


def _pack(operations: tuple[Operation, ...]) -> list[list[object]]:
    return [["p", *o] if isinstance(o, Put) else ["d", *o] for o in operations]


def decode_txn(data: bytes) -> Txn:
    """What `encode_txn` made; raises MalformedCommand for anything else."""
    try:
        version, compares, success, failure = cbor2.loads(data, max_depth=MAX_DEPTH)
        if version != _VERSION:
            raise MalformedCommand(f"command version {version}")
        return Txn(tuple(_compare(*c) for c in compares), _unpack(success), _unpack(failure))
    except MalformedCommand:
        raise
    except Exception as error:  # whatever a decoder may raise: on every node the same
        raise MalformedCommand(f"not a command: {type(error).__name__}") from error


def _compare(key: Any, field: Any, op: Any, value: Any) -> Compare:
    kind = bytes if field == "value" else int
    if field not in ("version", "create", "mod", "value") or op not in ("=", "!", ">", "<"):
        raise MalformedCommand("unknown compare")
    if type(key) is not bytes or type(value) is not kind:
        raise MalformedCommand("a compare's key or value has the wrong type")
    return Compare(key, field, op, value)


def _unpack(operations: Any) -> tuple[Operation, ...]:
    return tuple(_operation(*o) for o in operations)


def _operation(kind: Any, key: Any, argument: Any) -> Operation:
    if type(key) is not bytes or (type(argument) is not bytes and not (kind == "d" and argument is None)):
        raise MalformedCommand("an operation's key or argument has the wrong type")
    if kind == "p" and argument is not None:
        return Put(key, argument)
    if kind == "d":
        return Delete(key, argument)
    raise MalformedCommand("unknown operation")
