"""Users and roles as plainly as it can be said: who may do what is asked for one key after the other."""

from collections.abc import Iterator

from raftkv_trio.kv import (
    ROOT,
    TO_THE_LAST,
    Access,
    Actor,
    AddRole,
    AddUser,
    AuthCommand,
    ChangePassword,
    Delete,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Failure,
    Get,
    GrantPermission,
    GrantRole,
    KeyRange,
    Put,
    RevokePermission,
    RevokeRole,
    Txn,
)
from tests.kv.auth.drawing import KEYS

#: One of each kind: a range that is drawn either has all keys up to the next one of these, or none of them.
UNIVERSE = sorted({b"e", *KEYS, *(key + b"\0" for key in KEYS)})
FOR = {
    Access.READ: {Access.READ},
    Access.WRITE: {Access.WRITE},
    Access.READWRITE: {Access.READ, Access.WRITE},
}


class AuthModel:
    def __init__(self) -> None:
        self.is_enabled = False
        self.revision = 1
        self.passwords: dict[str, bytes | None] = {}
        self.secured: dict[str, int] = {}
        self.granted: dict[str, set[str]] = {}
        self.roles: dict[str, dict[KeyRange, Access]] = {}

    def run(self, command: AuthCommand, actor: Actor | None) -> Failure | None:
        failure = self.failure_of_root(actor) or self._failure_of(command)
        if failure is None and self._change(command):
            self.revision += 1
        return failure

    # ------------------------------------------------------------ who may

    def failure_of_root(self, actor: Actor | None) -> Failure | None:
        failure = self.failure_of_user(actor)
        if failure is None and self.is_enabled and actor and ROOT not in self.granted[actor.user]:
            return Failure.PERMISSION_DENIED
        return failure

    def failure_of_user(self, actor: Actor | None) -> Failure | None:
        if not self.is_enabled:
            return None
        if actor is None:
            return Failure.USER_EMPTY
        if actor.revision < self.secured.get(actor.user, 2**63):
            return Failure.AUTH_OLD_REVISION
        return None

    def failure_of_txn(self, actor: Actor | None, txn: Txn) -> Failure | None:
        failure = self.failure_of_user(actor)
        if failure or actor is None or not self.is_enabled:
            return failure
        needed = set(_needed(txn))
        return None if all(self._may(actor.user, *need) for need in needed) else Failure.PERMISSION_DENIED

    def _may(self, user: str, access: Access, key: bytes) -> bool:
        granted = self.granted[user]
        return ROOT in granted or any(
            access in FOR[allowed] and key in _keys(key_range)
            for role in granted
            for key_range, allowed in self.roles[role].items()
        )

    # ------------------------------------------------------------ commands

    def _failure_of(self, command: AuthCommand) -> Failure | None:
        is_rooted = ROOT in self.granted.get(ROOT, ())
        match command:
            case EnableAuth() if not self.is_enabled and ROOT not in self.passwords:
                return Failure.ROOT_USER_NOT_FOUND
            case EnableAuth() if not self.is_enabled and not is_rooted:
                return Failure.ROOT_ROLE_NOT_GRANTED
            case DeleteUser("root") | RevokeRole("root", "root") | DeleteRole("root") if self.is_enabled:
                return Failure.INVALID_AUTH_MANAGEMENT
            case GrantPermission(_, (_, key, end)) if end is not None and end != TO_THE_LAST and end <= key:
                return Failure.INVALID_AUTH_MANAGEMENT
            case AddUser(""):
                return Failure.USER_EMPTY
            case AddRole(""):
                return Failure.ROLE_EMPTY
            case AddUser(name) if name in self.passwords:
                return Failure.USER_EXISTS
            case AddRole(name) if name in self.roles:
                return Failure.ROLE_EXISTS
            case DeleteUser(name) | ChangePassword(name, _) if name not in self.passwords:
                return Failure.USER_NOT_FOUND
            case GrantRole(name, _) | RevokeRole(name, _) if name not in self.passwords:
                return Failure.USER_NOT_FOUND
            case ChangePassword(name, _) if self.passwords[name] is None:
                return Failure.NO_PASSWORD_USER
            case GrantRole(_, name) if name != ROOT and name not in self.roles:
                return Failure.ROLE_NOT_FOUND
            case DeleteRole(name) | GrantPermission(name, _) if name not in self.roles:
                return Failure.ROLE_NOT_FOUND
            case RevokePermission(name) if name not in self.roles:
                return Failure.ROLE_NOT_FOUND
            case RevokeRole(user, name) if name not in self.granted[user]:
                return Failure.ROLE_NOT_GRANTED
            case RevokePermission(name, key, end) if (key, end) not in self.roles[name]:
                return Failure.PERMISSION_NOT_GRANTED
        return None

    def _change(self, command: AuthCommand) -> bool:
        """Returns whether the revision rises."""
        match command:
            case EnableAuth():
                self.is_enabled = True
                return False
            case DisableAuth():
                was_enabled, self.is_enabled = self.is_enabled, False
                return was_enabled
            case AddUser(name, password):
                self.passwords[name], self.secured[name], self.granted[name] = (
                    password,
                    self.revision + 1,
                    set(),
                )
            case DeleteUser(name):
                del self.passwords[name], self.secured[name], self.granted[name]
            case ChangePassword(name, password):
                self.passwords[name], self.secured[name] = password, self.revision + 1
            case GrantRole(name, role):
                if role in self.granted[name]:
                    return False
                self.granted[name].add(role)
            case RevokeRole(name, role):
                self.granted[name].remove(role)
            case AddRole(name):
                self.roles[name] = {}
            case DeleteRole(name):
                del self.roles[name]
                for granted in self.granted.values():
                    granted.discard(name)
            case GrantPermission(role, (access, key, end)):
                self.roles[role][key, end] = access
            case RevokePermission(role, key, end):
                del self.roles[role][key, end]
        return True


def _needed(txn: Txn) -> Iterator[tuple[Access, bytes]]:
    for compare in txn.compares:
        yield from ((Access.READ, key) for key in _keys((compare.key, compare.range_end)))
    for operation in (*txn.success, *txn.failure):
        match operation:
            case Txn():
                yield from _needed(operation)
            case Put(key):
                yield Access.WRITE, key
            case Delete(start, end):
                yield from ((Access.WRITE, key) for key in _keys((start, end)))
            case Get(start, end):
                yield from ((Access.READ, key) for key in _keys((start, end)))


def _keys(key_range: KeyRange) -> list[bytes]:
    start, end = key_range
    if end != TO_THE_LAST:
        if end is None or end == start:
            return [start]
        start, end = min(start, end), max(start, end)
    return [key for key in UNIVERSE if key >= start and (end == TO_THE_LAST or key < end)]
