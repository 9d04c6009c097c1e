"""Commands as bytes: what is encoded comes back, and nothing else ever passes or raises anything else."""

import re
from collections.abc import Callable
from random import Random
from typing import Any

import cbor2
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from raftkv_trio.errors import UpgradeNeeded
from raftkv_trio.kv import (
    MAX_NESTING,
    TO_THE_LAST,
    AuthChanged,
    AuthCommand,
    Compact,
    Compare,
    Delete,
    Failed,
    Fault,
    Get,
    InvalidTxn,
    Operation,
    Put,
    PutResult,
    Rejected,
    Relation,
    Store,
    Target,
    Txn,
    TxnResult,
    check_txn,
    decode_command,
    encode_command,
    encode_txn,
)
from raftkv_trio.kv.codec import _any_old, _puts_of_version_2, _txn, decode_request
from raftkv_trio.state_machine import Committed
from tests.kv.model import Model
from tests.kv.random_commands import Drawing
from tests.kv.strategies import txns

_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=4) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(), inner, max_size=2),
    max_leaves=12,
)


seeds = st.integers(0, 2**32)
put = Txn(success=(Put(b"k", b"v"),))


@given(txns)
@settings(max_examples=50, deadline=None)
def test_round_trip(txn: Txn) -> None:
    """A txn comes back equal, of the same types."""
    assert decode_command(encode_txn(txn)) == txn
    assert repr(decode_command(encode_txn(txn))) == repr(txn)


@given(seeds)
@settings(max_examples=200)
def test_round_trip_of_any_command(seed: int) -> None:
    """So do inner txns and compactions, and a request id changes nothing of it."""
    command = Drawing(Random(seed)).command()
    assert repr(decode_command(encode_command(command))) == repr(command)
    if isinstance(command, Txn):
        decoded, request = decode_request(encode_command(command, request_id=b"id"))
        assert repr(decoded) == repr(command)
        assert request is not None
        assert (request.id, request.remembers_previous) == (b"id", True)


def test_the_oldest_version_that_can_say_all() -> None:
    """What older programs can run stays as it is; the rest is of version 3, and in no other form."""
    old = [put, Txn((Compare.exists(b"k"),), (Get(b"k"),), (Delete(b"k"), Get(b"k", b"z", 0)))]
    assert [encode_command(txn)[1] for txn in old] == [1, 1]
    assert [encode_command(txn._replace(quota_bytes=5))[1] for txn in old] == [2, 2]
    new: list[Txn | Compact] = [
        Txn((Compare(b"k", Target.LEASE, Relation.LESS, 7),)),
        Txn((Compare(b"k", Target.VERSION, Relation.LESS, -7),)),
        Txn((Compare(b"k", Target.VERSION, Relation.LESS, 7, b"z"),)),
        Txn(success=(Put(b"k", b"v", -1),)),
        Txn(success=(Put(b"k", b"", keeps_value=True),)),
        Txn(success=(Put(b"k", b"v", keeps_lease=True),)),
        Txn(success=(Get(b"k", revision=1),)),
        Txn(success=(Txn(),)),
        Txn(success=(Put(b"k", b"v"), Delete(b"a", TO_THE_LAST))),  # etcd takes it, and version 2 does not
        Compact(1),
    ]
    for command in new:
        encoded = encode_command(command)
        assert encoded[1] == 3
        assert repr(decode_command(encoded)) == repr(command)
    assert encode_command(put, request_id=b"id")[1] == 3


def test_form_of_version_3_stands_in_logs() -> None:
    """Numbers and order of version 3 do not change."""
    txn = Txn(
        (Compare(b"k", Target.LEASE, Relation.LESS, 7, b"z"),),
        (Put(b"a", b"", 5, True, False), Txn(failure=(Delete(b"c", b"d"),))),
        (Get(b"e", b"f", 1, 9),),
        100,
    )
    assert cbor2.loads(
        encode_command(txn, request_id=b"id", fingerprint=bytes(16), remembers_previous=False)
    ) == [
        3,
        [b"id", bytes(16), False],
        [
            1,
            [[b"k", 4, 3, 7, b"z"]],
            [[1, b"a", b"", 5, True, False], [4, [], [], [[2, b"c", b"d"]]]],
            [[3, b"e", b"f", 1, 9]],
            100,
        ],
    ]
    assert cbor2.loads(encode_command(Compact(5))) == [3, None, [2, 5]]
    fingerprint = cbor2.loads(encode_command(put, request_id=b"id"))[1][1]
    assert fingerprint.hex() == "293078bd796b7f6105e33f6458192ceb"  # a retry may come after an upgrade


