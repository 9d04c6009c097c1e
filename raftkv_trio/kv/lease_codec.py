"""Commands about leases as bytes, which logs hold: version 4 of the command (`codec.py`), in CBOR.

    [4, body]
    body: [1, id, ttl in seconds, quota or null] grant | [2, id] revoke | [3, [id ...]] renew
        | [4, term, [[id, renewal] ...]] expire | [5, term, [[id, renewal, remaining seconds] ...]] checkpoint

As of all versions, each field has exactly the type that is written above.
"""

from typing import Any

import cbor2

from raftkv_trio import strict_cbor
from raftkv_trio.errors import DecodeError
from raftkv_trio.kv.checks import InvalidTxn
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

_MAX_INT = 2**63 - 1
_MAX_DEPTH = 4  # a command, its body, its leases, one of them
_MAX_ITEMS = 8 + 4 * MAX_LEASES


def is_version_4(command: bytes) -> bool:
    """Whether these bytes begin as a command of version 4."""
    return command[1:2] == b"\4" and 0x81 <= command[0] <= 0x97


def encode_lease_command(command: LeaseCommand) -> bytes:
    """The bytes of a command about leases; raises InvalidTxn if no store would run it."""
    body: list[Any]
    match command:
        case GrantLease():
            body = [1, *command]
        case RevokeLease():
            body = [2, *command]
        case RenewLeases(ids):
            body = [3, list(ids)]
        case ExpireLeases(term, leases):
            body = [4, term, list(map(list, leases))]
        case CheckpointLeases(term, checkpoints):
            body = [5, term, list(map(list, checkpoints))]
    _command_of(body)
    return cbor2.dumps([4, body])


def decode_lease_command(command: bytes) -> LeaseCommand:
    """Decode a command of version 4; raises InvalidTxn."""
    try:
        value = strict_cbor.decode(command, max_depth=_MAX_DEPTH, max_items=_MAX_ITEMS)
    except DecodeError as error:
        raise InvalidTxn("a command is not valid CBOR") from error
    match value:
        case [4, [int(), *_] as body]:
            return _command_of(body)
    raise InvalidTxn("a command about leases does not have the form of one")


def _command_of(body: list[Any]) -> LeaseCommand:
    if type(body[0]) is int:
        match body:
            case [1, lease_id, ttl_s, quota_bytes]:
                quota_bytes = None if quota_bytes is None else _number(quota_bytes)
                return GrantLease(_id(lease_id), _seconds(ttl_s), quota_bytes)
            case [2, lease_id]:
                return RevokeLease(_id(lease_id))
            case [3, [*ids]]:
                return RenewLeases(_bounded(tuple(map(_id, ids))))
            case [4, term, [*leases]]:
                return ExpireLeases(_number(term), _bounded(tuple(map(_renewed, leases))))
            case [5, term, [*leases]]:
                return CheckpointLeases(_number(term), _bounded(tuple(map(_checkpointed, leases))))
    raise InvalidTxn("a command about leases does not have the form of one")


def _renewed(value: Any) -> RenewedLease:
    match value:
        case [lease_id, renewal]:
            return RenewedLease(_id(lease_id), _number(renewal))
    raise InvalidTxn("a command names a lease in another form")


def _checkpointed(value: Any) -> CheckpointedLease:
    match value:
        case [lease_id, renewal, remaining_s]:
            return CheckpointedLease(_id(lease_id), _number(renewal), _seconds(remaining_s))
    raise InvalidTxn("a command names a lease in another form")


def _bounded(leases: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(leases) > MAX_LEASES:
        raise InvalidTxn(f"a command names more than {MAX_LEASES} leases")
    return leases


def _id(value: Any) -> int:
    if _number(value) == 0:
        raise InvalidTxn("the id of a lease is not 0")
    return int(value)


def _seconds(value: Any) -> int:
    if not 1 <= _number(value) <= MAX_TTL_S:
        raise InvalidTxn(f"a lease lives for 1 to {MAX_TTL_S} seconds")
    return int(value)


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise InvalidTxn("a field of a command is not an integer from 0 to 2**63-1")
    return value
