"""Commands of version 5 as bytes: what stands in logs, what is refused, and that nothing ever raises."""

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.kv import (
    MAX_NAME_BYTES,
    MAX_PASSWORD_BYTES,
    SERVER,
    TO_THE_LAST,
    Access,
    Actor,
    AddRole,
    AddUser,
    AuthChanged,
    AuthCommand,
    ChangePassword,
    Compact,
    CompactResult,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Failed,
    GrantLease,
    GrantPermission,
    GrantRole,
    InvalidTxn,
    LeaseCommand,
    Permission,
    Put,
    Rejected,
    ResetAuth,
    RevokePermission,
    RevokeRole,
    Store,
    Txn,
    TxnResult,
    decode_command,
    encode_command,
)
from raftkv_trio.kv.auth.codec import Envelope, decode_envelope
from raftkv_trio.state_machine import Committed

PUT = Txn(success=(Put(b"k", b"v"),))
PACKED_PUT = encode_command(PUT)
COMMANDS: list[tuple[AuthCommand, list[Any]]] = [
    (EnableAuth(), [1]),
    (DisableAuth(), [2]),
    (AddUser("ann", b"record"), [3, "ann", b"record"]),
    (AddUser("ann", None), [3, "ann", None]),
    (DeleteUser("ann"), [4, "ann"]),
    (ChangePassword("ann", b"record"), [5, "ann", b"record"]),
    (GrantRole("ann", "reader"), [6, "ann", "reader"]),
    (RevokeRole("ann", "reader"), [7, "ann", "reader"]),
    (AddRole("reader"), [8, "reader"]),
    (DeleteRole("reader"), [9, "reader"]),
    (GrantPermission("reader", Permission(Access.WRITE, b"a", b"b")), [10, "reader", 1, b"a", b"b"]),
    (RevokePermission("reader", b"a"), [11, "reader", b"a", None]),
    (ResetAuth(7), [12, 7]),
]


def apply(command: bytes, level: int = 4) -> object:
    store = Store()
    store.set_level(level)
    store.check_command(command)
    (result,) = store.apply([Committed(1, 1, command)])
    return result


@pytest.mark.parametrize(("command", "packed"), COMMANDS)
def test_what_stands_in_logs(command: AuthCommand, packed: list[Any]) -> None:
    """Numbers and order of version 5 do not change."""
    for actor, packed_actor in ((None, None), (Actor("root", 7), ["root", 7])):
        encoded = encode_command(command, actor)
        assert cbor2.loads(encoded) == [5, packed_actor, [], packed]
        assert encoded == cbor2.dumps([5, packed_actor, [], packed])
        assert repr(decode_command(encoded)) == repr(command)
        assert decode_envelope(encoded) == Envelope(actor, (), command)


def test_an_actor_is_put_around_a_command_of_an_older_version() -> None:
    """Without one, or with nobody's, the bytes are those that they were."""
    commands: list[Txn | Compact | LeaseCommand] = [PUT, Compact(5), GrantLease(7, 60)]
    for command in commands:
        body = encode_command(command)
        assert body[1] in (1, 3, 4)
        assert encode_command(command, None) == body
        encoded = encode_command(command, Actor("ann", 3), reads=[(b"k", None), (b"l", b"m")])
        assert encoded == cbor2.dumps([5, ["ann", 3], [[b"k", None], [b"l", b"m"]], body])
        assert repr(decode_command(encoded)) == repr(command)
    assert cbor2.loads(encode_command(Compact(5), SERVER))[1] == ["", 0]
    for length in (10, 100, 240, 1000, 65_520, 65_535, 70_000):
        txn = Txn(success=(Put(b"k", bytes(length)),))
        assert encode_command(txn, SERVER) == cbor2.dumps([5, ["", 0], [], encode_command(txn)])
    with_id = encode_command(PUT, Actor("ann", 3), request_id=b"id")
    assert cbor2.loads(with_id)[3] == encode_command(PUT, request_id=b"id")


