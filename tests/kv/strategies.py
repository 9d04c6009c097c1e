"""Hypothesis strategies for txns over a few keys, so that they meet."""

from hypothesis import strategies as st

from raftkv_trio.kv import TO_THE_LAST, Compare, Delete, Get, Put, Relation, Target, Txn

KEYS = [b"/a", b"/a\0", b"/ab", b"/b", b"/c", b"\xff", b"\xff\xff"]

keys = st.sampled_from(KEYS)
values = st.binary(max_size=3)
range_ends = st.none() | st.just(TO_THE_LAST) | keys
relations = st.sampled_from(Relation)
revisions = st.integers(0, 12)

compares = st.builds(
    Compare, keys, st.sampled_from([t for t in Target if t is not Target.VALUE]), relations, revisions
) | st.builds(Compare, keys, st.just(Target.VALUE), relations, values)

puts = st.builds(Put, keys, values, st.none() | st.integers(0, 3))
deletes = st.builds(Delete, keys, range_ends)
gets = st.builds(Get, keys, range_ends, st.none() | st.integers(0, 3))


def _without_clashes(operations: list[Put | Delete | Get]) -> tuple[Put | Delete | Get, ...]:
    """Drop what `check_txn` refuses: puts of keys that are put already, and deletes beside puts."""
    put: set[bytes] = set()
    kept: list[Put | Delete | Get] = []
    for operation in operations:
        if isinstance(operation, Put):
            if operation.key in put:
                continue
            put.add(operation.key)
        kept.append(operation)
    return tuple(o for o in kept if not (isinstance(o, Delete) and put))


operation_lists = st.lists(puts | deletes | gets, max_size=4).map(_without_clashes)
quotas = st.none() | st.integers(0, 20)
txns = st.builds(Txn, st.lists(compares, max_size=2).map(tuple), operation_lists, operation_lists, quotas)
