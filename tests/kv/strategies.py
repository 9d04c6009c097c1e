"""Hypothesis strategies for commands over a few keys, so that they meet."""

from hypothesis import strategies as st

from raftkv_trio.kv import (
    TO_THE_LAST,
    Compact,
    Compare,
    Delete,
    Get,
    InvalidTxn,
    Operation,
    Put,
    Relation,
    Target,
    Txn,
    check_txn,
)

KEYS = [b"/a", b"/a\0", b"/ab", b"/b", b"/c", b"\xff", b"\xff\xff"]

keys = st.sampled_from(KEYS)
values = st.binary(max_size=3)
range_ends = st.none() | st.just(TO_THE_LAST) | keys
relations = st.sampled_from(Relation)
revisions = st.integers(0, 12)
limits = st.none() | st.integers(0, 3)

OLD_TARGETS = [Target.VERSION, Target.CREATE_REVISION, Target.MOD_REVISION]

# Each argument is given, also where it has a default: `builds` would draw it from all that its type allows.
old_compares = st.builds(
    Compare, keys, st.sampled_from(OLD_TARGETS), relations, revisions, st.none()
) | st.builds(Compare, keys, st.just(Target.VALUE), relations, values, st.none())
old_puts = st.builds(
    Put, keys, values, st.sampled_from([None, None, None, 0, 3]), st.just(False), st.just(False)
)
deletes = st.builds(Delete, keys, range_ends)
old_gets = st.builds(Get, keys, range_ends, limits, st.none())

compares = old_compares | st.builds(
    Compare, keys, st.sampled_from([*OLD_TARGETS, Target.LEASE]), relations, st.integers(-1, 12), range_ends
)
puts = (
    old_puts
    | st.builds(Put, keys, st.just(b""), st.none(), st.just(True), st.booleans())
    | st.builds(Put, keys, values, st.none(), st.just(False), st.just(True))
)
gets = old_gets | st.builds(Get, keys, range_ends, limits, revisions)


def _without_clashes(operations: list[Operation]) -> tuple[Operation, ...]:
    """Drop operations that `check_txn` refuses behind those before them."""
    kept: tuple[Operation, ...] = ()
    for operation in operations:
        try:
            check_txn(Txn(success=(*kept, operation)))
        except InvalidTxn:
            continue
        kept = (*kept, operation)
    return kept


def _without_old_clashes(operations: list[Operation]) -> tuple[Operation, ...]:
    """Drop what versions 1 and 2 refuse too: deletes beside puts."""
    kept = _without_clashes(operations)
    has_put = any(isinstance(operation, Put) for operation in kept)
    return tuple(o for o in kept if not (isinstance(o, Delete) and has_put))


_old_operations: st.SearchStrategy[Operation] = old_puts | deletes | old_gets
_old_lists = st.lists(_old_operations, max_size=4).map(_without_old_clashes)
quotas = st.none() | st.integers(0, 20)
#: Txns that versions 1 and 2 of the command can say.
old_txns = st.builds(Txn, st.lists(old_compares, max_size=2).map(tuple), _old_lists, _old_lists, quotas)


_leaves: st.SearchStrategy[Operation] = puts | deletes | gets


def _txns(
    operations: st.SearchStrategy[Operation], quotas: st.SearchStrategy[int | None]
) -> st.SearchStrategy[Txn]:
    lists = st.lists(operations, max_size=3).map(_without_clashes)
    return st.builds(Txn, st.lists(compares, max_size=1).map(tuple), lists, lists, quotas)


_inner = _txns(_leaves, st.none())
txns = _txns(_leaves | _inner | _txns(_leaves | _inner, st.none()), quotas)
compactions = st.builds(Compact, revisions)
