"""The store's auth beside a plain model of it, for random commands and txns of random users."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.kv import (
    ROOT,
    TO_THE_LAST,
    Access,
    Actor,
    AddRole,
    AddUser,
    AuthChanged,
    AuthCommand,
    ChangePassword,
    DeleteUser,
    EnableAuth,
    Failed,
    Failure,
    GrantPermission,
    GrantRole,
    InvalidTxn,
    Permission,
    Rejected,
    RevokePermission,
    Store,
    Txn,
    encode_command,
)
from raftkv_trio.kv.auth import changes
from raftkv_trio.kv.auth.changes import range_order
from raftkv_trio.state_machine import Committed
from tests.kv.auth.drawing import RECORD, AuthDrawing
from tests.kv.auth.model import AuthModel

#: So that auth is enabled at the begin of most runs.
BEGIN: list[AuthCommand] = [AddUser(ROOT, RECORD), GrantRole(ROOT, ROOT), EnableAuth()]


def apply(store: Store, command: AuthCommand | Txn, actor: Actor | None) -> Failure | None:
    (result,) = store.apply([Committed(1, 1, encode_command(command, actor))])
    assert not isinstance(result, Rejected)
    if isinstance(result, AuthChanged):
        assert result == (store.auth.revision, store.revision)
    return result.failure if isinstance(result, Failed) else None


def state_of(store: Store) -> tuple[object, ...]:
    auth = store.auth
    passwords = {name: user.password for name, user in auth.users.items()}
    secured = {name: user.secured for name, user in auth.users.items()}
    granted = {name: set(user.roles) for name, user in auth.users.items()}
    roles = {
        name: {(key, end): access for access, key, end in role.permissions}
        for name, role in auth.roles.items()
    }
    assert list(auth.users) == sorted(auth.users)
    assert list(auth.roles) == sorted(auth.roles)
    return auth.is_enabled, auth.revision, passwords, secured, granted, roles


@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_like_the_model(seed: int) -> None:
    """Results and states are the model's; a snapshot brings all back, and has the hash of the state."""
    random = Random(seed)
    drawing, model, store = AuthDrawing(random), AuthModel(), Store()
    for command in BEGIN if random.random() < 0.8 else []:
        assert apply(store, command, None) is model.run(command, None) is None
    for _ in range(60):
        actor = None
        if random.random() < 0.95:
            proved = random.choice([model.revision, max(0, model.revision - random.randrange(12))])
            actor = Actor(random.choice([ROOT, drawing.user()]), proved)
        if random.random() < 0.7:
            command = drawing.command()
            assert apply(store, command, actor) == model.run(command, actor), command
            assert store.auth.is_enabled == model.is_enabled
        else:
            txn = drawing.txn()
            try:
                encode_command(txn)
            except InvalidTxn:
                continue
            assert apply(store, txn, actor) == model.failure_of_txn(actor, txn), txn
    expected = model.is_enabled, model.revision, model.passwords, model.secured, model.granted, model.roles
    assert state_of(store) == expected
    assert not model.is_enabled or ROOT in model.granted[ROOT]
    chunks = list(store.snapshot())
    store.verify(chunks)
    copy = Store()
    copy.restore(chunks)
    assert (state_of(copy), copy.state_hash, list(copy.snapshot())) == (expected, store.state_hash, chunks)


def test_the_state_hash_tells_each_part() -> None:
    """Stores that differ in a single thing about users, roles or permissions have different hashes."""
    ways: list[list[AuthCommand]] = [
        [],
        [AddUser("a", b"1")],
        [AddUser("a", b"2")],
        [AddUser("a", None)],
        [AddUser("b", b"1")],
        [AddUser("a", b"1"), ChangePassword("a", b"1")],
        [AddUser("a", b"1"), DeleteUser("a")],
        [AddUser("a", b"1"), GrantRole("a", ROOT)],
        [AddRole("a")],
        [AddRole("b")],
        [AddUser(ROOT, b"1"), GrantRole(ROOT, ROOT)],
        [AddUser(ROOT, b"1"), GrantRole(ROOT, ROOT), EnableAuth()],
    ]
    permissions = [
        *(Permission(access, b"k") for access in Access),
        *(Permission(Access.READ, b"k", end) for end in (b"k\0", TO_THE_LAST)),
    ]
    ways += [[AddRole("a"), GrantPermission("a", permission)] for permission in permissions]
    hashes = set()
    for commands in ways:
        store = Store()
        for command in commands:
            assert apply(store, command, None) is None
        hashes.add(store.state_hash)
    assert len(hashes) == len(ways)


def test_a_change_of_a_large_role_looks_at_few_of_its_permissions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role may have thousands, and nothing else happens on a node while one is changed."""
    store, looked = Store(), 0
    store.run_auth_command(AddRole("r"))
    for number in range(500):
        store.run_auth_command(GrantPermission("r", Permission(Access.READ, b"%03d" % number)))

    def counting(permission: Permission) -> tuple[bytes, bool, bytes]:
        nonlocal looked
        looked += 1
        return range_order(permission)

    monkeypatch.setattr(changes, "range_order", counting)
    store.run_auth_command(GrantPermission("r", Permission(Access.WRITE, b"250")))
    store.run_auth_command(RevokePermission("r", b"400"))
    assert looked < 40
    assert len(store.auth.roles["r"].permissions) == 499
