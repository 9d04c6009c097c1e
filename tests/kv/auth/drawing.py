"""Random commands about users and roles, and txns, over a few names and keys, so that they meet."""

from random import Random

from raftkv_trio.kv import (
    ROOT,
    TO_THE_LAST,
    Access,
    AddRole,
    AddUser,
    AuthCommand,
    ChangePassword,
    Compare,
    Delete,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Get,
    GrantPermission,
    GrantRole,
    KeyRange,
    Operation,
    Permission,
    Put,
    RevokePermission,
    RevokeRole,
    Txn,
)

USERS = (ROOT, "ann", "bob", "eve", "")
ROLES = (ROOT, "reader", "writer", "")
KEYS = (b"\0", b"a", b"a\0", b"b", b"bb", b"c", b"d")
ENDS = (*KEYS, b"e")
RECORD = b"a record of a password"


class AuthDrawing:
    """Draws by a seed.

    Args:
        valid_only: whether all ranges could have a key. With others etcd has its whims.
    """

    def __init__(self, random: Random, *, valid_only: bool = False) -> None:
        self._random = random
        self._valid_only = valid_only

    def user(self) -> str:
        return self._random.choices(USERS, (6, 9, 9, 9, 1))[0]

    def command(self) -> AuthCommand:
        """One that enables or disables authentication is seldom."""
        random = self._random
        draws = (
            lambda: AddUser(self.user(), random.choice((RECORD, RECORD, RECORD, None))),
            lambda: DeleteUser(self.user()),
            lambda: ChangePassword(self.user(), RECORD + b"2"),
            lambda: GrantRole(self.user(), self._role()),
            lambda: RevokeRole(self.user(), self._role()),
            lambda: AddRole(self._role()),
            lambda: DeleteRole(self._role()),
            lambda: GrantPermission(self._role(), self._permission()),
            lambda: RevokePermission(self._role(), *self.key_range()),
            EnableAuth,
            DisableAuth,
        )
        weights = (20, 2, 4, 30, 3, 12, 1, 40, 5, 4, 1)
        return random.choices(draws, weights)[0]()

    def key_range(self) -> KeyRange:
        """As a rule one that could have a key."""
        key = self._key()
        ends = [end for end in ENDS if end > key or (end != key and not self._valid_only)]
        return key, self._random.choice([None, None, None, TO_THE_LAST, *ends])

    def txn(self, depth: int = 1) -> Txn:
        random = self._random
        key, range_end = self.key_range()
        compares = [Compare.exists(key)._replace(range_end=range_end)]
        success, failure = (
            tuple([self._operation(depth) for _ in range(random.choice((0, 1, 1, 1)))]) for _ in range(2)
        )
        return Txn(tuple(compares[: random.choice((0, 0, 1))]), success, failure)

    def _operation(self, depth: int) -> Operation:
        draw = self._random.random()
        if draw < 0.4:
            return Put(self._key(), b"v")
        if draw < 0.6:
            return Delete(*self.key_range())
        if draw < 0.9 or depth == 3:
            return Get(*self.key_range())
        return self.txn(depth + 1)

    def _key(self) -> bytes:
        return self._random.choice(KEYS)

    def _role(self) -> str:
        return self._random.choices(ROLES, (3, 9, 9, 1))[0]

    def _permission(self) -> Permission:
        return Permission(self._random.choice(list(Access)), *self.key_range())
