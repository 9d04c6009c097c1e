"""Who may do what: each part of a command is checked when it is applied, and before anything of it is run."""

import pytest

from raftkv_trio.kv import (
    ROOT,
    SERVER,
    TO_THE_LAST,
    Access,
    Actor,
    AddRole,
    AddUser,
    AuthChanged,
    AuthCommand,
    AuthFailed,
    ChangePassword,
    CheckpointLeases,
    Compact,
    CompactResult,
    Compare,
    Delete,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    ExpireLeases,
    Failed,
    Failure,
    Get,
    GrantLease,
    GrantPermission,
    GrantRole,
    KeyRange,
    LeaseCommand,
    LeaseGranted,
    LeaseRevoked,
    LeasesExpired,
    LeasesRenewed,
    Permission,
    Put,
    RenewedLease,
    RenewLeases,
    RequestReused,
    ResetAuth,
    Result,
    ResultForgotten,
    RevokeLease,
    RevokePermission,
    RevokeRole,
    Store,
    Txn,
    TxnResult,
    encode_command,
    prefix_end,
)
from raftkv_trio.kv.auth import auth as auth_module
from raftkv_trio.state_machine import Committed

DENIED = Failed(Failure.PERMISSION_DENIED)
OLD = Failed(Failure.AUTH_OLD_REVISION)
#: ann reads a to m, and writes g to z.
BEGIN: list[AuthCommand] = [
    AddUser(ROOT, b"record"),
    GrantRole(ROOT, ROOT),
    AddRole("reader"),
    AddRole("writer"),
    GrantPermission("reader", Permission(Access.READ, b"a", b"g")),
    GrantPermission("reader", Permission(Access.READ, b"g", b"m")),
    GrantPermission("writer", Permission(Access.WRITE, b"g", b"z")),
    AddUser("ann", b"record"),
    GrantRole("ann", "reader"),
    GrantRole("ann", "writer"),
    EnableAuth(),
]
Command = Txn | Compact | LeaseCommand | AuthCommand


class Auths:
    """A store with users, and what is asked of it."""

    def __init__(self) -> None:
        self.store = Store()
        for command in BEGIN:
            self.store.run_auth_command(command)
        self.root, self.ann = self.actor(ROOT), self.actor("ann")

    def actor(self, user: str) -> Actor:
        return Actor(user, self.store.auth.revision)

    def run(
        self,
        command: Command,
        actor: Actor | None,
        reads: tuple[KeyRange, ...] = (),
        request_id: bytes | None = None,
    ) -> Result:
        encoded = encode_command(command, actor, reads=reads, request_id=request_id)
        (result,) = self.store.apply([Committed(1, 1, encoded)])
        return result


@pytest.fixture
def auths() -> Auths:
    return Auths()


ALLOWED = [
    Txn(success=(Put(b"h", b""), Get(b"h"), Delete(b"x"))),
    Txn(success=(Put(b"h", b"", keeps_value=True),)),
    Txn((Compare.exists(b"a"),)),
    Txn((Compare.exists(b"a")._replace(range_end=b"m"),)),
    Txn(success=(Get(b"f", b"h"),)),
    Txn(success=(Delete(b"g", b"z"),)),
    Txn(failure=(Txn(success=(Txn(success=(Put(b"h", b""),)),)),)),
]
REFUSED = [
    Txn(success=(Put(b"z", b""),)),
    Txn(success=(Put(b"a", b""),)),
    Txn((Compare.exists(b"z"),)),
    Txn((Compare.exists(b"a")._replace(range_end=b"m\0"),)),
    Txn((Compare.exists(b"a")._replace(range_end=TO_THE_LAST),)),
    Txn(success=(Get(b"l", b"m\0"),)),
    Txn(success=(Get(b"\0", TO_THE_LAST),)),
    Txn(success=(Delete(b"f", b"z"),)),
    Txn(failure=(Get(b"z"),)),
    Txn(failure=(Put(b"a", b""),)),
    Txn(success=(Put(b"h", b""), Txn(success=(Put(b"a", b""),)))),
    Txn(success=(Put(b"h", b""), Txn(failure=(Get(b"z"),)))),
    Txn(success=(Put(b"h", b""), Txn(failure=(Txn((Compare.exists(b"z"),)),)))),
    Txn(success=(Put(b"h", b""), Txn(failure=(Txn(failure=(Delete(b"z", TO_THE_LAST),)),)))),
]