NAMED = [5, ["ann", 3], [], PACKED_PUT]
MALFORMED: list[list[Any]] = [
    [5],
    [5, None, []],
    [5, None, [], PACKED_PUT, None],
    [5, [], [], PACKED_PUT],
    [5, ["ann"], [], PACKED_PUT],
    [5, ["ann", 3, 3], [], PACKED_PUT],
    [5, [b"ann", 3], [], PACKED_PUT],
    [5, ["ann", -1], [], PACKED_PUT],
    [5, ["ann", 2**63], [], PACKED_PUT],
    [5, ["ann", True], [], PACKED_PUT],
    [5, ["a" * 256, 3], [], PACKED_PUT],
    [5, True, [], PACKED_PUT],
    [5, None, None, PACKED_PUT],
    [5, None, [b"k"], PACKED_PUT],
    [5, None, [[b"k"]], PACKED_PUT],
    [5, None, [["k", None]], PACKED_PUT],
    [5, None, [[b"k", 1]], PACKED_PUT],
    [5, None, [[b"k", None]] * 8193, PACKED_PUT],
    [5, None, [], b""],
    [5, None, [], b"\x84"],
    [5, None, [], b"\x84\0" + PACKED_PUT[2:]],
    [5, None, [], b"no command at all"],
    [5, None, [], b"\x84\x01 nor this"],
    [5, None, [], cbor2.dumps(NAMED)],
    [5, None, [], cbor2.dumps([6, [], []])],
    [5, None, [], "text"],
    [5, None, [], []],
    [5, None, [[b"k", None]], [1]],
    [5, None, [], [True]],
    [5, None, [], [1.0]],
    [5, None, [], [0]],
    [5, None, [], [12]],
    [5, None, [], [12, -1]],
    [5, None, [], [13]],
    [5, None, [], [1, 1]],
    [5, None, [], [3, "ann"]],
    [5, None, [], [3, "ann", b""]],
    [5, None, [], [3, "ann", bytes(256)]],
    [5, None, [], [3, b"ann", b"record"]],
    [5, None, [], [3, "é" * 128, b"record"]],
    [5, None, [], [5, "ann", None]],
    [5, None, [], [6, "ann", 3]],
    [5, None, [], [10, "reader", 3, b"a", None]],
    [5, None, [], [10, "reader", True, b"a", None]],
    [5, None, [], [10, "reader", 1, "a", None]],
    [5, None, [], [10, "reader", 1, b"a", "b"]],
    [5, None, [], [10, "reader", [1, b"a", None]]],
]


@pytest.mark.parametrize("value", MALFORMED)
def test_what_is_malformed_is_rejected(value: list[Any]) -> None:
    """With a result, on every node the same; and nothing of it is decoded."""
    command = cbor2.dumps(value)
    assert isinstance(apply(command), Rejected)
    with pytest.raises(InvalidTxn):
        decode_command(command)


@pytest.mark.parametrize(
    ("command", "actor"),
    [
        (AddUser("a" * (MAX_NAME_BYTES + 1), None), None),
        (AddUser("a", bytes(MAX_PASSWORD_BYTES + 1)), None),
        (AddUser("a", b""), None),
        (AddUser("\ud800", None), None),
        (AddRole(b"bytes"), None),  # type: ignore[arg-type]
        (GrantPermission("r", Permission(3, b"a")), None),  # type: ignore[arg-type]
        (PUT, Actor("\ud800", 1)),
        (PUT, Actor("ann", -1)),
    ],
)
def test_what_no_store_runs_is_not_encoded(command: Txn | AuthCommand, actor: Actor | None) -> None:
    """Names are texts, and have bounds, and so have the records of passwords."""
    with pytest.raises(InvalidTxn):
        encode_command(command, actor)


def test_the_largest_are_accepted() -> None:
    """A name and a password of the most bytes, and as many reads as a txn may have parts."""
    user = AddUser("é" * (MAX_NAME_BYTES // 2), bytes(MAX_PASSWORD_BYTES))
    assert isinstance(apply(encode_command(user)), AuthChanged)
    reads = [(b"k", TO_THE_LAST)] * 8192
    assert isinstance(apply(encode_command(PUT, Actor("ann", 1), reads=reads)), TxnResult)


def test_below_its_level_no_store_runs_it() -> None:
    """Not even a put in it, since an older program would ask for an upgrade."""
    for command in (encode_command(AddRole("r")), encode_command(PUT, Actor("ann", 1))):
        for level in (1, 2, 3):
            assert isinstance(apply(command, level), Rejected)
        assert isinstance(apply(command), AuthChanged | TxnResult)


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=4) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(), inner, max_size=2),
    max_leaves=8,
)
_name = st.sampled_from(["ann", "root", ""]) | _plain
_actor = st.none() | st.tuples(_name, st.integers(-1, 3) | _plain) | _plain
_body = (
    st.just(PACKED_PUT)
    | _plain
    | st.builds(
        lambda kind, fields: [kind, *fields], st.integers(0, 13), st.lists(_name | st.binary(), max_size=4)
    )
    | st.binary(max_size=8).map(lambda end: b"\x84\x03" + end)
)


@given(st.tuples(st.just(5), _actor, st.just([]) | _plain, _body))
@settings(max_examples=300)
def test_nonsense_is_a_result(value: tuple[object, ...]) -> None:
    """Whatever begins as a command of version 5 has a result; what passes is encoded the same again."""
    command = cbor2.dumps(value)
    result = apply(command)
    try:
        envelope = decode_envelope(command)
    except InvalidTxn:
        assert isinstance(result, Rejected)
        return
    if isinstance(envelope.body, bytes):
        assert isinstance(result, Rejected | TxnResult | CompactResult | Failed)
    else:
        assert isinstance(result, AuthChanged | Failed)
        assert encode_command(envelope.body, envelope.actor) == command


@given(st.binary(max_size=40))
def test_random_bytes_are_a_result(end: bytes) -> None:
    """The same for bytes that are hardly ever CBOR."""
    for length in (0x81, 0x84):
        assert apply(bytes([length]) + b"\5" + end)