@pytest.mark.parametrize(
    "value",
    [
        [3],
        [3, None],
        [3, None, [2, 1], None],
        [3, None, [2, -1]],
        [3, None, [2, 2**63]],
        [3, None, [2, True]],
        [3, None, [2.0, 1]],
        [3, None, [True, [], [], [], None]],
        [3, None, [3, 1]],
        [3, [b"id", bytes(16), True], [2, 1]],
        [3, None, [1, [], [], []]],
        [3, None, [1, [], [], [], -1]],
        [3, None, [1, [], [], [], None, None]],
        [3, [], [1, [], [], [], None]],
        [3, [b"", bytes(16), True], [1, [], [], [], None]],
        [3, [bytes(256), bytes(16), True], [1, [], [], [], None]],
        [3, [b"id", bytes(15), True], [1, [], [], [], None]],
        [3, [b"id", bytes(16), 1], [1, [], [], [], None]],
        [3, None, [1, [[b"k", 5, 0, 0, None]], [], [], None]],
        [3, None, [1, [[b"k", 0, 4, 0, None]], [], [], None]],
        [3, None, [1, [[b"k", 0, 0, b"", None]], [], [], None]],
        [3, None, [1, [[b"k", 3, 0, 0, None]], [], [], None]],
        [3, None, [1, [[b"k", 0, 0, 2**63, None]], [], [], None]],
        [3, None, [1, [[b"k", 0, 0, 0]], [], [], None]],
        [3, None, [1, [], [[1, b"k", b"v", None]], [], None]],
        [3, None, [1, [], [[1, b"k", b"v", None, 0, False]], [], None]],
        [3, None, [1, [], [[1, b"k", b"v", None, True, False]], [], None]],
        [3, None, [1, [], [[1, b"k", b"", 1, True, True]], [], None]],
        [3, None, [1, [], [[3, b"k", None, None, -1]], [], None]],
        [3, None, [1, [], [[4, [], [], [], None]], [], None]],
        [3, None, [1, [], [[5, b"k"]], [], None]],
        [3, None, [1, [], [[]], [], None]],
    ],
)
def test_each_field_of_version_3_is_checked(value: object) -> None:
    """One field that is wrong is enough to be refused, with a result."""
    with pytest.raises(InvalidTxn):
        decode_command(cbor2.dumps(value))
    (result,) = Store().apply([Committed(1, 1, cbor2.dumps(value))])
    assert isinstance(result, Rejected)


@given(seeds, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=400)
def test_a_damaged_command_is_refused_or_is_another(seed: int, flips: list[tuple[int, int]]) -> None:
    """Bytes of a command that are changed are refused, or are one command in every program."""
    command = bytearray(encode_command(Drawing(Random(seed)).command(), request_id=None))
    for place, value in flips:
        command[place % len(command)] = value
    if begins_as_newer(bytes(command)):
        return
    (result,) = Store().apply([Committed(1, 1, bytes(command))])
    try:
        decoded = decode_command(bytes(command))
    except InvalidTxn:
        assert isinstance(result, Rejected)
        return
    assert decode_command(encode_command(decoded)) == decoded


def nested(depth: int, innermost: Operation) -> Txn:
    """A txn of so many levels, of which the innermost one has this operation."""
    txn = Txn(success=(innermost,))
    for _ in range(depth - 1):
        txn = Txn(success=(txn,))
    return txn


def test_nesting_is_bounded() -> None:
    """Txns in txns end at `MAX_NESTING`; a command that is deeper is refused however deep it is."""
    deepest = nested(MAX_NESTING, Put(b"k", b"v"))
    assert decode_command(encode_command(deepest)) == deepest
    (result,) = Store().apply([Committed(1, 1, encode_command(deepest))])
    for _ in range(MAX_NESTING):
        assert isinstance(result, TxnResult)
        (result,) = result.results  # type: ignore[assignment]
    assert isinstance(result, PutResult)
    with pytest.raises(InvalidTxn, match="nested more than 16 deep") as refusal:
        encode_command(nested(MAX_NESTING + 1, Put(b"k", b"v")))
    assert refusal.value.fault is Fault.TOO_MANY_OPERATIONS
    for depth in (MAX_NESTING + 1, 100, 100_000):
        lists = b"\x81\x84\x04\x80" * depth + b"\x80" + b"\x80" * depth
        command = b"\x83\x03\xf6\x85\x01\x80" + lists + b"\x80\xf6"
        (refused,) = Store().apply([Committed(1, 1, command)])
        assert isinstance(refused, Rejected)


