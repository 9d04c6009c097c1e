"""Commands as bytes: the CBOR form of a txn or a compaction. Logs hold it, so numbers and order never change.

Commands of version 4 are about leases: see `lease_codec.py`. Those of version 5 are about users and roles, or
name on whose behalf one of an older version is run: see `auth/codec.py`.

    [1, [[key, target, relation, operand] ...], [operation ...], [operation ...]]
    [2, the same three lists, quota in bytes]
    operation: [1, key, value, lease] put | [2, key, range end] delete | [3, key, range end, limit] get

    [3, request, body]
    request: [id, fingerprint, remembers previous] or null (`request_window.py`)
    body: [1, compares, operations, operations, quota or null] txn | [2, revision] compaction
    compare: [key, target, relation, operand, range end]
    operation: [1, key, value, lease, keeps value, keeps lease] put | [2, key, range end] delete
        | [3, key, range end, limit, revision] get | [4, compares, operations, operations] inner txn

Every node must decode the same bytes to the same command, or refuse them. So each field must have exactly the
type that is written above, whatever other types CBOR allows.

Whatever is new in a later version, be it a single operation, needs a new version number. Every version
begins with the same two bytes: a list of at most 23 items, and its first item, a number up to 23. So a
program can always tell a command of a newer version, which it must neither run nor refuse, from bytes that
are no command, which every version refuses.
"""

from collections.abc import Iterable
from enum import IntEnum
from hashlib import blake2b
from operator import itemgetter
from typing import Any, NamedTuple

import cbor2

from raftkv_trio import strict_cbor
from raftkv_trio.errors import DecodeError, UpgradeNeeded
from raftkv_trio.kv.auth.codec import decode_envelope, encode_envelope, is_version_5
from raftkv_trio.kv.auth.commands import Actor, AuthCommand, KeyRange
from raftkv_trio.kv.checks import (
    MAX_NESTING,
    MAX_OPERATIONS,
    MAX_PARTS,
    Fault,
    InvalidTxn,
    check_txn,
    has_strict_puts,
)
from raftkv_trio.kv.lease_codec import decode_lease_command, encode_lease_command, is_version_4
from raftkv_trio.kv.lease_commands import LeaseCommand
from raftkv_trio.kv.txn import Compact, Compare, Delete, Get, Operation, Put, Relation, Target, Txn

VERSION = 5
MAX_REQUEST_ID_BYTES = 255
FINGERPRINT_BYTES = 16
_MAX_VERSION = 23  # that fits into one byte of CBOR
_MAX_DEPTH = 3  # a command, its lists, their items
#: The form, which is checked afterwards, has less than 2,000; this bounds what is made before that. Fewer
#: would have to be counted in commands of a few KiB, which takes as long as to decode them.
_MAX_ITEMS = 16 * 1024
_MAX_DEPTH_3 = 4 + 2 * MAX_NESTING  # a command, its body; a txn's lists and their items; the rest is spare
_MAX_ITEMS_3 = 16 + MAX_PARTS * 7  # each compare and operation is a list, and has six items at most
_MAX_INT = 2**63 - 1
_FORM = "a command does not have the form of a txn"


class _Kind(IntEnum):
    PUT = 1
    DELETE = 2
    GET = 3
    TXN = 4


_PUT = int(_Kind.PUT)
_PUT_LENGTH_2, _PUT_LENGTH_3 = 4, 6
_KEY = itemgetter(0)


class _Body(IntEnum):
    TXN = 1
    COMPACT = 2


_TARGETS = {int(target): target for target in Target}
_OLD_TARGETS = {int(target): target for target in Target if target is not Target.LEASE}
_RELATIONS = {int(relation): relation for relation in Relation}