@pytest.mark.parametrize("txn", ALLOWED + REFUSED)
def test_each_part_of_a_txn_is_checked(auths: Auths, txn: Txn) -> None:
    """Both lists, at any depth, and nothing is run before; a read is checked alike. Root may do all."""
    store = auths.store
    store.run(Txn(success=(Put(b"h", b"v"),)))
    before = store.state_hash
    assert auths.run(txn, None) == Failed(Failure.USER_EMPTY)
    if txn in REFUSED:
        assert auths.run(txn, auths.ann) == DENIED
        assert store.state_hash == before
        with pytest.raises(AuthFailed):
            store.auth.check_txn(auths.ann, txn, store.leases)
    else:
        assert isinstance(auths.run(txn, auths.ann), TxnResult)
        store.auth.check_txn(auths.ann, txn, store.leases)
    assert isinstance(auths.run(txn, auths.root), TxnResult)


def test_what_the_answer_shows_has_to_be_readable(auths: Auths) -> None:
    """The ranges of which it is to show what was replaced count as reads."""
    txn = Txn(success=(Put(b"x", b""),))
    assert isinstance(auths.run(txn, auths.ann), TxnResult)
    assert auths.run(txn, auths.ann, reads=((b"x", None),)) == DENIED
    assert isinstance(auths.run(txn, auths.ann, reads=((b"h", b"i"),)), TxnResult)
    assert isinstance(auths.run(txn, auths.root, reads=((b"x", None),)), TxnResult)


def test_a_range_is_checked_for_each_access(auths: Auths) -> None:
    """As reads are, when they are answered."""
    auth = auths.store.auth
    auth.check_range(auths.ann, Access.READ, b"a", b"m")
    auth.check_range(auths.ann, Access.WRITE, b"g", b"z")
    auth.check_range(auths.ann, Access.READWRITE, b"g", b"m")
    auth.check_range(auths.root, Access.READWRITE, b"a", TO_THE_LAST)
    for access, key, range_end in (
        (Access.READ, b"y", None),
        (Access.WRITE, b"a", None),
        (Access.READWRITE, b"x", None),
        (Access.READWRITE, b"a", None),
        (Access.READ, b"a", b"n"),
        (Access.READ, b"a", TO_THE_LAST),
        (Access.READ, b"\0", b"b"),
    ):
        with pytest.raises(AuthFailed) as caught:
            auth.check_range(auths.ann, access, key, range_end)
        assert caught.value.failure is Failure.PERMISSION_DENIED


def test_all_keys_are_more_than_those_before_another_one(auths: Auths) -> None:
    """The range of all keys is the only one whose end is its first key and which has others."""
    auth = auths.store.auth
    for range_end in (None, b"b"):
        auths.run(GrantPermission("reader", Permission(Access.READWRITE, b"\0", range_end)), auths.root)
        auth.check_range(auths.ann, Access.READWRITE, b"\0", range_end)
        auth.check_range(auths.ann, Access.READ, b"\0")
        for operation in (Get(b"\0", TO_THE_LAST), Delete(b"\0", TO_THE_LAST)):
            assert auths.run(Txn(success=(operation,)), auths.ann) == DENIED
        assert auths.run(Compact(1), auths.ann) == DENIED
        with pytest.raises(AuthFailed):
            auth.check_range(auths.ann, Access.READ, b"", TO_THE_LAST)
    auths.run(GrantPermission("reader", Permission(Access.READ, b"\0", TO_THE_LAST)), auths.root)
    for key in (b"", b"\0"):  # as a watch of the prefix that all keys have
        auth.check_range(auths.ann, Access.READ, key, TO_THE_LAST)


