"""Results of the store as etcd's answers."""

from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from raftkv_trio.etcd.errors import error_of_failure
from raftkv_trio.kv import (
    DeleteResult,
    Failed,
    GetResult,
    KeyValue,
    OperationResult,
    PutResult,
    TxnResult,
)
from raftkv_trio.schema import kv_pb2, rpc_pb2

_SORT_KEYS: dict[int, Callable[[KeyValue], int | bytes]] = {
    rpc_pb2.RangeRequest.KEY: lambda kv: kv.key,
    rpc_pb2.RangeRequest.VERSION: lambda kv: kv.version,
    rpc_pb2.RangeRequest.CREATE: lambda kv: kv.create_revision,
    rpc_pb2.RangeRequest.MOD: lambda kv: kv.mod_revision,
    rpc_pb2.RangeRequest.VALUE: lambda kv: kv.value,
}


def succeeded(result: object) -> TxnResult:
    """The result of a txn that was run; raises RpcError for one that was not."""
    if not isinstance(result, TxnResult):
        raise_failed(result)
    return result


def raise_failed(result: object) -> NoReturn:
    """Raise RpcError for the result of a command that was not run."""
    if isinstance(result, Failed):
        raise error_of_failure(result.failure)
    raise TypeError(f"the store refused a command of this API: {result}")


def key_value(record: KeyValue, *, keys_only: bool = False) -> kv_pb2.KeyValue:
    """A key-value as etcd tells it."""
    return kv_pb2.KeyValue(
        key=record.key,
        value=b"" if keys_only else record.value,
        create_revision=record.create_revision,
        mod_revision=record.mod_revision,
        version=record.version,
        lease=record.lease or 0,
    )


def range_response(
    request: rpc_pb2.RangeRequest, result: GetResult, header: rpc_pb2.ResponseHeader
) -> rpc_pb2.RangeResponse:
    """The answer to a range: sifted, sorted and cut off, in this order."""
    records: Sequence[KeyValue] = result.key_values
    if not request.count_only:
        records = _sorted(request, _sifted(request, records))
    more = 0 < request.limit < len(records)
    if more:
        records = records[: request.limit]
    return rpc_pb2.RangeResponse(
        header=header,
        kvs=[key_value(record, keys_only=request.keys_only) for record in records],
        more=more,
        count=result.in_range,
    )


def _sifted(request: rpc_pb2.RangeRequest, records: Iterable[KeyValue]) -> list[KeyValue]:
    """Those whose revisions are within the bounds of the request; a bound of 0 is none."""
    kept = list(records)
    if bound := request.min_mod_revision:
        kept = [record for record in kept if record.mod_revision >= bound]
    if bound := request.max_mod_revision:
        kept = [record for record in kept if record.mod_revision <= bound]
    if bound := request.min_create_revision:
        kept = [record for record in kept if record.create_revision >= bound]
    if bound := request.max_create_revision:
        kept = [record for record in kept if record.create_revision <= bound]
    return kept


def _sorted(request: rpc_pb2.RangeRequest, records: list[KeyValue]) -> list[KeyValue]:
    """In the order that the request asks for; a sort target without an order means ascending."""
    target = _SORT_KEYS.get(request.sort_target)
    is_descending = request.sort_order == rpc_pb2.RangeRequest.DESCEND
    if target is None or (request.sort_target == rpc_pb2.RangeRequest.KEY and not is_descending):
        return records
    return sorted(records, key=target, reverse=is_descending)


def put_response(
    request: rpc_pb2.PutRequest, result: PutResult, header: rpc_pb2.ResponseHeader
) -> rpc_pb2.PutResponse:
    """The answer to a put."""
    response = rpc_pb2.PutResponse(header=header)
    if request.prev_kv and (previous := result.previous) is not None:
        response.prev_kv.CopyFrom(key_value(previous))
    return response


def delete_response(
    request: rpc_pb2.DeleteRangeRequest, result: DeleteResult, header: rpc_pb2.ResponseHeader
) -> rpc_pb2.DeleteRangeResponse:
    """The answer to a delete."""
    previous = map(key_value, result.previous) if request.prev_kv else ()
    return rpc_pb2.DeleteRangeResponse(header=header, deleted=result.deleted, prev_kvs=previous)


def txn_response(
    request: rpc_pb2.TxnRequest, result: TxnResult, header: rpc_pb2.ResponseHeader
) -> rpc_pb2.TxnResponse:
    """The answer to a txn.

    Headers inside have a revision and nothing else, and that of a nested txn is empty, as etcd's are.
    """
    operations = request.success if result.succeeded else request.failure
    base = result.revision - 1 if any(map(_has_changed, result.results)) else result.revision
    return rpc_pb2.TxnResponse(
        header=header,
        succeeded=result.succeeded,
        responses=_responses(operations, result.results, base, base),
    )


def _responses(
    operations: Iterable[rpc_pb2.RequestOp], results: Iterable[OperationResult], base: int, revision: int
) -> Iterable[rpc_pb2.ResponseOp]:
    """The answers to operations of a txn.

    Args:
        base: the revision before the whole txn.
        revision: that before these operations.
    """
    # The answers to most puts of a txn are the same, and made once.
    to_a_put = rpc_pb2.ResponseOp(
        response_put=rpc_pb2.PutResponse(header=rpc_pb2.ResponseHeader(revision=base + 1))
    )
    for operation, result in zip(operations, results, strict=True):
        if type(result) is PutResult and not operation.request_put.prev_kv:
            revision = base + 1
            yield to_a_put
            continue
        before = revision
        if _has_changed(result):
            revision = base + 1
        header = rpc_pb2.ResponseHeader(revision=revision)
        match result:
            case GetResult():
                header.revision = result.revision
                yield rpc_pb2.ResponseOp(
                    response_range=range_response(operation.request_range, result, header)
                )
            case PutResult():
                yield rpc_pb2.ResponseOp(response_put=put_response(operation.request_put, result, header))
            case DeleteResult():
                yield rpc_pb2.ResponseOp(
                    response_delete_range=delete_response(operation.request_delete_range, result, header)
                )
            case TxnResult():
                nested = operation.request_txn
                yield rpc_pb2.ResponseOp(
                    response_txn=rpc_pb2.TxnResponse(
                        header=rpc_pb2.ResponseHeader(),
                        succeeded=result.succeeded,
                        responses=_responses(
                            nested.success if result.succeeded else nested.failure,
                            result.results,
                            base,
                            before,
                        ),
                    )
                )


def _has_changed(result: OperationResult) -> bool:
    match result:
        case PutResult():
            return True
        case DeleteResult():
            return result.deleted > 0
        case TxnResult():
            return any(map(_has_changed, result.results))
    return False