def test_all_parts_of_a_txn_are_bounded_together() -> None:
    """Inner txns have etcd's bound of operations, less at each level, and ours of all parts together."""
    gets = tuple(Get(b"%d" % n) for n in range(64))
    wide = Txn(success=tuple(Txn(success=gets) for _ in range(64)))
    assert decode_command(encode_command(wide)) == wide
    with pytest.raises(InvalidTxn, match="more than 8192") as refusal:
        encode_command(wide._replace(failure=wide.success))
    assert refusal.value.fault is Fault.TOO_MANY_OPERATIONS
    with pytest.raises(InvalidTxn, match="more than 128"):
        encode_command(Txn(success=(*gets, Txn(success=(*gets, Get(b"k"))))))


DUPLICATE = Fault.DUPLICATE_KEY
ON_K = Put(b"k", b"")


@pytest.mark.parametrize(
    ("txn", "fault"),
    [
        # Each was asked of etcd 3.4.23.
        (Txn(success=(ON_K, ON_K)), DUPLICATE),
        (Txn(success=(ON_K,), failure=(Delete(b"k"),)), None),
        (Txn(success=(Delete(b"k"), Delete(b"k"))), None),
        (Txn(success=(Delete(b"a", b"z"), ON_K)), DUPLICATE),
        (Txn(success=(ON_K, Delete(b"z", b"a"))), None),
        (Txn(success=(Delete(b"a", TO_THE_LAST), ON_K)), None),
        (Txn(success=(Delete(b"a", TO_THE_LAST), Txn(success=(ON_K,)))), None),
        (Txn(success=(ON_K, Txn(success=(ON_K,)))), DUPLICATE),
        (Txn(success=(ON_K, Txn(success=(Delete(b"a", b"z"),)))), DUPLICATE),
        (Txn(success=(Txn(success=(ON_K,), failure=(ON_K,)),)), None),
        (Txn(success=(Txn(success=(Delete(b"k"),), failure=(ON_K,)),)), None),
        (Txn(success=(Txn(success=(ON_K,)), Txn(success=(ON_K,)))), DUPLICATE),
        (Txn(success=(Txn(success=(ON_K,)), Txn(failure=(ON_K,)))), DUPLICATE),
        (Txn(success=(Txn(success=(ON_K,)), Txn(success=(Delete(b"k"),)))), None),
        (Txn(success=(Txn(success=(Delete(b"k"),)), Txn(success=(ON_K,)))), DUPLICATE),
        (Txn(success=(Delete(b"k"), Txn(success=(ON_K,)))), DUPLICATE),
        (Txn(success=(Txn(success=(Delete(b"k"),)), ON_K)), DUPLICATE),
        (Txn(success=(Txn(success=(Delete(b"a", b"z"),)), Txn(success=(Delete(b"a", b"z"),)))), None),
        (Txn((Compare.exists(b""),) * 129), Fault.TOO_MANY_OPERATIONS),
        (Txn((Compare.exists(b""),), (Txn(success=(ON_K,) * 129),)), Fault.EMPTY_KEY),
        (Txn(success=(Txn(success=(ON_K,) * 129),), failure=(Put(b"", b""),)), Fault.TOO_MANY_OPERATIONS),
        (Txn(success=(ON_K, ON_K, Txn(success=(Put(b"", b""),)))), Fault.EMPTY_KEY),
        (Txn(success=(Put(b"k", b"x", None, True),), failure=(Put(b"", b""),)), Fault.VALUE_PROVIDED),
        (Txn(success=(Put(b"k", b"x", 4, True, True),)), Fault.VALUE_PROVIDED),
        (Txn(success=(Put(b"k", b"x", 4, False, True),)), Fault.LEASE_PROVIDED),
        # etcd lets this pass, and panics when it runs it: the put finds no key.
        (Txn(success=(Delete(b"a", TO_THE_LAST), Put(b"k", b"", keeps_value=True))), DUPLICATE),
        (
            Txn(
                success=(
                    Txn(success=(Put(b"k", b"", keeps_value=True),)),
                    Txn(success=(Delete(b"a", b"\0"),)),
                )
            ),
            None,
        ),
    ],
)
def test_the_first_fault_is_the_one_that_etcd_names(txn: Txn, fault: Fault | None) -> None:
    """etcd's rules of what no txn may have, its gaps included, in the order in which it looks."""
    if fault is None:
        check_txn(txn)
        assert decode_command(encode_command(txn)) == txn
        return
    with pytest.raises(InvalidTxn) as refusal:
        check_txn(txn)
    assert refusal.value.fault is fault


