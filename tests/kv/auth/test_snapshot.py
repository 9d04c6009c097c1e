"""Users and roles in snapshots: they come back, and what no store has written is refused."""

from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import pytest

from raftkv_trio.errors import CorruptLog
from raftkv_trio.kv import (
    AUTH_LEVEL,
    ROOT,
    TO_THE_LAST,
    Access,
    AddRole,
    AddUser,
    AuthCommand,
    AuthFailed,
    ChangePassword,
    EnableAuth,
    GrantLease,
    GrantPermission,
    GrantRole,
    Permission,
    Put,
    Store,
    Txn,
    encode_command,
)
from raftkv_trio.state_machine import Committed

COMMANDS: list[AuthCommand] = [
    AddUser(ROOT, b"record"),
    GrantRole(ROOT, ROOT),
    AddRole("reader"),
    AddRole("writer"),
    GrantPermission("reader", Permission(Access.READ, b"a", b"c")),
    GrantPermission("reader", Permission(Access.READ, b"a")),
    GrantPermission("writer", Permission(Access.READWRITE, b"b", TO_THE_LAST)),
    AddUser("ann", None),
    GrantRole("ann", "writer"),
    GrantRole("ann", "reader"),
    EnableAuth(),
    ChangePassword(ROOT, b"another"),
]


def store_of(commands: list[AuthCommand]) -> Store:
    store = Store()
    store.apply([Committed(1, 1, encode_command(GrantLease(7, 60)))])
    store.run(Txn(success=(Put(b"a", b"v", 7),)))
    for command in commands:
        store.run_auth_command(command)
    return store


def test_what_a_snapshot_says() -> None:
    """The form of version 4 does not change: the head, and the four parts behind the leases."""
    first, leases, *chunks = map(cbor2.loads, store_of(COMMANDS).snapshot())
    assert first == [4, 2, -1, 1, 0, 0, 0, 1, 1, True, 12, 2, 3, 2, 3]
    assert leases == [[7, 60, 1, 1, 0]]
    assert chunks[:4] == [
        [["reader"], ["writer"]],
        [["reader", 0, b"a", None], [None, 0, b"a", b"c"], ["writer", 2, b"b", TO_THE_LAST]],
        [["ann", None, 9], ["root", b"another", 12]],
        [["ann", "reader"], [None, "writer"], ["root", "root"]],
    ]
    assert chunks[4] == [[b"a", b"v", 2, 2, 1, 7]]


def test_a_snapshot_is_of_its_moment() -> None:
    """What changes while its chunks are taken is not in them; and it brings a store of level 1 to level 4."""
    store = store_of(COMMANDS)
    expected, chunks = list(store.snapshot()), store.snapshot()
    for name in ("bob", "eve"):
        store.run_auth_command(AddUser(name, b"record"))
        store.run_auth_command(GrantRole(name, "reader"))
    assert list(chunks) == expected
    copy = Store()
    copy.set_level(1)
    copy.restore(expected)
    assert (copy.level, list(copy.snapshot())) == (AUTH_LEVEL, expected)


def test_large_parts_have_many_chunks() -> None:
    """A thousand users of many roles, and a role of many permissions."""
    commands: list[AuthCommand] = [AddRole("r" * 200 + str(number)) for number in range(40)]
    for number in range(300):
        commands.append(AddUser(f"user {number}", bytes(250)))
        commands += [GrantRole(f"user {number}", "r" * 200 + str(role)) for role in range(0, 40, 8)]
    commands += [
        GrantPermission("r" * 200 + "7", Permission(Access.READ, b"%04d" % number + bytes(300)))
        for number in range(500)
    ]
    store = store_of(commands)
    chunks = list(store.snapshot())
    assert len(chunks) > 8
    copy = Store()
    copy.restore(chunks)
    assert (copy.state_hash, list(copy.snapshot())) == (store.state_hash, chunks)
    assert (copy.auth.users, copy.auth.roles) == (store.auth.users, store.auth.roles)


