"""Requests of the KV service as the store's operations. The store checks them, by etcd's rules."""

from collections.abc import Iterable

from raftkv_trio.etcd.errors import Fault
from raftkv_trio.kv import (
    Compare,
    Delete,
    Get,
    KeyRange,
    Operation,
    Put,
    Relation,
    Target,
    Txn,
)
from raftkv_trio.schema import rpc_pb2

_MAX_INT = 2**63 - 1
#: A compare that holds for every key, and one that holds for none: no version is that large, or below 0.
_ALWAYS = (Target.VERSION, Relation.NOT_EQUAL, _MAX_INT)
_NEVER = (Target.VERSION, Relation.LESS, 0)
#: And one that holds for a key that exists.
_EXISTS = (Target.VERSION, Relation.GREATER, 0)
_RELATIONS = {
    rpc_pb2.Compare.EQUAL: Relation.EQUAL,
    rpc_pb2.Compare.GREATER: Relation.GREATER,
    rpc_pb2.Compare.LESS: Relation.LESS,
    rpc_pb2.Compare.NOT_EQUAL: Relation.NOT_EQUAL,
}
_TARGETS = {
    rpc_pb2.Compare.VERSION: (Target.VERSION, "version"),
    rpc_pb2.Compare.CREATE: (Target.CREATE_REVISION, "create_revision"),
    rpc_pb2.Compare.MOD: (Target.MOD_REVISION, "mod_revision"),
    rpc_pb2.Compare.VALUE: (Target.VALUE, "value"),
    rpc_pb2.Compare.LEASE: (Target.LEASE, "lease"),
}


def get_of(request: rpc_pb2.RangeRequest) -> Get:
    """The store's part of a range; `answers.range_response` does the rest."""
    if request.count_only:
        limit: int | None = 0
    elif request.limit <= 0 or _needs_all(request):
        limit = None
    else:
        limit = min(request.limit, _MAX_INT - 1) + 1  # one more, which shows that there is more
    revision = request.revision if request.revision > 0 else None
    return Get(request.key, request.range_end or None, limit, revision)


def _needs_all(request: rpc_pb2.RangeRequest) -> bool:
    """Whether the limit counts only after all key-values of the range are sorted or sifted.

    A sort target without an order is not among the reasons: etcd sorts what the limit has left then.
    """
    return (
        request.sort_order != rpc_pb2.RangeRequest.NONE
        or bool(request.min_mod_revision or request.max_mod_revision)
        or bool(request.min_create_revision or request.max_create_revision)
    )


def put_of(request: rpc_pb2.PutRequest) -> Put:
    """The store's put; `prev_kv` is the answer's affair."""
    if not (request.lease or request.ignore_value or request.ignore_lease):
        return Put(request.key, request.value)  # as nearly all are
    return Put(
        request.key,
        request.value,
        request.lease or None,
        keeps_value=request.ignore_value,
        keeps_lease=request.ignore_lease,
    )


def delete_of(request: rpc_pb2.DeleteRangeRequest) -> Delete:
    """The store's delete."""
    return Delete(request.key, request.range_end or None)


def txn_of(request: rpc_pb2.TxnRequest, quota_bytes: int | None = None) -> Txn:
    """The store's txn."""
    return Txn(
        tuple([_compare_of(compare) for compare in request.compare]),
        tuple(_operations_of(request.success)),
        tuple(_operations_of(request.failure)),
        quota_bytes,
    )


def wants_previous(request: rpc_pb2.PutRequest | rpc_pb2.DeleteRangeRequest | rpc_pb2.TxnRequest) -> bool:
    """Whether a put or a delete of a request asks for what it replaces."""
    if not isinstance(request, rpc_pb2.TxnRequest):
        return request.prev_kv
    return any(
        operation.request_put.prev_kv
        or operation.request_delete_range.prev_kv
        or (operation.HasField("request_txn") and wants_previous(operation.request_txn))
        for operation in (*request.success, *request.failure)
    )


def shown_by(
    request: rpc_pb2.PutRequest | rpc_pb2.DeleteRangeRequest | rpc_pb2.TxnRequest,
) -> Iterable[KeyRange]:
    """The ranges of the puts and deletes of a request that ask for what they replace."""
    match request:
        case rpc_pb2.TxnRequest():
            for operation in (*request.success, *request.failure):
                kind = operation.WhichOneof("request")
                if kind is not None and kind != "request_range":
                    yield from shown_by(getattr(operation, kind))
        case rpc_pb2.PutRequest():
            if request.prev_kv:
                yield request.key, None
        case _:
            if request.prev_kv:
                yield request.key, request.range_end or None


def is_serializable(request: rpc_pb2.TxnRequest) -> bool:
    """Whether all of a txn that only reads may be answered from what this node has applied.

    As in etcd, a nested txn may not, whatever its ranges say. Nor may one that compares and reads nothing:
    nobody has said that an old answer is enough.
    """
    operations = (*request.success, *request.failure)
    return bool(operations) and all(operation.request_range.serializable for operation in operations)


def _compare_of(compare: rpc_pb2.Compare) -> Compare:
    target, relation, operand = _comparison_of(compare)
    return Compare(compare.key, target, relation, operand, compare.range_end or None)


def _comparison_of(compare: rpc_pb2.Compare) -> tuple[Target, Relation, int | bytes]:
    # Both enums may have numbers of a newer version. Then etcd takes both sides as equal, or all as true.
    if compare.result not in _RELATIONS:
        # A compare of the value of a key that does not exist fails before etcd looks at the relation.
        return _EXISTS if compare.target == rpc_pb2.Compare.VALUE else _ALWAYS
    relation = _RELATIONS[compare.result]
    if compare.target not in _TARGETS:
        return _ALWAYS if relation is Relation.EQUAL else _NEVER
    target, field = _TARGETS[compare.target]
    operand = getattr(compare, field)
    if target is Target.VALUE or operand >= 0:
        return target, relation, operand
    # The log knows no negative operands, and all numbers of a key are larger than those.
    return _ALWAYS if relation in (Relation.GREATER, Relation.NOT_EQUAL) else _NEVER


def _operations_of(operations: Iterable[rpc_pb2.RequestOp]) -> Iterable[Operation]:
    for operation in operations:
        match operation.WhichOneof("request"):
            case "request_range":
                get = get_of(operation.request_range)
                # Alone, a negative revision means the newest; in a txn, one before all that there are.
                yield get._replace(revision=0) if operation.request_range.revision < 0 else get
            case "request_put":
                yield put_of(operation.request_put)
            case "request_delete_range":
                yield delete_of(operation.request_delete_range)
            case "request_txn":
                yield txn_of(operation.request_txn)
            case _:  # a client of a newer version may ask for what this one does not know
                raise Fault.KEY_NOT_FOUND.error()  # etcd's answer
