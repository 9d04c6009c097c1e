"""Users, roles and permissions of a cluster; from `Client.auth`."""

from typing import NamedTuple

from raftkv_trio.client.etcd import messages
from raftkv_trio.client.etcd.calls import Calls
from raftkv_trio.client.etcd.outcomes import CallRefused
from raftkv_trio.errors import ConfigError
from raftkv_trio.kv import ROOT, TO_THE_LAST, Access, Failure, Permission, prefix_end
from raftkv_trio.schema import auth_pb2, rpc_pb2


class AuthStatus(NamedTuple):
    """Whether a cluster checks users.

    Attributes:
        is_enabled: whether it does.
        revision: rises with each change of users and roles.
    """

    is_enabled: bool
    revision: int


class Users:
    """The users of a cluster, their roles, and what these permit; from `Client.auth`.

    Changes need a user with the role root once the cluster checks users. Every call may raise what calls of
    `Client` raise; in `CallRefused.failure` is why, for example `Failure.USER_EXISTS`.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    # ------------------------------------------------------------ checking users

    async def enable(self) -> None:
        """Check users from now on. The user root must exist, and gets the role root if it has not got it.

        raftkv-trio wants the client's user to be root: otherwise nobody could prove afterwards to be root.
        """
        try:
            await self._enable()
        except CallRefused as error:
            if error.failure is not Failure.ROOT_ROLE_NOT_GRANTED:
                raise
        else:
            return
        try:
            await self.add_role(ROOT)
        except CallRefused as refused:
            if refused.failure is not Failure.ROLE_EXISTS:
                raise
        await self.grant_role(ROOT, ROOT)
        await self._enable()

    async def _enable(self) -> None:
        self._calls.tokens.forget()  # raftkv-trio gives root one as soon as root has the role
        await self._calls.make(messages.AUTH_ENABLE, rpc_pb2.AuthEnableRequest())

    async def disable(self) -> None:
        """Check users no more. They stay, with their roles."""
        await self._calls.make(messages.AUTH_DISABLE, rpc_pb2.AuthDisableRequest())

    async def status(self) -> AuthStatus:
        """Whether users are checked. etcd answers from version 3.5 on."""
        answer = await self._calls.make(messages.AUTH_STATUS, rpc_pb2.AuthStatusRequest())
        return AuthStatus(answer.enabled, answer.authRevision)

    # ------------------------------------------------------------ users

    async def users(self) -> tuple[str, ...]:
        """The names of all users."""
        answer = await self._calls.make(messages.USER_LIST, rpc_pb2.AuthUserListRequest())
        return tuple(answer.users)

    async def roles_of(self, user: str) -> tuple[str, ...]:
        """The names of a user's roles."""
        answer = await self._calls.make(messages.USER_GET, rpc_pb2.AuthUserGetRequest(name=user))
        return tuple(answer.roles)

    async def add_user(self, user: str, password: str | None) -> None:
        """Add a user without roles.

        Args:
            password: None: the user has none, and is known by a certificate only.
        """
        await self._calls.make(messages.USER_ADD, user_add_message(user, password))

    async def delete_user(self, user: str) -> None:
        """Delete a user."""
        await self._calls.make(messages.USER_DELETE, rpc_pb2.AuthUserDeleteRequest(name=user))

    async def change_password(self, user: str, password: str) -> None:
        """Give a user another password. Whoever was authenticated with the old one is not any more."""
        request = rpc_pb2.AuthUserChangePasswordRequest(name=user, password=password)
        await self._calls.make(messages.USER_CHANGE_PASSWORD, request)

    async def grant_role(self, user: str, role: str) -> None:
        """Give a user a role."""
        request = rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role)
        await self._calls.make(messages.USER_GRANT_ROLE, request)

    async def revoke_role(self, user: str, role: str) -> None:
        """Take a role from a user."""
        request = rpc_pb2.AuthUserRevokeRoleRequest(name=user, role=role)
        await self._calls.make(messages.USER_REVOKE_ROLE, request)

    # ------------------------------------------------------------ roles

    async def roles(self) -> tuple[str, ...]:
        """The names of all roles."""
        answer = await self._calls.make(messages.ROLE_LIST, rpc_pb2.AuthRoleListRequest())
        return tuple(answer.roles)

    async def permissions_of(self, role: str) -> tuple[Permission, ...]:
        """What a role permits."""
        answer = await self._calls.make(messages.ROLE_GET, rpc_pb2.AuthRoleGetRequest(role=role))
        return tuple(
            Permission(Access(each.permType), each.key, each.range_end or None) for each in answer.perm
        )

    async def add_role(self, role: str) -> None:
        """Add a role without permissions."""
        await self._calls.make(messages.ROLE_ADD, rpc_pb2.AuthRoleAddRequest(name=role))

    async def delete_role(self, role: str) -> None:
        """Delete a role, and take it from all users."""
        await self._calls.make(messages.ROLE_DELETE, rpc_pb2.AuthRoleDeleteRequest(role=role))

    async def grant_permission(
        self,
        role: str,
        access: Access,
        key: bytes | None = None,
        range_end: bytes | None = None,
        *,
        prefix: bytes | None = None,
    ) -> None:
        """Permit something with a key, a range, or all keys with a prefix, as `Client.watch` has them.

        What the role has permitted with exactly this range is replaced. Raises ConfigError if the range is
        malformed.
        """
        key, end = _range(key, range_end, prefix)
        permission = auth_pb2.Permission(permType=int(access), key=key, range_end=end)  # type: ignore[arg-type]
        request = rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=permission)
        await self._calls.make(messages.ROLE_GRANT_PERMISSION, request)

    async def revoke_permission(
        self,
        role: str,
        key: bytes | None = None,
        range_end: bytes | None = None,
        *,
        prefix: bytes | None = None,
    ) -> None:
        """Take from a role what it permits with exactly this range, given as to `grant_permission`."""
        key, end = _range(key, range_end, prefix)
        request = rpc_pb2.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=end)
        await self._calls.make(messages.ROLE_REVOKE_PERMISSION, request)


def user_add_message(user: str, password: str | None) -> rpc_pb2.AuthUserAddRequest:
    """The request that adds a user; without a password if that is None. Raises ConfigError without a name."""
    if not user:
        raise ConfigError("the name of the user is empty; give one")
    options = auth_pb2.UserAddOptions(no_password=password is None)
    return rpc_pb2.AuthUserAddRequest(name=user, password=password or "", options=options)


def _range(key: bytes | None, range_end: bytes | None, prefix: bytes | None) -> tuple[bytes, bytes]:
    if prefix is None and not key:
        raise ConfigError('a permission needs a key, or a prefix; prefix=b"" is that of all keys')
    if prefix is None:
        return key or b"", range_end or b""
    if key is not None or range_end is not None:
        raise ConfigError("a permission has a prefix, or a key and a range end, and not both")
    return (prefix, prefix_end(prefix)) if prefix else (b"\0", TO_THE_LAST)
