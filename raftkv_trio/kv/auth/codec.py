"""Commands with an actor, and commands about users, roles and permissions: version 5 of the command, in CBOR.

    [5, actor, reads, body]
    actor: [user, auth revision] or null
    reads: [[key, range end or null] ...], what the actor must be allowed to read beside what the body reads
    body: the bytes of a command of versions 1 to 4, or a list about users, roles and permissions:
        [1] enable | [2] disable | [3, user, password or null] add user | [4, user] delete user
        | [5, user, password] change password | [6, user, role] grant role | [7, user, role] revoke role
        | [8, role] add role | [9, role] delete role | [10, role, access, key, range end or null] grant
        permission | [11, role, key, range end or null] revoke permission | [12, auth revision] reset

Users and roles are texts, passwords and keys are bytes. As of all versions, each field has exactly the type
that is written above. A command of a version after 5 never stands in one of version 5.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import cbor2

from raftkv_trio import strict_cbor
from raftkv_trio.errors import DecodeError
from raftkv_trio.kv.auth.commands import (
    MAX_NAME_BYTES,
    MAX_PASSWORD_BYTES,
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
from raftkv_trio.kv.checks import MAX_PARTS, InvalidTxn

_MAX_INT = 2**63 - 1
_MAX_DEPTH = 3  # a command, its ranges, one of them
_MAX_ITEMS = 32 + 3 * MAX_PARTS
_FORM = "a command about users and roles, or of an actor, does not have the form of one"
_ACCESSES = {int(access): access for access in Access}


class Envelope(NamedTuple):
    """What a command of version 5 consists of.

    Attributes:
        reads: see the module.
        body: the bytes of a command of an older version, or a command about users and roles.
    """

    actor: Actor | None
    reads: tuple[KeyRange, ...]
    body: bytes | AuthCommand


def is_version_5(command: bytes) -> bool:
    """Whether these bytes begin as a command of version 5."""
    return command[1:2] == b"\5" and 0x81 <= command[0] <= 0x97


def encode_envelope(actor: Actor | None, body: bytes | AuthCommand, reads: Iterable[KeyRange] = ()) -> bytes:
    """The bytes of a command of version 5; raises InvalidTxn if no store would run it."""
    if isinstance(body, bytes):
        packed_reads = list(map(list, reads))
        _check_body(body)
        _ranges(packed_reads)
        begin = b"\x84\5" + _packed_actor(actor) + cbor2.dumps(packed_reads)
        return begin + _head_of_bytes(len(body)) + body
    packed = [5, None if actor is None else list(actor), [], _pack(body)]
    _envelope(packed)
    return cbor2.dumps(packed)


@lru_cache(maxsize=256)
def _packed_actor(actor: Actor | None) -> bytes:
    packed = None if actor is None else list(actor)
    _actor(packed)
    return cbor2.dumps(packed)


def _head_of_bytes(length: int) -> bytes:
    """What stands before so many bytes in CBOR: the encoder would copy them."""
    if length < 24:
        return bytes([0x40 + length])
    width = 1 if length < 2**8 else 2 if length < 2**16 else 4
    return bytes([{1: 0x58, 2: 0x59, 4: 0x5A}[width]]) + length.to_bytes(width, "big")


def decode_envelope(command: bytes) -> Envelope:
    """Decode a command of version 5; raises InvalidTxn."""
    try:
        value = strict_cbor.decode(command, max_depth=_MAX_DEPTH, max_items=_MAX_ITEMS)
    except DecodeError as error:
        raise InvalidTxn("a command is not valid CBOR") from error
    return _envelope(value)


def _envelope(value: object) -> Envelope:
    # A start decodes the whole log, so this is done without patterns, which take four times as long.
    if type(value) is not list or len(value) != 4 or type(value[2]) is not list:
        raise InvalidTxn(_FORM)
    _, actor, reads, body = value
    if type(body) is bytes:
        _check_body(body)
        return Envelope(_actor(actor), _ranges(reads) if reads else (), body)
    if type(body) is not list or not body or reads:
        raise InvalidTxn(_FORM)
    return Envelope(_actor(actor), (), _auth_command(body))


def _check_body(body: bytes) -> None:
    if not (len(body) >= 2 and 0x81 <= body[0] <= 0x97 and 1 <= body[1] <= 4):
        raise InvalidTxn("a command of an actor is of no version from 1 to 4")


def _actor(value: object) -> Actor | None:
    if value is None:
        return None
    if type(value) is not list or len(value) != 2:
        raise InvalidTxn(_FORM)
    name, revision = value
    return Actor(_name(name), _number(revision))


def _ranges(values: list[Any]) -> tuple[KeyRange, ...]:
    if len(values) > MAX_PARTS:
        raise InvalidTxn(f"a command reads more than {MAX_PARTS} ranges")
    return tuple(map(_range, values))


def _range(value: object) -> KeyRange:
    match value:
        case [key, range_end]:
            return _bytes(key), _optional_bytes(range_end)
    raise InvalidTxn(_FORM)


# ------------------------------------------------------------ users, roles and permissions


def _pack(command: AuthCommand) -> list[Any]:
    match command:
        case EnableAuth():
            return [1]
        case DisableAuth():
            return [2]
        case AddUser():
            return [3, *command]
        case DeleteUser():
            return [4, *command]
        case ChangePassword():
            return [5, *command]
        case GrantRole():
            return [6, *command]
        case RevokeRole():
            return [7, *command]
        case AddRole():
            return [8, *command]
        case DeleteRole():
            return [9, *command]
        case GrantPermission(role, (access, key, range_end)):
            return [10, role, int(access), key, range_end]
        case RevokePermission():
            return [11, *command]
        case ResetAuth():
            return [12, *command]
    raise TypeError(f"{command!r} is no command about users, roles and permissions")


def _auth_command(body: list[Any]) -> AuthCommand:
    if type(body[0]) is not int:
        raise InvalidTxn(_FORM)
    match body:
        case [1]:
            return EnableAuth()
        case [2]:
            return DisableAuth()
        case [3, name, password]:
            return AddUser(_name(name), None if password is None else _password(password))
        case [4, name]:
            return DeleteUser(_name(name))
        case [5, name, password]:
            return ChangePassword(_name(name), _password(password))
        case [6, user, role]:
            return GrantRole(_name(user), _name(role))
        case [7, user, role]:
            return RevokeRole(_name(user), _name(role))
        case [8, name]:
            return AddRole(_name(name))
        case [9, name]:
            return DeleteRole(_name(name))
        case [10, role, access, key, range_end]:
            return GrantPermission(_name(role), _permission(access, key, range_end))
        case [11, role, key, range_end]:
            return RevokePermission(_name(role), _bytes(key), _optional_bytes(range_end))
        case [12, revision]:
            return ResetAuth(_number(revision))
    raise InvalidTxn(_FORM)


def _permission(access: object, key: object, range_end: object) -> Permission:
    if type(access) is not int or access not in _ACCESSES:
        raise InvalidTxn("a permission is neither to read, to write, nor both")
    return Permission(_ACCESSES[access], _bytes(key), _optional_bytes(range_end))


# ------------------------------------------------------------ fields


def _name(value: object) -> str:
    if type(value) is not str:
        raise InvalidTxn("the name of a user or role is not text")
    try:
        length = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidTxn("the name of a user or role is not text") from error
    if length > MAX_NAME_BYTES:
        raise InvalidTxn(f"the name of a user or role has more than {MAX_NAME_BYTES} bytes")
    return value


def _password(value: object) -> bytes:
    if not 1 <= len(_bytes(value)) <= MAX_PASSWORD_BYTES:
        raise InvalidTxn(f"the record of a password has 1 to {MAX_PASSWORD_BYTES} bytes")
    return _bytes(value)


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise InvalidTxn("a field of a command is not bytes")
    return value


def _optional_bytes(value: object) -> bytes | None:
    return None if value is None else _bytes(value)


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise InvalidTxn("a field of a command is not an integer from 0 to 2**63-1")
    return value