def test_level_4_begins_without_users() -> None:
    """A store of level 3 that rises to level 4 has the state of one that restores its snapshot."""
    store = Store()
    store.set_level(3)
    store.run(Txn(success=(Put(b"a", b"v"),)))
    chunks = list(store.snapshot())
    before = store.state_hash
    assert cbor2.loads(chunks[0])[0] == 3
    store.set_level(4)
    late = Store()
    late.restore(chunks)
    assert store.state_hash == late.state_hash != before
    assert not store.auth.users
    for each in (store, late):
        each.run_auth_command(AddUser(ROOT, b"record"))
    assert list(store.snapshot()) == list(late.snapshot())
    with pytest.raises(ValueError, match="does not go back"):
        store.set_level(3)
    users_only = Store()
    users_only.run_auth_command(AddUser(ROOT, b"record"))
    with pytest.raises(ValueError, match="does not go back"):
        users_only.set_level(3)


def test_nobody_is_checked_without_root() -> None:
    """A snapshot that says otherwise, whole as it is, would lock everybody out."""
    store = store_of([AddUser(ROOT, b"record")])
    store.auth.is_enabled = True
    chunks = list(store.snapshot())
    with pytest.raises(CorruptLog):
        Store().restore(chunks)


def head(at: int, value: object) -> Callable[[list[Any]], None]:
    def change(chunks: list[Any]) -> None:
        chunks[0][at] = value

    return change


def item(part: int, at: int, value: object) -> Callable[[list[Any]], None]:
    def change(chunks: list[Any]) -> None:
        chunks[1 + part][at] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        head(9, 1),
        head(9, False),  # the state hash tells
        head(10, 0),
        head(10, 11),  # a user was secured later
        head(10, 13),
        head(11, 1),
        head(12, 2),
        head(13, 3),
        head(14, 2),
        head(14, -1),
        item(1, 0, [b"reader"]),
        item(1, 0, [""]),
        item(1, 0, ["writer"]),
        item(1, 0, ["r" * 256]),
        item(1, 0, "reader"),
        item(1, 0, ["reader", 1]),
        item(2, 0, [None, 0, b"a", None]),
        item(2, 0, ["nobody", 0, b"a", None]),
        item(2, 0, ["reader", 3, b"a", None]),
        item(2, 0, ["reader", True, b"a", None]),
        item(2, 0, ["reader", 0, "a", None]),
        item(2, 0, ["reader", 0, b"", None]),
        item(2, 0, ["reader", 0, b"a", b"a"]),
        item(2, 0, ["reader", 0, b"a", b"c"]),
        item(2, 0, ["reader", 0, b"z", None]),
        item(2, 1, ["reader", 0, b"a", b"c"]),
        item(3, 0, ["ann", b"", 9]),
        item(3, 0, ["ann", bytes(256), 9]),
        item(3, 0, ["ann", "text", 9]),
        item(3, 0, ["ann", None, 1]),
        item(3, 0, ["ann", None, 13]),
        item(3, 0, ["zoe", None, 9]),
        item(3, 1, ["rooted", b"another", 12]),
        item(4, 0, ["ann", "nobody"]),
        item(4, 0, ["ann", "writer"]),
        item(4, 0, ["ann", 5]),
        item(4, 0, ["ann", []]),
        item(4, 0, ["bob", "reader"]),
        item(4, 0, [None, "reader"]),
        item(4, 2, ["root", "reader"]),
    ],
)
def test_what_no_store_writes_is_corruption(change: Callable[[list[Any]], None]) -> None:
    """Each field is checked, by `restore` and by `verify`."""
    chunks = list(map(cbor2.loads, store_of(COMMANDS).snapshot()))
    change(chunks)
    damaged = list(map(cbor2.dumps, chunks))
    with pytest.raises(CorruptLog):
        Store().restore(damaged)
    with pytest.raises(CorruptLog):
        Store().verify(damaged)


def test_users_are_checked_while_a_snapshot_is_restored() -> None:
    """By those of before: a restore takes a while, and what is asked meanwhile must not be let in."""
    store, chunks = store_of(COMMANDS), list(store_of(COMMANDS[:-1]).snapshot())

    def slowly() -> Iterator[bytes]:
        for chunk in chunks:
            with pytest.raises(AuthFailed):
                store.auth.check_user(None)
            yield chunk

    store.restore(slowly())
    assert store.auth.users[ROOT].password == b"record"
