"""The users, roles and permissions of a store, and the checks of who may do what.

Permissions are those of the moment at which a command is applied, or a read is answered. So what is revoked
holds for commands that wait in the log already. Whoever was proved before the user's password was changed, or
before a user of that name was added anew, has to prove it again.

With authentication disabled every check passes, whoever asks.
"""

from collections.abc import Iterable, MutableMapping
from hashlib import blake2b
from typing import Any, NamedTuple

import cbor2
from sortedcontainers import SortedDict

from raftkv_trio.kv.auth.commands import ROOT, Access, Actor, KeyRange, Permission
from raftkv_trio.kv.auth.intervals import Intervals
from raftkv_trio.kv.checks import MAX_REACH
from raftkv_trio.kv.leases import Leases
from raftkv_trio.kv.record import DIGEST_BYTES
from raftkv_trio.kv.results import AuthFailed, Failure, TooManyKeys
from raftkv_trio.kv.txn import TO_THE_LAST, Delete, Get, Put, Txn

#: Of auth in an empty store, as in etcd.
FIRST_AUTH_REVISION = 1
#: The range of all keys: there is no empty one.
ALL_KEYS: KeyRange = (b"\0", TO_THE_LAST)


class User(NamedTuple):
    """A user.

    Attributes:
        password: the record of the password; None: the user has none.
        roles: their names, in order.
        secured: the auth revision at which the user was added, or the password changed last. Whoever was
            proved at an earlier one has to prove it again.
    """

    password: bytes | None
    roles: tuple[str, ...]
    secured: int


class Role(NamedTuple):
    """A role.

    Attributes:
        permissions: in order of their ranges.
    """

    permissions: tuple[Permission, ...] = ()


class _Rights(NamedTuple):
    """What a user may read and write; None: everything."""

    readable: Intervals | None
    writable: Intervals | None


class Auth:
    """Users, roles and permissions. Checks raise AuthFailed.

    Attributes:
        is_enabled: whether anything is checked.
        revision: rises by one with each change of users or roles, and when authentication is disabled.
        users, roles: by name, in order; only to be read.
        digest_sum: of all users and roles, for the state hash.
    """

    def __init__(self) -> None:
        self.is_enabled = False
        self.revision = FIRST_AUTH_REVISION
        self.users: MutableMapping[str, User] = SortedDict()
        self.roles: MutableMapping[str, Role] = SortedDict()
        self.digest_sum = 0
        self._rights: dict[str, _Rights] = {}  # of users who have asked since the last change

    @property
    def is_initial(self) -> bool:
        """Whether nothing has ever changed."""
        return self.revision == FIRST_AUTH_REVISION

    # ------------------------------------------------------------ changes, checked already

    def count_change(self) -> None:
        """The revision rises; whoever has asked is looked up anew."""
        self.revision += 1
        self._rights.clear()

    def set_user(self, name: str, user: User | None) -> None:
        """Add or replace a user; None deletes the one that there is."""
        old = self.users.pop(name, None)
        if old is not None:
            self.digest_sum -= _digest_of_user(name, old)
        if user is not None:
            self.users[name] = user
            self.digest_sum += _digest_of_user(name, user)

    def set_role(self, name: str, role: Role | None) -> None:
        """Add or replace a role; None deletes the one that there is."""
        old = self.roles.pop(name, None)
        if old is not None:
            self.digest_sum -= _digest_of_role(name, old)
        if role is not None:
            self.roles[name] = role
            self.digest_sum += _digest_of_role(name, role)

    def change_role(
        self, name: str, role: Role, removed: Iterable[Permission] = (), added: Iterable[Permission] = ()
    ) -> None:
        """Replace a role by one that differs in these permissions: a role may have many others."""
        self.roles[name] = role
        self.digest_sum -= sum([_digest_of_permission(name, permission) for permission in removed])
        self.digest_sum += sum([_digest_of_permission(name, permission) for permission in added])

    # ------------------------------------------------------------ checks

    def check_user(self, actor: Actor | None) -> None:
        """Raise AuthFailed unless the actor is a user who was proved, and need not prove it again."""
        if self.is_enabled:
            self._user_of(actor)

    def check_root(self, actor: Actor | None) -> None:
        """Raise AuthFailed unless the actor is such a user, and has the role root."""
        if self.is_enabled and ROOT not in self._user_of(actor).roles:
            raise AuthFailed(Failure.PERMISSION_DENIED)

    def check_range(
        self, actor: Actor | None, access: Access, key: bytes, range_end: bytes | None = None
    ) -> None:
        """Raise AuthFailed unless the actor may read, or write, or both, all that this range could have."""
        if not self.is_enabled:
            return
        rights = self._rights_of(actor)
        if access != Access.WRITE:
            _check(rights.readable, key, range_end)
        if access != Access.READ:
            _check(rights.writable, key, range_end)

    def check_all_keys(self, actor: Actor | None, access: Access) -> None:
        """The same of all keys, as a compaction needs it."""
        self.check_range(actor, access, *ALL_KEYS)

    def check_txn(
        self, actor: Actor | None, txn: Txn, leases: Leases, reads: Iterable[KeyRange] = ()
    ) -> None:
        """Raise AuthFailed unless the actor may do all that a txn could, whatever list it runs.

        Compares and gets need to read; puts and deletes to write. A put with a lease needs to write all keys
        of the lease, since they are deleted together.

        Args:
            leases: of the store.
            reads: ranges to be read beside that: the answer is to show what puts and deletes replaced.
        """
        if not self.is_enabled:
            return
        rights = self._rights_of(actor)
        if rights.writable is None:
            return
        for key, range_end in reads:
            _check(rights.readable, key, range_end)
        lease_ids: dict[int, None] = {}
        _check_txn(rights, txn, lease_ids)
        if lease_ids:
            _check_leases(rights, leases, lease_ids)

    def check_revoke(self, actor: Actor | None, lease_id: int, leases: Leases) -> None:
        """Raise AuthFailed unless the actor may write all keys of a lease, and so end it."""
        if self.is_enabled:
            _check_leases(self._rights_of(actor), leases, {lease_id: None})

    def _user_of(self, actor: Actor | None) -> User:
        if actor is None:
            raise AuthFailed(Failure.USER_EMPTY)
        user = self.users.get(actor.user)
        if user is None or actor.revision < user.secured:
            raise AuthFailed(Failure.AUTH_OLD_REVISION)
        return user

    def _rights_of(self, actor: Actor | None) -> _Rights:
        user = self._user_of(actor)
        assert actor is not None
        rights = self._rights.get(actor.user)
        if rights is None:
            rights = self._rights[actor.user] = self._merged(user)
        return rights

    def _merged(self, user: User) -> _Rights:
        if ROOT in user.roles:
            return _Rights(None, None)
        roles = [self.roles[name] for name in user.roles]
        permissions = [permission for role in roles for permission in role.permissions]
        return _Rights(
            Intervals((key, end) for access, key, end in permissions if access != Access.WRITE),
            Intervals((key, end) for access, key, end in permissions if access != Access.READ),
        )