def test_form_of_a_put_stands_in_logs() -> None:
    """The bytes of version 1 do not change: logs of older programs hold them."""
    assert encode_txn(Txn(success=(Put(b"/k", b"v"),))).hex() == "840180818401422f6b4176f680"


def test_form_of_everything_else_stands_in_logs() -> None:
    """Numbers of targets, relations and operations do not change either."""
    txn = Txn(
        (
            Compare(b"k", Target.MOD_REVISION, Relation.LESS, 7),
            Compare(b"k", Target.VALUE, Relation.EQUAL, b"v"),
        ),
        (Delete(b"a", b"b"),),
        (Get(b"a", None, 3),),
    )
    assert cbor2.loads(encode_txn(txn)) == [
        1,
        [[b"k", 2, 3, 7], [b"k", 3, 0, b"v"]],
        [[2, b"a", b"b"]],
        [[3, b"a", None, 3]],
    ]


def test_a_quota_makes_a_command_of_version_2() -> None:
    """And no quota makes the same bytes as before there were quotas, which older programs can run."""
    txn = Txn(success=(Put(b"/k", b"v"),))
    assert cbor2.loads(encode_txn(txn._replace(quota_bytes=5))) == [2, [], [[1, b"/k", b"v", None]], [], 5]
    assert cbor2.loads(encode_txn(txn))[0] == 1


@pytest.mark.parametrize(
    "value",
    [
        [6, [], [], []],
        [6],
        [23, [], [], []],
        [6, [[[[[[]]]]]], [], [], b"more"],
        [6, *[0] * 22],
    ],
)
def test_a_newer_version_is_never_a_result(value: list[object]) -> None:
    """A command of any later version raises: upgraded nodes run it, so refusing it here would be a fork."""
    store = Store()
    with pytest.raises(UpgradeNeeded, match=f"entry 7 holds a command of version {value[0]}; .* upgrade"):
        store.apply([Committed(1, 7, cbor2.dumps(value))])
    with pytest.raises(UpgradeNeeded):
        decode_command(cbor2.dumps(value))
    with pytest.raises(UpgradeNeeded):
        store.check_command(cbor2.dumps(value))


def begins_as_newer(command: bytes) -> bool:
    """Whether these bytes are a short list whose first item is a small number over 5."""
    return re.match(rb"[\x81-\x97][\x06-\x17]", command) is not None


