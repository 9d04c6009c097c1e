"""Commands as bytes: what is encoded comes back, and nothing else ever passes or raises anything else."""

import re

import cbor2
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from raftkv_trio.errors import UpgradeNeeded
from raftkv_trio.kv import (
    Compare,
    Delete,
    Get,
    InvalidTxn,
    Put,
    Rejected,
    Relation,
    Store,
    Target,
    Txn,
    decode_command,
    encode_txn,
)
from raftkv_trio.state_machine import Committed
from tests.kv.model import Model
from tests.kv.strategies import txns

_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=4) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(), inner, max_size=2),
    max_leaves=12,
)


@given(txns)
def test_round_trip(txn: Txn) -> None:
    """A txn comes back equal, of the same types."""
    assert decode_command(encode_txn(txn)) == txn
    assert repr(decode_command(encode_txn(txn))) == repr(txn)


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
        [4, [], [], []],
        [4],
        [23, [], [], []],
        [4, [[[[[[]]]]]], [], [], b"more"],
        [4, *[0] * 22],
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
    """Whether these bytes are a short list whose first item is a small number over 3."""
    return re.match(rb"[\x81-\x97][\x04-\x17]", command) is not None


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