def test_permissions_are_those_of_the_moment(auths: Auths) -> None:
    """What is revoked holds for a write that waits in the log already; what is granted does too."""
    write = encode_command(Txn(success=(Put(b"h", b""),)), auths.ann)
    other = encode_command(Txn(success=(Put(b"a", b""),)), auths.ann)
    commands: list[AuthCommand] = [
        RevokePermission("writer", b"g", b"z"),
        GrantPermission("reader", Permission(Access.READWRITE, b"a", b"g")),
    ]
    batch = [write, other, *(encode_command(command, auths.root) for command in commands), write, other]
    results = auths.store.apply([Committed(1, at, command) for at, command in enumerate(batch)])
    assert [type(result) for result in results] == [
        TxnResult,
        Failed,
        AuthChanged,
        AuthChanged,
        Failed,
        TxnResult,
    ]
    auths.run(RevokeRole("ann", "reader"), auths.root)
    assert auths.run(Txn(success=(Get(b"a"),)), auths.ann) == DENIED


def test_who_was_proved_before_a_change_of_the_password_is_nobody(auths: Auths) -> None:
    """Nor who was deleted, though there is a user of that name again; other changes ask for no proof."""
    txn = Txn(success=(Put(b"h", b""),))
    old = auths.ann
    auths.run(AddRole("another"), auths.root)
    assert isinstance(auths.run(txn, old), TxnResult)
    auths.run(ChangePassword("ann", b"another"), auths.root)
    assert auths.run(txn, old) == OLD
    new = auths.actor("ann")
    assert isinstance(auths.run(txn, new), TxnResult)
    auths.run(DeleteUser("ann"), auths.root)
    assert auths.run(txn, new) == OLD
    for command in (AddUser("ann", b"record"), GrantRole("ann", "writer")):
        auths.run(command, auths.root)
    assert auths.run(txn, new) == OLD
    assert isinstance(auths.run(txn, auths.actor("ann")), TxnResult)
    for check in (auths.store.auth.check_user, auths.store.auth.check_root):
        with pytest.raises(AuthFailed):
            check(new)


def test_only_root_changes_users(auths: Auths) -> None:
    """Nobody else, not even itself; and nobody takes root's role while authentication is enabled."""
    for command in (AddRole("r"), DisableAuth(), ChangePassword("ann", b"x"), EnableAuth()):
        assert auths.run(command, auths.ann) == DENIED
        assert auths.run(command, None) == Failed(Failure.USER_EMPTY)
        assert auths.run(command, SERVER) == OLD
    for change in (DeleteUser(ROOT), RevokeRole(ROOT, ROOT)):
        assert auths.run(change, auths.root) == Failed(Failure.INVALID_AUTH_MANAGEMENT)
    before = auths.store.auth.revision
    assert auths.run(EnableAuth(), auths.root) == AuthChanged(before, 1)
    auths.run(GrantRole("ann", ROOT), auths.root)
    assert auths.run(DisableAuth(), auths.ann) == AuthChanged(before + 2, 1)
    assert auths.run(DisableAuth(), None) == AuthChanged(before + 2, 1)
    assert isinstance(auths.run(Txn(success=(Put(b"a", b""),)), None), TxnResult)
    assert auths.run(DeleteUser(ROOT), None) == AuthChanged(before + 3, 2)
    assert auths.run(EnableAuth(), None) == Failed(Failure.ROOT_USER_NOT_FOUND)


def test_a_reset_is_the_servers_own_and_has_one_effect(auths: Auths) -> None:
    """Root does not say it either; it has none if users have changed since the operator looked at them."""
    store, seen = auths.store, auths.store.auth.revision
    assert auths.run(ResetAuth(seen), auths.root) == DENIED
    assert auths.run(ResetAuth(seen), None) == DENIED
    auths.run(AddRole("another"), auths.root)
    assert auths.run(ResetAuth(seen), SERVER) == OLD
    assert auths.run(ResetAuth(seen + 1), SERVER) == AuthChanged(seen + 2, 1)
    assert not store.auth.is_enabled
    assert "ann" in store.auth.users
    assert auths.run(ResetAuth(seen + 1), SERVER) == AuthChanged(seen + 2, 1)
    auths.run(EnableAuth(), None)
    assert auths.run(ResetAuth(seen + 1), SERVER) == OLD
    assert store.auth.is_enabled


