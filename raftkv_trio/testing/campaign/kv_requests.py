"""What simulated clients ask of the key-value store, and what its results tell them."""

from collections.abc import Sequence
from random import Random

from raftkv_trio.kv import (
    Compare,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    KeyValue,
    Operation,
    Put,
    PutResult,
    Relation,
    Store,
    Target,
    Txn,
    TxnResult,
    encode_txn,
)
from raftkv_trio.testing.histories.history import History, RecordedOperation
from raftkv_trio.testing.histories.register import (
    ABSENT,
    PRESENT,
    RegisterAnswer,
    RegisterDelete,
    RegisterGet,
    RegisterPut,
    RegisterRequest,
    Seen,
)

RegisterOperation = RecordedOperation[RegisterRequest, RegisterAnswer]
RegisterHistory = History[RegisterRequest, RegisterAnswer]


def draw_request(random: Random, value: bytes, known: Seen | None) -> RegisterRequest:
    """Draw a read or a write of a key; `known` is what this client saw of the key last."""
    expects = known if known is not None and random.random() < 0.8 else None
    draw = random.random()
    if draw < 0.4:
        return RegisterGet()
    if draw < 0.65:
        return RegisterPut(value)
    if draw < 0.9:
        return RegisterPut(value, _without_value(expects))
    return RegisterDelete(_without_value(expects) if random.random() < 0.5 else None)


def _without_value(seen: Seen | None) -> Seen | None:
    return None if seen is None else seen._replace(value=None)


def command_of(key: bytes, request: RegisterPut | RegisterDelete) -> bytes:
    """The store's command for a write: a txn, as the REST API makes it."""
    write: Operation = Put(key, request.value) if isinstance(request, RegisterPut) else Delete(key)
    if request.expects is None:
        return encode_txn(Txn(success=(write,)))
    return encode_txn(Txn((_compare(key, request.expects),), (write,), (Get(key),)))


def _compare(key: bytes, expects: Seen) -> Compare:
    if not expects.present:
        return Compare.absent(key)
    if expects.revision is None:
        return Compare.exists(key)
    return Compare(key, Target.MOD_REVISION, Relation.EQUAL, expects.revision)


def answer_to_write(result: object) -> RegisterAnswer:
    """What the store's result of a write tells a client."""
    assert isinstance(result, TxnResult), result
    (operation,) = result.results
    if isinstance(operation, PutResult):
        return RegisterAnswer(revision=operation.key_value.mod_revision)
    if isinstance(operation, GetResult):  # the compare did not hold
        return RegisterAnswer(applied=False, seen=seen(operation.key_values))
    assert isinstance(operation, DeleteResult), operation
    return RegisterAnswer(seen=PRESENT if operation.deleted else ABSENT)


def answer_to_read(store: Store, key: bytes) -> RegisterAnswer:
    """What a read of the store tells a client."""
    record = store.get(key)
    return RegisterAnswer(seen=seen(() if record is None else (record,)))


def seen(records: Sequence[KeyValue]) -> Seen:
    """A key as its record shows it; without a record, absent."""
    return Seen(True, records[0].value, records[0].mod_revision) if records else ABSENT
