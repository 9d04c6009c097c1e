"""What commands about users, roles and permissions do: etcd's rules, and its revisions.

While authentication is enabled there is always one who may do everything: the user root, who has the role
root, and keeps it.
"""

from bisect import bisect_left

from raftkv_trio.kv.auth.auth import Auth, Role, User
from raftkv_trio.kv.auth.commands import (
    ROOT,
    Access,
    AddRole,
    AddUser,
    AuthCommand,
    ChangePassword,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    GrantPermission,
    GrantRole,
    Permission,
    ResetAuth,
    RevokePermission,
    RevokeRole,
)
from raftkv_trio.kv.results import AuthFailed, Failure
from raftkv_trio.kv.txn import TO_THE_LAST


def run_auth_command(auth: Auth, command: AuthCommand) -> bool:
    """Run a command; returns whether it has changed something.

    Raises AuthFailed; nothing has changed then.
    """
    match command:
        case EnableAuth():
            return _enable(auth)
        case DisableAuth():
            return _disable(auth)
        case AddUser(name, password):
            return _add_user(auth, name, password)
        case DeleteUser(name):
            return _delete_user(auth, name)
        case ChangePassword(name, password):
            return _change_password(auth, name, password)
        case GrantRole(user, role):
            return _grant_role(auth, user, role)
        case RevokeRole(user, role):
            return _revoke_role(auth, user, role)
        case AddRole(name):
            return _add_role(auth, name)
        case DeleteRole(name):
            return _delete_role(auth, name)
        case GrantPermission(role, permission):
            return _grant_permission(auth, role, permission)
        case RevokePermission(role, key, range_end):
            return _revoke_permission(auth, role, key, range_end)
        case ResetAuth(revision):
            if auth.is_enabled and auth.revision != revision:
                raise AuthFailed(Failure.AUTH_OLD_REVISION)
            return _disable(auth)


def _enable(auth: Auth) -> bool:
    if auth.is_enabled:
        return False
    root = auth.users.get(ROOT)
    if root is None:
        raise AuthFailed(Failure.ROOT_USER_NOT_FOUND)
    if ROOT not in root.roles:
        raise AuthFailed(Failure.ROOT_ROLE_NOT_GRANTED)
    auth.is_enabled = True
    return True


def _disable(auth: Auth) -> bool:
    if not auth.is_enabled:
        return False
    auth.is_enabled = False
    auth.count_change()
    return True


# ------------------------------------------------------------ users


def _user(auth: Auth, name: str) -> User:
    user = auth.users.get(name)
    if user is None:
        raise AuthFailed(Failure.USER_NOT_FOUND)
    return user


def _add_user(auth: Auth, name: str, password: bytes | None) -> bool:
    if not name:
        raise AuthFailed(Failure.USER_EMPTY)
    if name in auth.users:
        raise AuthFailed(Failure.USER_EXISTS)
    auth.count_change()
    auth.set_user(name, User(password, (), auth.revision))
    return True


def _delete_user(auth: Auth, name: str) -> bool:
    if auth.is_enabled and name == ROOT:
        raise AuthFailed(Failure.INVALID_AUTH_MANAGEMENT)
    _user(auth, name)
    auth.count_change()
    auth.set_user(name, None)
    return True


def _change_password(auth: Auth, name: str, password: bytes) -> bool:
    user = _user(auth, name)
    if user.password is None:
        raise AuthFailed(Failure.NO_PASSWORD_USER)
    auth.count_change()
    auth.set_user(name, User(password, user.roles, auth.revision))
    return True


def _grant_role(auth: Auth, name: str, role: str) -> bool:
    user = _user(auth, name)
    if role != ROOT and role not in auth.roles:
        raise AuthFailed(Failure.ROLE_NOT_FOUND)
    if role in user.roles:
        return False
    auth.count_change()
    auth.set_user(name, user._replace(roles=tuple(sorted((*user.roles, role)))))
    return True


def _revoke_role(auth: Auth, name: str, role: str) -> bool:
    if auth.is_enabled and name == role == ROOT:
        raise AuthFailed(Failure.INVALID_AUTH_MANAGEMENT)
    user = _user(auth, name)
    if role not in user.roles:
        raise AuthFailed(Failure.ROLE_NOT_GRANTED)
    auth.count_change()
    auth.set_user(name, _without_role(user, role))
    return True


def _without_role(user: User, role: str) -> User:
    return user._replace(roles=tuple([name for name in user.roles if name != role]))


# ------------------------------------------------------------ roles


def _role(auth: Auth, name: str) -> Role:
    role = auth.roles.get(name)
    if role is None:
        raise AuthFailed(Failure.ROLE_NOT_FOUND)
    return role


def _add_role(auth: Auth, name: str) -> bool:
    if not name:
        raise AuthFailed(Failure.ROLE_EMPTY)
    if name in auth.roles:
        raise AuthFailed(Failure.ROLE_EXISTS)
    auth.count_change()
    auth.set_role(name, Role())
    return True


def _delete_role(auth: Auth, name: str) -> bool:
    if auth.is_enabled and name == ROOT:
        raise AuthFailed(Failure.INVALID_AUTH_MANAGEMENT)
    _role(auth, name)
    auth.count_change()
    auth.set_role(name, None)
    for user_name, user in list(auth.users.items()):
        if name in user.roles:
            auth.set_user(user_name, _without_role(user, name))
    return True


def _grant_permission(auth: Auth, name: str, permission: Permission) -> bool:
    _, key, range_end = permission
    if not is_valid_range(key, range_end):
        raise AuthFailed(Failure.INVALID_AUTH_MANAGEMENT)
    permissions = _role(auth, name).permissions
    at, found = _find(permissions, key, range_end)
    auth.count_change()
    role = Role((*permissions[:at], permission, *permissions[at + len(found) :]))
    auth.change_role(name, role, removed=found, added=(permission,))
    return True


def _revoke_permission(auth: Auth, name: str, key: bytes, range_end: bytes | None) -> bool:
    permissions = _role(auth, name).permissions
    at, found = _find(permissions, key, range_end)
    if not found:
        raise AuthFailed(Failure.PERMISSION_NOT_GRANTED)
    auth.count_change()
    auth.change_role(name, Role(permissions[:at] + permissions[at + 1 :]), removed=found)
    return True


def _find(
    permissions: tuple[Permission, ...], key: bytes, range_end: bytes | None
) -> tuple[int, tuple[Permission, ...]]:
    """The place of a range among permissions, and the one that is there for it, if there is one."""
    order = range_order(Permission(Access.READ, key, range_end))
    at = bisect_left(permissions, order, key=range_order)
    found = permissions[at : at + 1]
    return at, found if found and range_order(found[0]) == order else ()


def is_valid_range(key: bytes, range_end: bytes | None) -> bool:
    """Whether a permission may be for this range: one that is not empty, as etcd has it since 3.5."""
    return bool(key) and (range_end is None or range_end == TO_THE_LAST or key < range_end)


def range_order(permission: Permission) -> tuple[bytes, bool, bytes]:
    """The order of a role's permissions: by key, then by range end; a key alone is the first of its key."""
    _, key, range_end = permission
    return key, range_end is not None, range_end or b""
