"""Requests with an id are run once: a retry has the first result, on every member, also after a restart."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.errors import CorruptLog
from raftkv_trio.kv import (
    TO_THE_LAST,
    Compact,
    Compare,
    Delete,
    Failed,
    Failure,
    Get,
    InvalidTxn,
    LeaseCommand,
    OverQuota,
    Put,
    RequestReused,
    Result,
    ResultForgotten,
    Store,
    Txn,
    TxnResult,
    encode_command,
    request_window,
)
from raftkv_trio.kv.request_window import Remembered, RequestWindow
from raftkv_trio.state_machine import Committed
from tests.kv.random_commands import Drawing


def apply(
    store: Store, txn: Txn | LeaseCommand, request_id: bytes | None = None, **options: object
) -> Result:
    command = encode_command(txn, request_id=request_id, **options)  # type: ignore[arg-type]
    (result,) = store.apply([Committed(1, 1, command)])
    return result


def revision_of(result: Result) -> int:
    assert isinstance(result, TxnResult)
    return result.revision


def put(key: bytes, value: bytes = b"v") -> Txn:
    return Txn(success=(Put(key, value),))


def test_a_retry_is_not_run() -> None:
    """The same request a second time has the result of the first, whatever happened in between."""
    store = Store()
    first = apply(store, put(b"a"), b"id")
    apply(store, put(b"a", b"of another"), None)
    before = (store.revision, store.state_hash)
    assert apply(store, put(b"a"), b"id") == first
    assert (store.revision, store.state_hash) == before
    assert store.get(b"a") is not None
    assert isinstance(apply(store, put(b"a"), b"another id"), TxnResult)
    assert store.revision == before[0] + 1


def test_another_command_under_the_same_id_is_refused() -> None:
    """Another key, value or list is another command; another quota, as another member stamps it, is not."""
    store = Store()
    first = apply(store, put(b"a"), b"id")
    for other in (put(b"b"), put(b"a", b"x"), Txn(failure=(Put(b"a", b"v"),)), Txn((Compare.absent(b"a"),))):
        assert apply(store, other, b"id") == RequestReused()
    assert apply(store, put(b"a")._replace(quota_bytes=1), b"id") == first
    assert store.revision == 2
    assert RequestReused().refused_as == "request_id_reused"


def test_who_wants_what_was_replaced_makes_another_request() -> None:
    """What a retry wants must be remembered, so a retry that wants more is none."""
    store = Store()
    apply(store, put(b"a"), None)
    first = apply(store, put(b"a", b"x"), b"id", remembers_previous=False)
    assert isinstance(first, TxnResult)
    assert apply(store, put(b"a", b"x"), b"id", remembers_previous=False) == without_previous(first)
    assert apply(store, put(b"a", b"x"), b"id", remembers_previous=True) == RequestReused()


def test_a_fingerprint_may_be_given() -> None:
    """A request that becomes different commands is told by its own fingerprint."""
    store = Store()
    one, other = Txn((Compare.absent(b"a"),), (Put(b"a", b""),)), put(b"a", b"")
    first = apply(store, one, b"id", fingerprint=bytes(16))
    assert apply(store, other, b"id", fingerprint=bytes(16)) == first
    assert apply(store, other, b"id", fingerprint=b"x" * 16) == RequestReused()
    # The fingerprint says that it is the same, and it cannot be: then nothing is run, and no result made up.
    assert apply(store, Txn(success=(Get(b"a"),)), b"id", fingerprint=bytes(16)) == ResultForgotten(2)


def test_what_was_not_run_is_not_remembered() -> None:
    """A request that failed, or met its quota, is run when it is tried again; one of failed compares not."""
    store = Store()
    keeping = Txn(success=(Put(b"a", b"", keeps_value=True),))
    assert apply(store, keeping, b"1") == Failed(Failure.KEY_NOT_FOUND)
    large = put(b"b")._replace(quota_bytes=1)
    assert isinstance(apply(store, large, b"2"), OverQuota)
    guarded = Txn((Compare.exists(b"a"),), (Put(b"c", b""),))
    assert apply(store, guarded, b"3") == TxnResult(False, 1, ())
    apply(store, put(b"a"), None)
    assert isinstance(apply(store, keeping, b"1"), TxnResult)
    assert isinstance(apply(store, large._replace(quota_bytes=10), b"2"), TxnResult)
    assert apply(store, guarded, b"3") == TxnResult(False, 1, ())


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_result_comes_back(seed: int, remembers_previous: bool) -> None:
    """The result of any txn is the same the second time, on a restored copy too."""
    store, drawing = Store(), Drawing(Random(seed))
    requests = []
    for number in range(12):
        drawing.revision = store.revision
        command = drawing.command()
        if isinstance(command, Compact):
            continue
        if not isinstance(command, Txn):
            apply(store, command)
            continue
        request_id = b"%d" % number
        result = apply(store, command, request_id, remembers_previous=remembers_previous)
        if isinstance(result, TxnResult):
            requests.append((command, request_id, result))
    copy = Store()
    copy.restore(list(store.snapshot()))
    assert copy.state_hash == store.state_hash
    for command, request_id, first in requests:
        expected = first if remembers_previous else without_previous(first)
        for one in (store, copy):
            assert apply(one, command, request_id, remembers_previous=remembers_previous) == expected


def without_previous(result: TxnResult) -> TxnResult:
    inner = []
    for one in result.results:
        match one:
            case TxnResult():
                inner.append(without_previous(one))
            case _ if hasattr(one, "previous_record"):
                inner.append(one._replace(previous_record=None))  # type: ignore[arg-type, call-arg]
            case _ if hasattr(one, "records"):
                inner.append(one._replace(keys=(), records=()))  # type: ignore[arg-type, call-arg]
            case _:
                inner.append(one)  # type: ignore[arg-type]
    return result._replace(results=tuple(inner))


def test_the_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest request is forgotten first, by their number, and what is left comes back from a snapshot."""
    monkeypatch.setattr(request_window, "MAX_REQUESTS", 3)
    store = Store()
    for number in range(4):
        apply(store, put(b"%d" % number), b"%d" % number)
    assert [request_id for request_id, _ in store.requests.items()] == [b"1", b"2", b"3"]
    copy = Store()
    copy.restore(list(store.snapshot()))
    for one in (store, copy):
        assert revision_of(apply(one, put(b"1"), b"1")) == 3
        assert revision_of(apply(one, put(b"0"), b"0")) == 6  # run again
        assert revision_of(apply(one, put(b"2"), b"2")) == 4
    assert store.state_hash == copy.state_hash