class Request(NamedTuple):
    """The mark of a command that is to be run once, however often it comes.

    Attributes:
        id: chosen by the client; 1 to 255 bytes.
        fingerprint: of the command, 16 bytes, to notice another command under the same id.
        remembers_previous: whether the result of a repetition has what the puts and deletes replaced.
    """

    id: bytes
    fingerprint: bytes
    remembers_previous: bool

    def of_user(self, name: str) -> "Request":
        """The mark of the same command on behalf of a user, whose answer nobody else gets.

        Half of the fingerprint stays, by which the command is known again (`is_same_command`).
        """
        half = self.fingerprint[: FINGERPRINT_BYTES // 2]
        named = blake2b(self.fingerprint + name.encode(), digest_size=FINGERPRINT_BYTES - len(half)).digest()
        return self._replace(fingerprint=half + named)

    def is_same_command(self, fingerprint: bytes) -> bool:
        """Whether a fingerprint is of the same command, on whosever behalf."""
        half = FINGERPRINT_BYTES // 2
        return fingerprint[:half] == self.fingerprint[:half]


def encode_command(
    command: Txn | Compact | LeaseCommand | AuthCommand,
    actor: Actor | None = None,
    *,
    reads: Iterable[KeyRange] = (),
    request_id: bytes | None = None,
    fingerprint: bytes | None = None,
    remembers_previous: bool = True,
) -> bytes:
    """The bytes of a command, in the oldest version that can say all.

    Args:
        command: a txn; or a compaction or a command about leases, users or roles, which have no request id.
        actor: on whose behalf it is run. None: nobody's, which no store runs while authentication is enabled,
            unless the command is one that only the leader itself proposes.
        reads: what an actor has to be allowed to read beside what a txn reads: the ranges of puts and deletes
            of which the answer shows what they replaced.
        request_id: of 1 to 255 bytes. The command is run once, however often it comes under this id while
            the store remembers it.
        fingerprint: of 16 bytes, to tell this command from another one under the same id. None: a digest of
            the command without its quota. Give one if the same request can become different commands.
        remembers_previous: whether the result that the store remembers has what puts and deletes replaced.

    Raises InvalidTxn if no store would run the command.
    """
    if request_id is not None and (not isinstance(command, Txn) or not request_id):
        raise InvalidTxn("only a txn has a request id, and an id is not empty")
    if not isinstance(command, Txn | Compact | LeaseCommand):
        return encode_envelope(actor, command)
    body = _encode_body(command, request_id, fingerprint, remembers_previous)
    return body if actor is None else encode_envelope(actor, body, reads)


def _encode_body(
    command: Txn | Compact | LeaseCommand,
    request_id: bytes | None,
    fingerprint: bytes | None,
    remembers_previous: bool,
) -> bytes:
    if isinstance(command, Compact):
        return cbor2.dumps([3, None, [int(_Body.COMPACT), command.revision]])
    if not isinstance(command, Txn):
        return encode_lease_command(command)
    is_plain = _puts_only(command)
    if not is_plain:
        check_txn(command)
    # Older versions as long as they can say all, so that programs that know no other can run the command.
    if request_id is None and (is_plain or _is_old(command)):
        return _encode_old(command, is_plain)
    lists = _pack_lists(command)
    request = None
    if request_id is not None:
        if fingerprint is None:
            # Who wants what was replaced makes another request than who does not.
            named = cbor2.dumps(lists if remembers_previous else [*lists, remembers_previous])
            fingerprint = blake2b(named, digest_size=FINGERPRINT_BYTES).digest()
        if len(request_id) > MAX_REQUEST_ID_BYTES or len(fingerprint) != FINGERPRINT_BYTES:
            raise InvalidTxn(f"a request id has at most {MAX_REQUEST_ID_BYTES} bytes, and a fingerprint 16")
        request = [request_id, fingerprint, remembers_previous]
    return cbor2.dumps([3, request, [int(_Body.TXN), *lists, command.quota_bytes]])


#: What `encode_command` was named when there were only txns.
encode_txn = encode_command


def decode_command(command: bytes) -> Txn | Compact | LeaseCommand | AuthCommand:
    """Decode what `encode_command` encoded, apart from a request id, actor and reads.

    Raises UpgradeNeeded for a command of a newer version, and InvalidTxn for any other bytes.
    """
    # Before anything else: a newer version may nest deeper, or have other fields.
    check_version(command)
    if is_version_5(command):
        body = decode_envelope(command).body
        return decode_command(body) if isinstance(body, bytes) else body
    if is_version_4(command):
        return decode_lease_command(command)
    return decode_request(command)[0] if is_version_3(command) else decode_old(command)


def is_version_3(command: bytes) -> bool:
    """Whether these bytes begin as a command of version 3, so that `decode_request` decodes them."""
    # In CBOR a list of 1 to 23 items begins with 0x80 + length, and a number up to 23 is its own byte.
    return command[1:2] == b"\3" and 0x81 <= command[0] <= 0x97


def decode_old(command: bytes) -> Txn:
    """Decode a command of version 1 or 2; raises InvalidTxn."""
    value = _decode(command, _MAX_DEPTH, _MAX_ITEMS)
    return _puts_of_version_2(value) or _any_old(value)


def decode_request(command: bytes) -> tuple[Txn | Compact, Request | None]:
    """Decode a command of version 3 and its request id, if it has one; raises InvalidTxn."""
    match _decode(command, _MAX_DEPTH_3, _MAX_ITEMS_3):
        case [3, request, [1, compares, success, failure, quota] as body] if type(body[0]) is int:
            quota_bytes = None if quota is None else _int(quota)
            if compares == failure == [] and (puts := _puts_of(success, _PUT_LENGTH_3)) is not None:
                return Txn((), puts, (), quota_bytes), _request(request)
            txn = _txn(compares, success, failure, quota_bytes)
            check_txn(txn)
            return txn, _request(request)
        case [3, None, [2, revision] as body] if type(body[0]) is int:
            return Compact(_int(revision)), None
    raise InvalidTxn("a command has the form of neither a txn nor a compaction")


def check_version(command: bytes) -> None:
    """Raise UpgradeNeeded if `command` begins as one of a newer version than ours."""
    if len(command) >= 2 and 0x81 <= command[0] <= 0x97 and VERSION < command[1] <= _MAX_VERSION:
        raise UpgradeNeeded("a command is", command[1], VERSION)


def _decode(command: bytes, max_depth: int, max_items: int) -> object:
    try:
        return strict_cbor.decode(command, max_depth=max_depth, max_items=max_items)
    except DecodeError as error:
        raise InvalidTxn("a command is not valid CBOR") from error


# ------------------------------------------------------------ versions 1 and 2


def _puts_only(txn: Txn) -> bool:
    """Whether a txn puts one key or several, as nearly all do, and every version can say and would run it."""
    puts = txn.success
    if txn.compares or txn.failure or not 1 <= len(puts) <= MAX_OPERATIONS:
        return False
    for put in puts:
        if type(put) is not Put:
            return False
        key, _, lease, keeps_value, keeps_lease = put
        if not key or lease is not None or keeps_value or keeps_lease:
            return False
    return len(puts) == 1 or len(set(map(_KEY, puts))) == len(puts)


def _is_old(txn: Txn) -> bool:
    """Whether version 2 can say all of the txn, and its stricter rule lets it pass."""
    for compare in txn.compares:
        if compare.range_end is not None or compare.target is Target.LEASE:
            return False
        if isinstance(compare.operand, int) and compare.operand < 0:
            return False
    for operations in (txn.success, txn.failure):
        for operation in operations:
            match operation:
                case Put(_, _, None, False, False) | Delete() | Get(revision=None):
                    pass
                case Put(_, _, lease, False, False) if lease is not None and lease >= 0:
                    pass
                case _:
                    return False
    return has_strict_puts(txn)


def _encode_old(txn: Txn, is_plain: bool) -> bytes:
    lists: list[list[Any]]
    if is_plain:
        lists = [[], [[_PUT, key, value, None] for key, value, *_ in txn.success], []]
    else:
        lists = [
            [[c.key, int(c.target), int(c.relation), c.operand] for c in txn.compares],
            [_pack_old(operation) for operation in txn.success],
            [_pack_old(operation) for operation in txn.failure],
        ]
    return cbor2.dumps([1, *lists] if txn.quota_bytes is None else [2, *lists, txn.quota_bytes])


def _pack_old(operation: Operation) -> list[object]:
    match operation:
        case Put(key, value, lease):
            return [1, key, value, lease]
        case Delete(key, range_end):
            return [2, key, range_end]
        case Get(key, range_end, limit):
            return [3, key, range_end, limit]
    raise TypeError("versions 1 and 2 have no inner txns")


def _puts_of(operations: object, length: int) -> tuple[Put, ...] | None:
    """The puts, if these packed operations are nothing else, of several keys, each once, and the rest plain.

    Args:
        length: of the list of a put in this version.
    """
    # A start decodes the whole log, so this decides how long that takes. What is not exactly of this form
    # takes the long way, whether it is right or wrong.
    if type(operations) is not list or not 1 <= len(operations) <= MAX_OPERATIONS:
        return None
    puts = []
    for operation in operations:
        if type(operation) is not list or len(operation) != length:
            return None
        if length == _PUT_LENGTH_2:
            kind, key, content, lease = operation
        else:
            kind, key, content, lease, keeps_value, keeps_lease = operation
            if not (keeps_value is keeps_lease is False):
                return None
        if type(kind) is not int or kind != _PUT or lease is not None:
            return None
        if type(key) is not bytes or not key or type(content) is not bytes:
            return None
        puts.append(Put(key, content))
    if len(puts) > 1 and len(set(map(_KEY, puts))) < len(puts):
        return None
    return tuple(puts)


def _puts_of_version_2(value: object) -> Txn | None:
    """The txn of version 2 if it only puts keys, and `_any_old` would accept it."""
    if type(value) is not list or len(value) != 5:
        return None
    version, compares, success, failure, quota = value
    if version != 2 or type(version) is not int or not compares == failure == []:
        return None
    puts = _puts_of(success, _PUT_LENGTH_2)
    return None if puts is None else Txn((), puts, (), _int(quota))


def _any_old(value: object) -> Txn:
    match _list(value):
        case [int(version), compares, success, failure] if version == 1 and type(version) is int:
            quota_bytes = None
        case [int(version), compares, success, failure, quota] if version == 2:
            quota_bytes = _int(quota)
        case _:
            raise InvalidTxn(_FORM)
    txn = Txn(
        tuple([_old_compare(item) for item in _list(compares)]),
        tuple([_old_operation(item) for item in _list(success)]),
        tuple([_old_operation(item) for item in _list(failure)]),
        quota_bytes,
    )
    check_txn(txn)
    if not has_strict_puts(txn):
        raise InvalidTxn("a txn puts a key twice, or puts and deletes it", Fault.DUPLICATE_KEY)
    return txn


def _old_compare(item: object) -> Compare:
    key, target, relation, operand = _list(item, 4)
    if _int(target) not in _OLD_TARGETS or _int(relation) not in _RELATIONS:
        raise InvalidTxn("a compare has an unknown target or relation")
    operand = _bytes(operand) if target == Target.VALUE else _int(operand)
    return Compare(_bytes(key), _TARGETS[target], _RELATIONS[relation], operand)


def _old_operation(item: object) -> Operation:
    kind, fields = _list(item)[:1], _list(item)[1:]
    match kind and _int(kind[0]), fields:
        case _Kind.PUT, [key, value, lease]:
            return Put(_bytes(key), _bytes(value), None if lease is None else _int(lease))
        case _Kind.DELETE, [key, range_end]:
            return Delete(_bytes(key), _optional_bytes(range_end))
        case _Kind.GET, [key, range_end, limit]:
            return Get(_bytes(key), _optional_bytes(range_end), _optional_int(limit))
    raise InvalidTxn("an operation is neither put, delete nor get, or has other fields")


# ------------------------------------------------------------ version 3


def _pack_lists(txn: Txn) -> list[list[object]]:
    compares: list[object] = [
        [c.key, int(c.target), int(c.relation), c.operand, c.range_end] for c in txn.compares
    ]
    return [compares, [_pack(o) for o in txn.success], [_pack(o) for o in txn.failure]]


def _pack(operation: Operation) -> list[object]:
    if isinstance(operation, Put):
        return [_PUT, *operation]
    match operation:
        case Delete():
            return [int(_Kind.DELETE), *operation]
        case Get():
            return [int(_Kind.GET), *operation]
        case Txn():
            return [int(_Kind.TXN), *_pack_lists(operation)]


def _request(value: object) -> Request | None:
    if value is None:
        return None
    request_id, fingerprint, remembers_previous = _list(value, 3)
    if not 1 <= len(_bytes(request_id)) <= MAX_REQUEST_ID_BYTES:
        raise InvalidTxn("a command has a request id that is empty, or too long")
    if len(_bytes(fingerprint)) != FINGERPRINT_BYTES:
        raise InvalidTxn("a command has a fingerprint of another length")
    return Request(request_id, fingerprint, _bool(remembers_previous))


def _txn(compares: object, success: object, failure: object, quota_bytes: int | None = None) -> Txn:
    return Txn(
        tuple([_compare(item) for item in _list(compares)]),
        tuple([_operation(item) for item in _list(success)]),
        tuple([_operation(item) for item in _list(failure)]),
        quota_bytes,
    )


def _compare(item: object) -> Compare:
    key, target, relation, operand, range_end = _list(item, 5)
    if _int(target) not in _TARGETS or _int(relation) not in _RELATIONS:
        raise InvalidTxn("a compare has an unknown target or relation")
    operand = _bytes(operand) if target == Target.VALUE else _signed_int(operand)
    return Compare(_bytes(key), _TARGETS[target], _RELATIONS[relation], operand, _optional_bytes(range_end))


def _operation(item: object) -> Operation:
    kind, fields = _list(item)[:1], _list(item)[1:]
    match kind and _int(kind[0]), fields:
        case _Kind.PUT, [key, value, lease, keeps_value, keeps_lease]:
            return Put(
                _bytes(key),
                _bytes(value),
                None if lease is None else _signed_int(lease),
                _bool(keeps_value),
                _bool(keeps_lease),
            )
        case _Kind.DELETE, [key, range_end]:
            return Delete(_bytes(key), _optional_bytes(range_end))
        case _Kind.GET, [key, range_end, limit, revision]:
            return Get(_bytes(key), _optional_bytes(range_end), _optional_int(limit), _optional_int(revision))
        case _Kind.TXN, [compares, success, failure]:
            return _txn(compares, success, failure)
    raise InvalidTxn("an operation is neither put, delete, get nor txn, or has other fields")


# ------------------------------------------------------------ fields


def _list(value: object, length: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise InvalidTxn(_FORM)
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise InvalidTxn("a field of a command is not bytes")
    return value


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise InvalidTxn("a field of a command is neither true nor false")
    return value


def _int(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise InvalidTxn("a field of a command is not an integer from 0 to 2**63-1")
    return value


def _signed_int(value: object) -> int:
    if type(value) is not int or not -_MAX_INT - 1 <= value <= _MAX_INT:
        raise InvalidTxn("a field of a command is not an integer from -2**63 to 2**63-1")
    return value


def _optional_bytes(value: object) -> bytes | None:
    return None if value is None else _bytes(value)


def _optional_int(value: object) -> int | None:
    return None if value is None else _int(value)
