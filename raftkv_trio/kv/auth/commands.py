"""The store's commands about users, roles and permissions, and on whose behalf a command is run.

The store knows no passwords. Who proposes a command makes a *record* of the password, some bytes of which
the store knows only the length: `access/` makes and checks them.
"""

from enum import IntEnum
from typing import NamedTuple

#: The user who can enable authentication, and the role that may do everything.
ROOT = "root"
#: The most bytes of the name of a user or role, and of the record of a password.
MAX_NAME_BYTES = 255
MAX_PASSWORD_BYTES = 255

#: A range of keys: its first key and its range end, as of an operation.
KeyRange = tuple[bytes, bytes | None]


class Access(IntEnum):
    """What a permission lets do with keys. The numbers are etcd's, and part of the log format."""

    READ = 0
    WRITE = 1
    READWRITE = 2


class Permission(NamedTuple):
    """What a role lets do with the keys of a range."""

    access: Access
    key: bytes
    range_end: bytes | None = None


class Actor(NamedTuple):
    """On whose behalf a command is run.

    Attributes:
        user: the name.
        revision: of auth (`Auth.revision`), as of which the user was proved: that in a token, or that of the
            moment at which a password or a certificate was checked.
    """

    user: str
    revision: int


#: The server itself. It compacts the history as it is configured to, and disables authentication when its
#: operator has asked for that in its data directory; it may do nothing else. No user has an empty name, and
#: none is proved as of revision 0.
SERVER = Actor("", 0)


class EnableAuth(NamedTuple):
    """Check from now on who asks; there must be the user root with the role root."""


class DisableAuth(NamedTuple):
    """Check nobody any more; users and roles stay."""


class AddUser(NamedTuple):
    """Add a user, without roles.

    Attributes:
        password: the record of the password. None: the user has none, and is known by a certificate only.
    """

    name: str
    password: bytes | None


class DeleteUser(NamedTuple):
    """Delete a user."""

    name: str


class ChangePassword(NamedTuple):
    """Give another password to a user who has one."""

    name: str
    password: bytes


class GrantRole(NamedTuple):
    """Give a role to a user. The role root need not exist for that."""

    user: str
    role: str


class RevokeRole(NamedTuple):
    """Take a role from a user."""

    user: str
    role: str


class AddRole(NamedTuple):
    """Add a role, without permissions."""

    name: str


class DeleteRole(NamedTuple):
    """Delete a role, and take it from all users."""

    name: str


class GrantPermission(NamedTuple):
    """Add a permission to a role, in place of the one that it has for the same range."""

    role: str
    permission: Permission


class RevokePermission(NamedTuple):
    """Take the permission for exactly this range from a role."""

    role: str
    key: bytes
    range_end: bytes | None = None


class ResetAuth(NamedTuple):
    """Disable authentication, as `DisableAuth` does; only the server itself may say so.

    Attributes:
        revision: of auth (`Auth.revision`), which must not have changed since. So it has an effect once at
            most, and none on users that its operator has not seen.
    """

    revision: int


AuthCommand = (
    EnableAuth
    | DisableAuth
    | AddUser
    | DeleteUser
    | ChangePassword
    | GrantRole
    | RevokeRole
    | AddRole
    | DeleteRole
    | GrantPermission
    | RevokePermission
    | ResetAuth
)
