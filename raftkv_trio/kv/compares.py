"""Whether a compare holds, for what its range has."""

from collections.abc import Iterable
from typing import TypeVar

from raftkv_trio.kv.checks import InvalidTxn
from raftkv_trio.kv.record import KeyValue
from raftkv_trio.kv.txn import Compare, Relation, Target

_NOTHING = KeyValue(b"", b"", 0, 0, 0)
Operand = TypeVar("Operand", int, bytes)


def holds(compare: Compare, found: Iterable[KeyValue]) -> bool:
    """Whether the compare holds for each of `found`, which is all that its range has.

    Raises InvalidTxn if its operand does not fit its target.
    """
    if type(compare.operand) is not (bytes if compare.target is Target.VALUE else int):
        raise InvalidTxn("the operand of a compare must be bytes for VALUE, else an integer")
    is_empty = True
    for record in found:
        is_empty = False
        if not _holds(compare, record):
            return False
    # As etcd has it: nothing has numbers of 0, and no value.
    return not is_empty or (compare.target is not Target.VALUE and _holds(compare, _NOTHING))


def _holds(compare: Compare, record: KeyValue) -> bool:
    operand, relation = compare.operand, compare.relation
    if isinstance(operand, bytes):
        return _stands(record.value, relation, operand)
    match compare.target:
        case Target.VERSION:
            return _stands(record.version, relation, operand)
        case Target.CREATE_REVISION:
            return _stands(record.create_revision, relation, operand)
        case Target.MOD_REVISION:
            return _stands(record.mod_revision, relation, operand)
        case _:
            return _stands(record.lease or 0, relation, operand)


def _stands(actual: Operand, relation: Relation, operand: Operand) -> bool:
    match relation:
        case Relation.EQUAL:
            return actual == operand
        case Relation.NOT_EQUAL:
            return actual != operand
        case Relation.GREATER:
            return actual > operand
        case Relation.LESS:
            return actual < operand
