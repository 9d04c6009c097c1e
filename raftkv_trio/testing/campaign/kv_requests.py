"""The requests of simulated clients as the store's commands, and its results as what a client is told."""

from raftkv_trio.kv import (
    CommandFailed,
    Compact,
    CompactResult,
    Compare,
    Delete,
    DeleteResult,
    Failed,
    Failure,
    Get,
    GetResult,
    KeyValue,
    Operation,
    OperationResult,
    Put,
    PutResult,
    Relation,
    Store,
    Target,
    Txn,
    TxnResult,
    encode_command,
)
from raftkv_trio.testing.histories.store_requests import (
    StoreAnswer,
    StoreCompact,
    StoreCompactAnswer,
    StoreCompare,
    StoreDelete,
    StoreDeleteAnswer,
    StoreFailure,
    StoreGet,
    StoreGetAnswer,
    StoreOperation,
    StorePut,
    StorePutAnswer,
    StoreRecord,
    StoreResult,
    StoreTxn,
    StoreTxnAnswer,
)

_TARGETS = {
    "version": Target.VERSION,
    "created": Target.CREATE_REVISION,
    "changed": Target.MOD_REVISION,
    "value": Target.VALUE,
}
_RELATIONS = {
    "=": Relation.EQUAL,
    "!=": Relation.NOT_EQUAL,
    ">": Relation.GREATER,
    "<": Relation.LESS,
}
_FAILURES = {
    Failure.FUTURE_REVISION: StoreFailure.FUTURE_REVISION,
    Failure.COMPACTED: StoreFailure.COMPACTED,
    Failure.KEY_NOT_FOUND: StoreFailure.KEY_NOT_FOUND,
}


def command_of(request: StoreTxn | StoreCompact, request_id: bytes | None = None) -> bytes:
    """The store's command for a write or a compaction; a write with a request id is run once at most."""
    if isinstance(request, StoreCompact):
        return encode_command(Compact(request.revision))
    return encode_command(txn_of(request), request_id=request_id)


def txn_of(txn: StoreTxn) -> Txn:
    """The store's txn for a client's."""
    return Txn(
        tuple([_compare(compare) for compare in txn.compares]),
        tuple([_operation(operation) for operation in txn.success]),
        tuple([_operation(operation) for operation in txn.failure]),
    )


def _compare(compare: StoreCompare) -> Compare:
    key, compared, relation, operand, range_end = compare
    return Compare(key, _TARGETS[compared], _RELATIONS[relation], operand, range_end)


def _operation(operation: StoreOperation) -> Operation:
    match operation:
        case StorePut(key, value, keeps_value):
            return Put(key, value, keeps_value=keeps_value)
        case StoreDelete(key, range_end):
            return Delete(key, range_end)
        case StoreGet(key, range_end, limit, revision):
            return Get(key, range_end, limit, revision)
        case StoreTxn():
            return txn_of(operation)


def read(store: Store, txn: StoreTxn) -> StoreAnswer:
    """What a read of the store, without a command, tells a client."""
    try:
        match txn:
            case StoreTxn((), (StoreGet() as get,), ()):  # as a range is read, and not a txn
                result = store.read(Get(*get))
                return StoreTxnAnswer(True, result.revision, (_result(result),))
        return answer_of(store.read_txn(txn_of(txn)))
    except CommandFailed as error:
        return _FAILURES[error.failure]


def answer_of(result: object) -> StoreAnswer:
    """What the store's result of a command tells a client."""
    match result:
        case TxnResult():
            return _txn_answer(result)
        case CompactResult(revision):
            return StoreCompactAnswer(revision)
        case Failed(failure):
            return _FAILURES[failure]
    raise AssertionError(f"no result that a client can be told: {result}")


def _txn_answer(result: TxnResult) -> StoreTxnAnswer:
    return StoreTxnAnswer(result.succeeded, result.revision, tuple([_result(r) for r in result.results]))


def _result(result: OperationResult) -> StoreResult:
    match result:
        case PutResult():
            previous = result.previous
            return StorePutAnswer(_record(result.key_value), None if previous is None else _record(previous))
        case DeleteResult(deleted):
            return StoreDeleteAnswer(deleted, tuple([_record(r) for r in result.previous]))
        case GetResult(key_values, in_range, revision):
            return StoreGetAnswer(tuple([_record(r) for r in key_values]), in_range, revision)
        case TxnResult():
            return _txn_answer(result)


def _record(key_value: KeyValue) -> StoreRecord:
    return StoreRecord(*key_value[:5])