def test_a_lease_with_keys_that_may_not_be_written(auths: Auths) -> None:
    """Whoever puts with it, or ends it, ends keys; so that is denied. Who is proved may have one granted."""
    assert auths.run(GrantLease(7, 60), None) == Failed(Failure.USER_EMPTY)
    for lease in (7, 8):
        assert isinstance(auths.run(GrantLease(lease, 60), auths.ann), LeaseGranted)
    put = Txn(success=(Put(b"h", b"", 7),))
    assert isinstance(auths.run(put, auths.ann), TxnResult)
    auths.run(Txn(success=(Put(b"a", b"", 7), Put(b"i", b"", 8))), auths.root)
    assert auths.run(put, auths.ann) == DENIED
    assert auths.run(Txn(failure=(Txn(success=(Put(b"h", b"", 7),)),)), auths.ann) == DENIED
    assert auths.run(RevokeLease(7), auths.ann) == DENIED
    assert auths.run(RevokeLease(8), None) == Failed(Failure.USER_EMPTY)
    assert auths.run(RevokeLease(9), auths.ann) == Failed(Failure.LEASE_NOT_FOUND)
    assert auths.run(RevokeLease(8), auths.ann) == LeaseRevoked(4, 1)
    assert auths.run(RevokeLease(7), auths.root) == LeaseRevoked(5, 2)


