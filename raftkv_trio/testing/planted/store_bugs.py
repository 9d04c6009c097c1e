"""Bugs in the key-value store: txns, revisions, compactions, retries, and the snapshots of all that."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raftkv_trio.kv import CommandFailed, InvalidTxn, Store, Txn, TxnResult, applying, decode_command
from raftkv_trio.kv import history as kv_history
from raftkv_trio.kv.keyspace import Keyspace
from raftkv_trio.kv.record import mod_bytes_of
from raftkv_trio.kv.running import TxnRun
from raftkv_trio.node.node import Node
from raftkv_trio.testing.planted.bug import PlantedBug, bug, replaced

BUGS: list[PlantedBug] = []


@contextmanager
def _compare_at_request_time() -> Iterator[None]:
    submit: Any = Node.submit
    choose: Any = TxnRun.choose
    chosen: dict[Txn, object] = {}

    def submit_chosen(node: Any, command: bytes) -> object:
        store = node._parts.applier.machine.inner
        try:
            txn = decode_command(command)
        except InvalidTxn:  # a stranger's
            return submit(node, command)
        if isinstance(txn, Txn):
            chosen[txn] = choose(TxnRun(store._space), txn)
        return submit(node, command)

    def choose_as_submitted(run: TxnRun, txn: Txn) -> object:
        return chosen.get(txn) or choose(run, txn)

    with replaced(Node, "submit", submit_chosen), replaced(TxnRun, "choose", choose_as_submitted):
        yield


BUGS.append(
    PlantedBug(
        "compare-at-request-time",
        "the compares of a txn look at the state of the node that is asked, when it is asked",
        _compare_at_request_time,
    )
)


@contextmanager
def _txn_by_half() -> Iterator[None]:
    run_path: Any = TxnRun.run_path
    read: Any = Keyspace.read

    def run_path_so_far(run: Any, path: object, revision: int, changed: list[bytes]) -> object:
        try:
            return run_path(run, path, revision, changed)
        except CommandFailed:
            if changed and run._space.revision < revision:
                run._space.finish(revision, changed)
            raise

    def checked_read(space: Keyspace, get: Any, revision: int) -> object:
        if get.revision is not None:
            space.check_revision(get.revision)
        return read(space, get, revision)

    with (
        replaced(TxnRun, "check_ranges", lambda run, path: None),
        replaced(TxnRun, "run_path", run_path_so_far),
        replaced(Keyspace, "read", checked_read),
    ):
        yield


BUGS.append(PlantedBug("txn-by-half", "a txn one of whose reads fails is run up to that read", _txn_by_half))


@bug(
    BUGS,
    "read-takes-a-revision",
    "a txn of reads takes a revision as one of writes does, on the one node that runs it",
    Store,
    "read_txn",
)
def _(original: Any) -> object:
    def read_txn(store: Any, txn: Txn) -> TxnResult:
        result: TxnResult = original(store, txn)
        store._space.revision += 1
        return result

    return read_txn


@bug(
    BUGS,
    "compaction-waits-for-snapshot",
    "a node that is taking a snapshot passes a compaction over",
    Keyspace,
    "compact",
)
def _(original: Any) -> object:
    def compact(space: Any, revision: int) -> None:
        if not any(view() is not None for view in space.history.views):
            original(space, revision)

    return compact


@bug(
    BUGS,
    "compaction-too-far",
    "a compaction drops the values that its own revision shows",
    kv_history,
    "_dropped_count",
)
def _(original: Any) -> object:
    return lambda past, present, revision: bisect_right(past, revision, key=mod_bytes_of)


@bug(
    BUGS,
    "snapshot-without-past",
    "what was superseded is not restored from a snapshot",
    Keyspace,
    "restore",
)
def _(original: Any) -> object:
    def restore(space: Any, reader: object) -> None:
        original(space, reader)
        space.history.past.clear()
        space.history.dead.clear()

    return restore


@bug(
    BUGS,
    "retry-runs-again",
    "a write that a client asks for again under its request id is run again",
    applying,
    "decode_request",
)
def _(original: Any) -> object:
    return lambda command: (original(command)[0], None)


@bug(
    BUGS,
    "snapshot-without-requests",
    "which requests were run is not restored from a snapshot",
    Store,
    "restore",
)
def _(original: Any) -> object:
    def restore(store: Any, chunks: object) -> None:
        original(store, chunks)
        store.requests._requests.clear()

    return restore
