"""Requests that the store remembers, so that a client's retry is not run a second time.

A command of version 3 may have a request id, chosen by the client. The store remembers the last ones that
were run, `MAX_REQUESTS` of them. Their results are forgotten earlier, oldest first, if all takes more than
`MAX_WINDOW_BYTES`: so large results do not make the time shorter in which a retry is safe. All of it depends
on the log alone, and is part of the state. So every member gives a retry the same answer, also after a
restart from a snapshot.

A command that was not run, because it failed or met its quota, is not remembered: its retry may fare better.

A result is kept as CBOR, without what the retry says again, keys and values of its puts:

    [succeeded, revision, [operation ...]]
    operation: [1, create revision, version, lease, value or null, previous or null] put
        | [2, deleted, [key-value ...]] delete | [3, in range, revision, [key-value ...]] get
        | [4, succeeded, revision, [operation ...]] inner txn
    key-value: [key, value, create revision, mod revision, version, lease]

A put has its value here only if the command does not have it, because it kept the key's value.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import cbor2

from raftkv_trio.errors import CorruptLog
from raftkv_trio.kv.codec import FINGERPRINT_BYTES, MAX_REQUEST_ID_BYTES, Request
from raftkv_trio.kv.record import DIGEST_BYTES, HEAD_BYTES, KeyValue, pack
from raftkv_trio.kv.results import (
    DeleteResult,
    GetResult,
    OperationResult,
    PutResult,
    RequestReused,
    ResultForgotten,
    TxnResult,
)
from raftkv_trio.kv.snapshot import natural
from raftkv_trio.kv.txn import Delete, Get, Operation, Put, Txn

MAX_REQUESTS = 10_000
MAX_WINDOW_BYTES = 16 * 1024 * 1024
#: Of a request whose result would take more, only that it was run is remembered.
MAX_RESULT_BYTES = 1024 * 1024
#: Counted for each request beside its id and its result.
_OVERHEAD_BYTES = 64


class Remembered(NamedTuple):
    """What is kept of a request.

    Attributes:
        fingerprint: `Request.fingerprint`.
        revision: the store's after it.
        result: see above; None if it was too large, or larger than what newer ones have left.
    """

    fingerprint: bytes
    revision: int
    result: bytes | None


class RequestWindow:
    """The requests that a store remembers.

    Attributes:
        ever: how many were ever remembered.
        size_bytes: of ids and results.
        digest_sum: of all that are remembered, and their places.
    """

    def __init__(self) -> None:
        self.ever = 0
        self.size_bytes = 0
        self.digest_sum = 0
        self._requests: OrderedDict[bytes, Remembered] = OrderedDict()
        self._places: OrderedDict[bytes, int] = OrderedDict()  # of those whose results are kept

    def __len__(self) -> int:
        return len(self._requests)

    @classmethod
    def of(cls, items: Iterable[Any], ever: int) -> "RequestWindow":
        """The window of which a snapshot has these items; raises CorruptLog."""
        window = cls()
        read = [_checked(fields) for fields in items]
        window.ever = ever - len(read)
        for request_id, remembered in read:
            if request_id in window._requests:
                raise CorruptLog("the store's snapshot has a request twice")
            window._add(request_id, remembered)
        if window.ever != ever or len(window) != len(read):
            raise CorruptLog("the store's snapshot has more requests than a store remembers")
        return window

    def items(self) -> list[tuple[bytes, Remembered]]:
        """The ids and what is kept of them, oldest first."""
        return list(self._requests.items())

    def answer(self, request: Request, txn: Txn) -> TxnResult | RequestReused | ResultForgotten | None:
        """The result of a request that was run; None if it is not known, and may be run."""
        remembered = self._requests.get(request.id)
        if remembered is None:
            return None
        if remembered.fingerprint != request.fingerprint:
            # It may be the same client, whose first try was before users were checked, or is not checked now.
            is_same = request.is_same_command(remembered.fingerprint)
            return ResultForgotten(remembered.revision) if is_same else RequestReused()
        result = None if remembered.result is None else _unpack(cbor2.loads(remembered.result), txn)
        return result or ResultForgotten(remembered.revision)

    def remember(self, request: Request, txn: Txn, result: TxnResult) -> None:
        """Note that this txn was run for the request."""
        packed = None
        if _size_of(result, request.remembers_previous) <= MAX_RESULT_BYTES:
            packed = cbor2.dumps(_pack(result, txn, request.remembers_previous))
        self._add(request.id, Remembered(request.fingerprint, result.revision, packed))

    def _add(self, request_id: bytes, remembered: Remembered) -> None:
        self._set(self.ever, request_id, remembered)
        self.ever += 1
        if len(self._requests) > MAX_REQUESTS:
            place = self.ever - len(self._requests)
            oldest_id, oldest = self._requests.popitem(last=False)
            self._places.pop(oldest_id, None)
            self._subtract(place, oldest_id, oldest)
        while self.size_bytes > MAX_WINDOW_BYTES and self._places:
            one_id, place = self._places.popitem(last=False)
            one = self._requests[one_id]
            self._subtract(place, one_id, one)
            self._set(place, one_id, one._replace(result=None))

    def _set(self, place: int, request_id: bytes, remembered: Remembered) -> None:
        self._requests[request_id] = remembered
        if remembered.result is not None:
            self._places[request_id] = place
        self.size_bytes += _bytes_of(request_id, remembered)
        self.digest_sum += _digest_of(place, request_id, remembered)

    def _subtract(self, place: int, request_id: bytes, remembered: Remembered) -> None:
        self.size_bytes -= _bytes_of(request_id, remembered)
        self.digest_sum -= _digest_of(place, request_id, remembered)


def _bytes_of(request_id: bytes, remembered: Remembered) -> int:
    return len(request_id) + len(remembered.result or b"") + _OVERHEAD_BYTES


def _digest_of(place: int, request_id: bytes, remembered: Remembered) -> int:
    data = cbor2.dumps([place, request_id, *remembered])
    return int.from_bytes(blake2b(data, digest_size=DIGEST_BYTES, person=b"request").digest(), "big")


def _checked(fields: Any) -> tuple[bytes, Remembered]:
    match fields:
        case [bytes(request_id), bytes(fingerprint), revision, None | bytes() as result]:
            if 1 <= len(request_id) <= MAX_REQUEST_ID_BYTES and len(fingerprint) == FINGERPRINT_BYTES:
                return request_id, Remembered(fingerprint, natural(revision), result)
    raise CorruptLog("the store's snapshot has a request of another form")


# ------------------------------------------------------------ results


def _size_of(result: TxnResult, with_previous: bool) -> int:
    """About the bytes that the result takes: enough to tell a large one before it is packed."""
    size = 32 * len(result.results)
    for one in result.results:
        match one:
            case PutResult(key, record, previous):
                size += len(record) - HEAD_BYTES + (len(previous or b"") + len(key)) * with_previous
            case DeleteResult(_, keys, records):
                size += (sum(map(len, keys)) + sum(map(len, records))) * with_previous
            case GetResult(key_values):
                size += sum([len(found.key) + len(found.value) + 32 for found in key_values])
            case TxnResult():
                size += _size_of(one, with_previous)
    return size


def _pack(result: TxnResult, txn: Txn, with_previous: bool) -> list[Any]:
    operations = txn.success if result.succeeded else txn.failure
    results = [
        _pack_operation(one, operation, with_previous)
        for one, operation in zip(result.results, operations, strict=True)
    ]
    return [result.succeeded, result.revision, results]


def _pack_operation(result: OperationResult, operation: Operation, with_previous: bool) -> list[Any]:
    match result, operation:
        case PutResult(), Put():
            made = result.key_value
            value = made.value if operation.keeps_value else None
            previous = result.previous if with_previous else None
            return [1, made.create_revision, made.version, made.lease, value, previous and list(previous)]
        case DeleteResult(deleted), _:
            return [2, deleted, list(map(list, result.previous)) if with_previous else []]
        case GetResult(found, in_range, revision), _:
            return [3, in_range, revision, list(map(list, found))]
        case TxnResult(), Txn():
            return [4, *_pack(result, operation, with_previous)]
    raise TypeError("a result is not that of its operation")


def _unpack(packed: list[Any], txn: Txn) -> TxnResult | None:
    """The result, for a txn of the same operations; None if they are others after all."""
    succeeded, revision, results = packed
    operations = txn.success if succeeded else txn.failure
    if len(results) != len(operations):
        return None
    unpacked = [_unpack_operation(*pair, revision) for pair in zip(results, operations, strict=True)]
    found = tuple(_all(unpacked))
    return TxnResult(succeeded, revision, found) if len(found) == len(results) else None


def _all(results: list[OperationResult | None]) -> Iterator[OperationResult]:
    return (result for result in results if result is not None)


def _unpack_operation(packed: list[Any], operation: Operation, revision: int) -> OperationResult | None:
    match packed, operation:
        case [1, create_revision, version, lease, value, previous], Put(key, put_value):
            value = put_value if value is None else value
            record = pack(value, create_revision, revision, version, lease)
            return PutResult(key, record, None if previous is None else pack(*previous[1:]))
        case [2, deleted, previous], Delete():
            keys = tuple([fields[0] for fields in previous])
            return DeleteResult(deleted, keys, tuple([pack(*fields[1:]) for fields in previous]))
        case [3, in_range, read_revision, found], Get():
            return GetResult(tuple([KeyValue(*fields) for fields in found]), in_range, read_revision)
        case [4, *inner], Txn():
            return _unpack(inner, operation)
    return None