def test_the_keys_of_many_leases_are_not_looked_at_without_end(
    auths: Auths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has leases with many keys names them all in one txn: each node would do nothing else."""
    for lease in (7, 8):
        auths.run(GrantLease(lease, 60), auths.root)
        auths.run(Txn(success=tuple(Put(b"h%d%d" % (lease, at), b"", lease) for at in range(6))), auths.root)
    monkeypatch.setattr(auth_module, "MAX_REACH", 10)
    puts = Put(b"i", b"", 7), Put(b"j", b"", 8)
    assert isinstance(auths.run(Txn(success=puts[:1]), auths.ann), TxnResult)
    assert auths.run(Txn(success=puts), auths.ann) == Failed(Failure.TOO_MANY_KEYS)
    assert isinstance(auths.run(Txn(success=puts), auths.root), TxnResult)


def test_what_the_leader_itself_says_needs_nobody(auths: Auths) -> None:
    """Expiries, checkpoints, and renewals, whose callers are checked before; and its own compaction."""
    auths.run(GrantLease(7, 60), auths.root)
    assert auths.run(CheckpointLeases(1, ()), None)
    assert auths.run(RenewLeases((7,)), None) == LeasesRenewed((60,), 1)
    assert auths.run(ExpireLeases(1, (RenewedLease(7, 2),)), None) == LeasesExpired((7,), 1)
    for key in (b"h", b"i"):
        auths.run(Txn(success=(Put(key, b""),)), auths.ann)
    assert auths.run(Compact(2), None) == Failed(Failure.USER_EMPTY)
    assert auths.run(Compact(2), auths.ann) == DENIED
    assert auths.run(Txn(success=(Put(b"h", b""),)), SERVER) == OLD
    assert auths.run(Compact(2), SERVER) == CompactResult(3)
    auths.run(GrantPermission("writer", Permission(Access.WRITE, b"\0", TO_THE_LAST)), auths.root)
    assert auths.run(Compact(3), auths.ann) == CompactResult(3)


def test_an_answer_that_was_kept_is_for_its_user(auths: Auths) -> None:
    """Under a request id nobody else gets it, and its own user only as long as the txn is allowed."""
    txn = Txn(success=(Put(b"h", b""), Get(b"h")))
    first = auths.run(txn, auths.ann, request_id=b"id")
    assert isinstance(first, TxnResult)
    assert auths.run(txn, auths.ann, request_id=b"id") == first
    assert auths.run(txn, auths.root, request_id=b"id") == ResultForgotten(first.revision)
    other = Txn(success=(Put(b"h", b"other"),))
    assert auths.run(other, auths.ann, request_id=b"id") == RequestReused()
    assert auths.run(other, auths.root, request_id=b"id") == RequestReused()
    auths.run(ChangePassword("ann", b"another"), auths.root)
    assert auths.run(txn, auths.ann, request_id=b"id") == OLD
    assert auths.run(txn, auths.actor("ann"), request_id=b"id") == first
    assert auths.run(txn, auths.actor("ann"), reads=((b"x", None),), request_id=b"id") == DENIED
    auths.run(RevokeRole("ann", "reader"), auths.root)
    assert auths.run(txn, auths.actor("ann"), request_id=b"id") == DENIED
    auths.run(DisableAuth(), auths.root)
    assert auths.run(txn, None, request_id=b"id") == ResultForgotten(first.revision)
    assert auths.run(other, None, request_id=b"id") == RequestReused()


def test_a_retry_after_users_are_checked_is_not_told_that_nothing_was_done(auths: Auths) -> None:
    """The first try was on nobody's behalf; it is not run again, and its answer is not told either."""
    auths.run(DisableAuth(), auths.root)
    txn = Txn(success=(Put(b"h", b""),))
    first = auths.run(txn, None, request_id=b"id")
    assert isinstance(first, TxnResult)
    auths.run(EnableAuth(), None)
    assert auths.run(txn, auths.actor("ann"), request_id=b"id") == ResultForgotten(first.revision)
    assert auths.run(Txn(success=(Put(b"i", b""),)), auths.actor("ann"), request_id=b"id") == RequestReused()


class Witness:
    """Notes what the store says, and what it has then."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.notes: list[tuple[str, int, int]] = []

    def applied(self) -> None:
        self._note("applied")

    def compacting(self, revision: int) -> None:
        self._note("compacting")

    def auth_changed(self) -> None:
        self._note("auth_changed")

    def restored(self) -> None:
        self._note("restored")

    def _note(self, what: str) -> None:
        self.notes.append((what, self.store.revision, self.store.auth.revision))


def test_an_observer_is_told_between_two_commands(auths: Auths) -> None:
    """All before a change of users is applied, and nothing after it; what changes nothing is not told."""
    witness = auths.store.observer = Witness(auths.store)
    before = auths.store.auth.revision
    put = encode_command(Txn(success=(Put(b"h", b""),)), auths.ann)
    change = encode_command(RevokeRole("ann", "writer"), auths.root)
    auths.store.apply(
        [Committed(1, at, command) for at, command in enumerate((put, put, change, put, change))]
    )
    assert witness.notes == [("auth_changed", 3, before + 1), ("applied", 3, before + 1)]
    witness.notes.clear()
    auths.run(EnableAuth(), auths.root)
    auths.run(DisableAuth(), auths.root)
    auths.run(EnableAuth(), None)
    assert [what for what, *_ in witness.notes] == ["applied", *["auth_changed", "applied"] * 2]


def test_prefixes_and_single_keys_are_joined() -> None:
    """What touches is one interval; a key alone does not reach further than itself."""
    store = Store()
    for command in (*BEGIN[:2], AddRole("r"), AddUser("bob", None), GrantRole("bob", "r"), EnableAuth()):
        store.run_auth_command(command)
    for permission in (
        Permission(Access.READ, b"/a/", prefix_end(b"/a/")),
        Permission(Access.READ, b"/a0", b"/b"),
        Permission(Access.READ, b"k"),
        Permission(Access.READ, b"k\0"),
        Permission(Access.READ, b"x", TO_THE_LAST),
        Permission(Access.READ, b"y", b"z"),
    ):
        store.run_auth_command(GrantPermission("r", permission))
    bob = Actor("bob", store.auth.revision)
    allowed: list[KeyRange] = [
        (b"/a/", b"/b"),
        (b"/a/x", None),
        (b"k", b"k\0\0"),
        (b"k\0", None),
        (b"x", TO_THE_LAST),
        (b"z", b"zz"),
    ]
    for key_range in allowed:
        store.auth.check_range(bob, Access.READ, *key_range)
    denied: list[KeyRange] = [
        (b"/a", None),
        (b"/b", None),
        (b"k", b"k\0\0\0"),
        (b"k\1", None),
        (b"k", b"l"),
        (b"w", None),
    ]
    for key_range in denied:
        with pytest.raises(AuthFailed):
            store.auth.check_range(bob, Access.READ, *key_range)
