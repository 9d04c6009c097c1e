"""Clients of the key-value store, one operation at a time each, and the history of what they were told."""

from collections.abc import Sequence
from random import Random

from raftkv_trio.kv import (
    Compare,
    GetResult,
    KeyValue,
    Operation,
    PutResult,
    Relation,
    Store,
    Target,
    Txn,
    TxnResult,
    encode_txn,
)
from raftkv_trio.kv import Delete as DeleteKey
from raftkv_trio.kv import Get as GetKey
from raftkv_trio.kv import Put as PutKey
from raftkv_trio.testing.histories.history import Operation as Recorded
from raftkv_trio.testing.histories.register import (
    ABSENT,
    PRESENT,
    Answer,
    Delete,
    Get,
    Put,
    RegisterRequest,
    Seen,
)

Record = Recorded[RegisterRequest, Answer]


def draw_request(random: Random, value: bytes, known: Seen | None) -> RegisterRequest:
    """A read or a write of a key; `known` is what this client saw of it last."""
    expects = known if known is not None and random.random() < 0.8 else None
    draw = random.random()
    if draw < 0.4:
        return Get()
    if draw < 0.65:
        return Put(value)
    if draw < 0.9:
        return Put(value, _without_value(expects))
    return Delete(_without_value(expects) if random.random() < 0.5 else None)


def _without_value(seen: Seen | None) -> Seen | None:
    return None if seen is None else seen._replace(value=None)


def command_of(key: bytes, request: Put | Delete) -> bytes:
    """The store's command for a write: a txn, as the REST API makes it."""
    write: Operation = PutKey(key, request.value) if isinstance(request, Put) else DeleteKey(key)
    if request.expects is None:
        return encode_txn(Txn(success=(write,)))
    return encode_txn(Txn((_compare(key, request.expects),), (write,), (GetKey(key),)))


def _compare(key: bytes, expects: Seen) -> Compare:
    if not expects.present:
        return Compare.absent(key)
    if expects.revision is None:
        return Compare.exists(key)
    return Compare(key, Target.MOD_REVISION, Relation.EQUAL, expects.revision)


def answer_to_write(result: object) -> Answer:
    """What the store's result says to a client."""
    assert isinstance(result, TxnResult), result
    (operation,) = result.results
    if isinstance(operation, PutResult):
        return Answer(revision=operation.key_value.mod_revision)
    if isinstance(operation, GetResult):  # the compare did not hold
        return Answer(applied=False, seen=seen(operation.key_values))
    return Answer(seen=PRESENT if operation.deleted else ABSENT)


def answer_to_read(store: Store, key: bytes) -> Answer:
    record = store.get(key)
    return Answer(seen=seen(() if record is None else (record,)))


def seen(records: Sequence[KeyValue]) -> Seen:
    """A key as its record, if there is one, shows it."""
    return Seen(True, records[0].value, records[0].mod_revision) if records else ABSENT