@given(st.binary(max_size=60))
@example(b"\xc1" * 100_000 + b"\0")  # tags in tags
@example(b"\x81" * 100_000)  # lists in lists
@example(b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff")  # a list of 2**63 - 1
@example(b"\x84\x01\x80\x80\xd8\x1c\x81\xd8\x1d\x00")  # a list that holds itself
@example(b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01")  # a decimal of 2**63 digits
def test_nonsense_is_a_result(command: bytes) -> None:
    """Any bytes are a command that is refused or a txn, unless they begin as a command of a newer version."""
    if begins_as_newer(command):
        with pytest.raises(UpgradeNeeded):
            Store().apply([Committed(1, 1, command)])
        return
    Store().check_command(command)
    (result,) = Store().apply([Committed(1, 1, command)])
    try:
        txn = decode_command(command)
    except InvalidTxn:
        assert isinstance(result, Rejected)
    else:
        if isinstance(txn, AuthCommand):
            assert isinstance(result, AuthChanged | Failed)
        else:
            assert result == Model().run_command(txn)


@given(
    _plain
    | st.tuples(st.just(1), _plain, _plain, _plain)
    | st.tuples(st.just(2), _plain, _plain, _plain, _plain)
)
def test_other_cbor_is_refused(value: object) -> None:
    """CBOR of another layout raises InvalidTxn and nothing else; what passes is encoded the same again."""
    command = cbor2.dumps(value)
    assume(not begins_as_newer(command))
    try:
        txn = decode_command(command)
    except InvalidTxn:
        return
    assert encode_txn(txn) == command


@pytest.mark.parametrize(
    "value",
    [
        [0, [], [], []],
        [24, [], [], []],
        [True, [], [], []],
        [1, [], []],
        [1, [], [], [], []],
        [1, [], [], [], 5],
        [2, [], [], [], None],
        [2, [], [], []],
        [2, [], [], [], True],
        [2, [], [], [], -1],
        [2, [], [], [], 2**63],
        [2, [], [], [], 5, 5],
        [1, [], [[]], []],
        [1, [], [[1]], []],
        [1, [], [[True, b"k", b"v", None]], []],
        [1, [], [[1, b"k", "v", None]], []],
        [1, [], [[1, b"k", b"v", -1]], []],
        [1, [], [[1, b"k", b"v", 2**63]], []],
        [1, [], [[4, b"k", b"v", None]], []],
        [1, [[b"k", 4, 0, 0]], [], []],
        [1, [[b"k", 0, 4, 0]], [], []],
        [1, [[b"k", 0, 0, b"v"]], [], []],
        [1, [[b"k", 3, 0, 1]], [], []],
        [1, [[b"k", 0, 0, 1.0]], [], []],
    ],
)
def test_each_field_is_checked(value: object) -> None:
    """One field that is wrong is enough to be refused."""
    with pytest.raises(InvalidTxn):
        decode_command(cbor2.dumps(value))


@pytest.mark.parametrize(
    "txn",
    [
        Txn(success=(Put(b"", b"v"),)),
        Txn(failure=(Delete(b""),)),
        Txn(compares=(Compare.exists(b""),)),
        Txn(success=(Put(b"k", b"1"), Put(b"k", b"2"))),
        Txn(failure=(Put(b"k", b"1"), Delete(b"k"))),
        Txn(success=(Delete(b"a", b"z"), Put(b"k", b"1"))),
        Txn(success=tuple(Put(b"%d" % n, b"") for n in range(129))),
    ],
)
def test_what_etcd_refuses_is_refused_on_both_ways(txn: Txn) -> None:
    """A txn with an empty key, a key that is put and changed again, or too many parts is not sent nor run."""
    with pytest.raises(InvalidTxn):
        encode_txn(txn)
    kinds = {Put: 1, Delete: 2}
    lists = [[[kinds[type(o)], *o] for o in operations] for operations in (txn.success, txn.failure)]
    with pytest.raises(InvalidTxn):
        decode_command(cbor2.dumps([1, [list(c) for c in txn.compares], *lists]))


def outcome(decode: Callable[[object], object], value: object) -> object:
    try:
        return decode(value)
    except InvalidTxn as error:
        return str(error)


@st.composite
def put_lists(draw: st.DrawFn) -> object:
    """Items of plain puts, of which one may be wrong in one field."""
    count = draw(st.sampled_from([0, 1, 2, 3, 128, 129]))
    items: list[Any] = [[1, b"%d" % n, b"v", None] for n in range(count)]
    if draw(st.booleans()) and items:
        fields: list[list[Any]] = [[True, 1.0, 2, None], [b"", "a", None, b"0"], ["v", None], [0, 7, b""]]
        field = draw(st.integers(0, 3))
        items[-1][field] = draw(st.sampled_from(fields[field]))
    elif draw(st.booleans()) and items:
        wrong: list[Any] = [None, [1, b"k", b"v"], [1, b"k", b"v", None, None], {}]
        items[-1] = draw(st.sampled_from(wrong))
    return items


@settings(max_examples=500)
@example(version=2, compares=[], success=[[1, b"", b"v", None], [1, b"k", b"v", None]], failure=[], quota=5)
@given(
    version=st.sampled_from([2, 2, 2, 2, 2, 1, True, 2.0]),
    compares=st.sampled_from([[], [], [], [], [[b"k", 0, 0, 1]]]),
    success=put_lists(),
    failure=st.sampled_from([[], [], [], [], [[2, b"k", None]]]),
    quota=st.sampled_from([5, 5, 5, 0, None, -1, True, 2**63]),
)
def test_the_short_ways_are_the_long_way(
    version: object, compares: object, success: object, failure: object, quota: object
) -> None:
    """What decodes by a short way decodes to the same by the long one, and what does not is refused alike."""
    value = [version, compares, success, failure, quota]
    short = outcome(lambda value: _puts_of_version_2(value) or _any_old(value), value)
    assert short == outcome(_any_old, value)


@settings(max_examples=500)
@given(
    success=put_lists(),
    flags=st.sampled_from(
        [[False, False], [False, False], [0, False], [False, True], [None, False], [False]]
    ),
    compares=st.sampled_from([[], [], [[b"k", 0, 0, 1, None]]]),
)
def test_the_short_way_of_version_3_is_the_long_way(success: object, flags: object, compares: object) -> None:
    """The same for version 3, whose puts have two fields more."""
    assert isinstance(success, list)
    assert isinstance(flags, list)
    puts = [
        [*item, *(flags if item is success[-1] else (False, False))] if item else item for item in success
    ]

    def the_long_way(_: object) -> Txn:
        txn = _txn(compares, puts, [], 5)
        check_txn(txn)
        return txn

    command = cbor2.dumps([3, None, [1, compares, puts, [], 5]])
    assert outcome(lambda _: decode_request(command)[0], command) == outcome(the_long_way, command)