def test_the_window_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large results push out older ones, and one may be too large; no request is run again for that."""
    monkeypatch.setattr(request_window, "MAX_WINDOW_BYTES", 3000)
    monkeypatch.setattr(request_window, "MAX_RESULT_BYTES", 2000)
    store = Store()
    apply(store, put(b"large", bytes(1500)), None)
    reading = Txn(success=(Get(b"large"), Put(b"x", b"")))
    first, second = revision_of(apply(store, reading, b"1")), apply(store, reading, b"2")
    copy = Store()
    copy.restore(list(store.snapshot()))
    for one in (store, copy):
        assert apply(one, reading, b"1") == ResultForgotten(first)
        assert apply(one, reading, b"2") == second
        for request_id in (b"small", b"large", b"large too"):
            apply(one, put(request_id) if request_id == b"small" else reading, request_id)
        assert apply(one, reading, b"2") == ResultForgotten(4)
        assert apply(one, reading, b"1") == ResultForgotten(first)
        assert one.revision == 7
    assert copy.state_hash == store.state_hash
    two = Txn(success=(Get(b"large"), Get(b"large"), Put(b"x", b"")))
    revision = revision_of(apply(store, two, b"3"))
    assert apply(store, two, b"3") == ResultForgotten(revision)
    assert store.revision == revision
    assert [request_id for request_id, _ in store.requests.items()][:2] == [b"1", b"2"]
    deleting = Txn(success=(Delete(b"\0", TO_THE_LAST),))
    apply(store, put(b"larger", bytes(2500)), None)
    assert isinstance(apply(store, deleting, b"4"), TxnResult)
    assert isinstance(apply(store, deleting, b"4"), ResultForgotten)
    assert store.requests.size_bytes <= 3000


def test_requests_are_in_the_hash() -> None:
    """Each part of what is remembered is, and the order of requests, and how many were forgotten."""
    hashes = []
    for requests in [[], [b"1"], [b"2"], [b"1", b"2"], [b"2", b"1"]]:
        store = Store()
        for request_id in requests:
            apply(store, Txn(), request_id)
        assert store.revision == 1
        hashes.append(store.state_hash)
    assert len(set(hashes)) == len(hashes)


def test_what_no_request_is() -> None:
    """An id is of 1 to 255 bytes, a fingerprint of 16; a compaction has none."""
    for request_id in (b"", bytes(256)):
        with pytest.raises(InvalidTxn):
            encode_command(put(b"a"), request_id=request_id)
    with pytest.raises(InvalidTxn):
        encode_command(put(b"a"), request_id=b"1", fingerprint=b"short")
    with pytest.raises(InvalidTxn):
        encode_command(Compact(1), request_id=b"1")


@pytest.mark.parametrize(
    "items",
    [
        [[b"1", bytes(16), 1, None], [b"1", bytes(16), 1, None]],
        [[b"", bytes(16), 1, None]],
        [[b"1", bytes(15), 1, None]],
        [[b"1", bytes(16), -1, None]],
        [[b"1", bytes(16), 1, "text"]],
        [[b"1", bytes(16), 1]],
        ["1"],
        [[b"%d" % n, bytes(16), 1, None] for n in range(10_001)],
    ],
)
def test_a_window_that_no_store_has_is_corrupt(items: list[object]) -> None:
    """A snapshot's requests are checked one by one, and as a whole."""
    with pytest.raises(CorruptLog):
        RequestWindow.of(items, len(items))
    assert len(RequestWindow.of([[b"1", bytes(16), 1, None]], 7)) == 1
    assert Remembered(bytes(16), 1, None).result is None