def _digest_of_user(name: str, user: User) -> int:
    return _digest([name, *user], b"user")


def _digest_of_role(name: str, role: Role) -> int:
    permissions = [_digest_of_permission(name, permission) for permission in role.permissions]
    return _digest([name], b"role") + sum(permissions)


def _digest_of_permission(name: str, permission: Permission) -> int:
    access, key, range_end = permission
    return _digest([name, int(access), key, range_end], b"permission")


def _digest(fields: list[Any], person: bytes) -> int:
    data = cbor2.dumps(fields)
    return int.from_bytes(blake2b(data, digest_size=DIGEST_BYTES, person=person).digest(), "big")


def _check(allowed: Intervals | None, key: bytes, range_end: bytes | None = None) -> None:
    if allowed is not None and not allowed.contain(key, range_end):
        raise AuthFailed(Failure.PERMISSION_DENIED)


def _check_txn(rights: _Rights, txn: Txn, lease_ids: dict[int, None]) -> None:
    """Check a txn and those in it; adds the leases that puts name."""
    for compare in txn.compares:
        _check(rights.readable, compare.key, compare.range_end)
    for operations in (txn.success, txn.failure):
        for operation in operations:
            if type(operation) is Put:
                _check(rights.writable, operation.key)
                if operation.lease:
                    lease_ids[operation.lease] = None
            elif type(operation) is Get:
                _check(rights.readable, operation.key, operation.range_end)
            elif type(operation) is Delete:
                _check(rights.writable, operation.key, operation.range_end)
            else:
                assert type(operation) is Txn, "there are no other operations"
                _check_txn(rights, operation, lease_ids)


def _check_leases(rights: _Rights, leases: Leases, lease_ids: Iterable[int]) -> None:
    if rights.writable is None:
        return
    reached = 0
    for lease_id in lease_ids:
        reached += leases.key_count(lease_id)
        if reached > MAX_REACH:
            raise TooManyKeys(MAX_REACH)
        if not rights.writable.contain_all(leases.attached(lease_id)):
            raise AuthFailed(Failure.PERMISSION_DENIED)
