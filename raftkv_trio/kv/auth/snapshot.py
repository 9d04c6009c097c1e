"""The users and roles of a store in its snapshots.

The first chunk of a snapshot ends with `whether auth is enabled, auth revision, number of roles, of
permissions, of users, of roles that users have`. Four parts, each any number of chunks, follow the leases:

    [[role] ...]    in order of names
    [[role, access, key, range end or null] ...]    in order of roles and ranges
    [[user, password or null, secured] ...]    in order of names
    [[user, role] ...]    in order of users and roles

A role or user that is the one of the item before has null for it.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from raftkv_trio.errors import CorruptLog
from raftkv_trio.kv.auth.auth import FIRST_AUTH_REVISION, Auth, Role, User
from raftkv_trio.kv.auth.changes import is_valid_range, range_order
from raftkv_trio.kv.auth.commands import MAX_NAME_BYTES, MAX_PASSWORD_BYTES, ROOT, Access, Permission
from raftkv_trio.kv.snapshot import NO_BEGIN, ChunkReader, natural

_NOT_OURS = "the store's snapshot has a user or a role that no store has, or one out of order"
_ACCESSES = {int(access): access for access in Access}


class AuthView:
    """Users and roles as they are when the view is made."""

    def __init__(self, auth: Auth) -> None:
        self._users, self._roles = dict(auth.users), dict(auth.roles)
        permissions = sum([len(role.permissions) for role in self._roles.values()])
        grants = sum([len(user.roles) for user in self._users.values()])
        counts = [len(self._roles), permissions, len(self._users), grants]
        #: The end of the first chunk.
        self.header = [auth.is_enabled, auth.revision, *counts]

    def parts(self) -> Iterator[Iterator[list[Any]]]:
        """The items of the four parts."""
        yield ([name] for name in self._roles)
        yield _named((name, list(map(_packed, role.permissions))) for name, role in self._roles.items())
        yield ([name, password, secured] for name, (password, _, secured) in self._users.items())
        yield _named((name, [(role,) for role in user.roles]) for name, user in self._users.items())


def _packed(permission: Permission) -> tuple[Any, ...]:
    access, key, range_end = permission
    return int(access), key, range_end


def _named(groups: Iterator[tuple[str, list[tuple[Any, ...]]]]) -> Iterator[list[Any]]:
    """The items of each group, the first one with its name."""
    for name, items in groups:
        for at, item in enumerate(items):
            yield [None if at else name, *item]


def read_auth(header: list[Any], chunks: ChunkReader) -> Auth:
    """The users and roles of a snapshot with this end of its first chunk; raises CorruptLog."""
    is_enabled, revision, role_count, permission_count, user_count, grant_count = header
    auth = Auth()
    if type(is_enabled) is not bool or natural(revision) < FIRST_AUTH_REVISION:
        raise CorruptLog(NO_BEGIN)
    auth.is_enabled, auth.revision = is_enabled, revision
    roles: dict[str, list[Permission]] = {}
    for (name,) in _names(chunks, natural(role_count), 1):
        roles[name] = []
    for name, *permission in _groups(chunks, natural(permission_count), 4):
        if name not in roles:
            raise CorruptLog(_NOT_OURS)
        roles[name].append(_permission(permission))
    for name, permissions in roles.items():
        order = list(map(range_order, permissions))
        if any(before >= after for before, after in pairwise(order)):
            raise CorruptLog(_NOT_OURS)
        auth.set_role(name, Role(tuple(permissions)))
    users: dict[str, tuple[bytes | None, int, list[str]]] = {}
    for name, password, secured in _names(chunks, natural(user_count), 3):
        if not FIRST_AUTH_REVISION < natural(secured) <= revision or not _is_password(password):
            raise CorruptLog(_NOT_OURS)
        users[name] = password, secured, []
    for name, role in _groups(chunks, natural(grant_count), 2):
        if type(role) is not str or name not in users or (role != ROOT and role not in roles):
            raise CorruptLog(_NOT_OURS)
        if role <= (users[name][2] or [""])[-1]:
            raise CorruptLog(_NOT_OURS)
        users[name][2].append(role)
    for name, (password, secured, granted) in users.items():
        auth.set_user(name, User(password, tuple(granted), secured))
    if is_enabled and ROOT not in users.get(ROOT, (None, 0, []))[2]:
        raise CorruptLog(_NOT_OURS)
    return auth


def _fields(chunks: ChunkReader, count: int, length: int) -> Iterator[list[Any]]:
    for fields in chunks.items(count):
        if type(fields) is not list or len(fields) != length:
            raise CorruptLog(_NOT_OURS)
        yield fields


def _names(chunks: ChunkReader, count: int, length: int) -> Iterator[list[Any]]:
    """Items that begin with a name, which come in order."""
    before = ""
    for fields in _fields(chunks, count, length):
        before = _after(before, fields[0])
        yield fields


def _groups(chunks: ChunkReader, count: int, length: int) -> Iterator[list[Any]]:
    """Items that begin with a name, or null for that of the item before."""
    name = ""
    for fields in _fields(chunks, count, length):
        if fields[0] is not None:
            name = _after(name, fields[0])
        yield [name, *fields[1:]]


def _after(before: str, name: object) -> str:
    if type(name) is not str or not before < name or len(name.encode()) > MAX_NAME_BYTES:
        raise CorruptLog(_NOT_OURS)
    return name


def _permission(fields: list[Any]) -> Permission:
    access, key, range_end = fields
    if type(access) is not int or access not in _ACCESSES:
        raise CorruptLog(_NOT_OURS)
    if type(key) is not bytes or not (range_end is None or type(range_end) is bytes):
        raise CorruptLog(_NOT_OURS)
    if not is_valid_range(key, range_end):
        raise CorruptLog(_NOT_OURS)
    return Permission(_ACCESSES[access], key, range_end)


def _is_password(value: object) -> bool:
    return value is None or (type(value) is bytes and 1 <= len(value) <= MAX_PASSWORD_BYTES)
