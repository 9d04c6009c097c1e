"""The Auth service: users, roles and permissions, and tokens for users.

Changes are commands of the log, and the store refuses those of all but root. What is asked of them here too,
before a password is hashed, is to keep strangers from having work done.
"""

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.credentials import Authenticator
from raftkv_trio.etcd.answers import raise_failed
from raftkv_trio.etcd.calls import Call, credentials_in
from raftkv_trio.etcd.capability import check_level
from raftkv_trio.etcd.headers import header_of
from raftkv_trio.grpc import Code, RpcError
from raftkv_trio.kv import (
    MAX_NAME_BYTES,
    Access,
    AddRole,
    AddUser,
    AuthChanged,
    AuthCommand,
    AuthFailed,
    ChangePassword,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Failure,
    GrantPermission,
    GrantRole,
    Permission,
    RevokePermission,
    RevokeRole,
    encode_command,
)
from raftkv_trio.payload.levels import AUTH
from raftkv_trio.schema import auth_pb2, rpc_pb2


class AuthHandlers:
    """Answers the calls of the Auth service.

    Every method raises RpcError, and errors for which `errors.rpc_error_of` knows etcd's text. Cancellation
    gives a change up; it may or may not be applied.
    """

    def __init__(self, replicated: ReplicatedStore, authenticator: Authenticator) -> None:
        self._replicated = replicated
        self._node, self._store = replicated.node, replicated.store
        self._authenticator = authenticator

    # ------------------------------------------------------------ the service itself

    async def auth_enable(self, request: rpc_pb2.AuthEnableRequest, call: Call) -> rpc_pb2.AuthEnableResponse:
        """Check users from now on; only who proves to be root may ask for it."""
        check_level(self._node, AUTH)
        await self._replicated.wait_readable()
        if self._store.auth.is_enabled:
            self._store.auth.check_root(call.actor)
            return rpc_pb2.AuthEnableResponse(header=self._header())
        actor = await self._authenticator.prove_root(credentials_in(call.metadata))
        await self._change(EnableAuth(), call._replace(actor=actor))
        return rpc_pb2.AuthEnableResponse(header=self._header())

    async def auth_disable(
        self, request: rpc_pb2.AuthDisableRequest, call: Call
    ) -> rpc_pb2.AuthDisableResponse:
        """Check nobody any more."""
        await self._change(DisableAuth(), call)
        return rpc_pb2.AuthDisableResponse(header=self._header())

    async def auth_status(self, request: rpc_pb2.AuthStatusRequest, call: Call) -> rpc_pb2.AuthStatusResponse:
        """Whether users are checked, and the revision of users and roles."""
        await self._check_root(call)
        auth = self._store.auth
        return rpc_pb2.AuthStatusResponse(
            header=self._header(), enabled=auth.is_enabled, authRevision=auth.revision
        )

    async def authenticate(
        self, request: rpc_pb2.AuthenticateRequest, call: Call
    ) -> rpc_pb2.AuthenticateResponse:
        """A token for a user with the right password."""
        token = await self._authenticator.token(request.name, request.password, call.host)
        return rpc_pb2.AuthenticateResponse(header=self._header(), token=token)

    # ------------------------------------------------------------ users

    async def user_add(self, request: rpc_pb2.AuthUserAddRequest, call: Call) -> rpc_pb2.AuthUserAddResponse:
        """Add a user, with a password unless its options say that there is none."""
        check_level(self._node, AUTH)
        await self._check_root(call)
        _check_name(request.name, Failure.USER_EMPTY)
        record = None
        if not request.options.no_password:
            record = await self._authenticator.passwords.record_of(request.password, call.host)
        await self._change(AddUser(request.name, record), call)
        return rpc_pb2.AuthUserAddResponse(header=self._header())

    async def user_get(self, request: rpc_pb2.AuthUserGetRequest, call: Call) -> rpc_pb2.AuthUserGetResponse:
        """The roles of a user; every user may ask for the own ones."""
        await self._replicated.wait_readable()
        auth = self._store.auth
        if call.actor is None or call.actor.user != request.name:
            auth.check_root(call.actor)
        auth.check_user(call.actor)
        user = auth.users.get(request.name)
        if user is None:
            raise AuthFailed(Failure.USER_NOT_FOUND)
        return rpc_pb2.AuthUserGetResponse(header=self._header(), roles=user.roles)

    async def user_list(
        self, request: rpc_pb2.AuthUserListRequest, call: Call
    ) -> rpc_pb2.AuthUserListResponse:
        """The names of all users."""
        await self._check_root(call)
        return rpc_pb2.AuthUserListResponse(header=self._header(), users=self._store.auth.users)

    async def user_delete(
        self, request: rpc_pb2.AuthUserDeleteRequest, call: Call
    ) -> rpc_pb2.AuthUserDeleteResponse:
        """Delete a user."""
        _check_found(request.name, Failure.USER_NOT_FOUND)
        await self._change(DeleteUser(request.name), call)
        return rpc_pb2.AuthUserDeleteResponse(header=self._header())

    async def user_change_password(
        self, request: rpc_pb2.AuthUserChangePasswordRequest, call: Call
    ) -> rpc_pb2.AuthUserChangePasswordResponse:
        """Give a user another password; tokens of that user end."""
        check_level(self._node, AUTH)
        await self._check_root(call)
        _check_found(request.name, Failure.USER_NOT_FOUND)
        record = await self._authenticator.passwords.record_of(request.password, call.host)
        await self._change(ChangePassword(request.name, record), call)
        return rpc_pb2.AuthUserChangePasswordResponse(header=self._header())

    async def user_grant_role(
        self, request: rpc_pb2.AuthUserGrantRoleRequest, call: Call
    ) -> rpc_pb2.AuthUserGrantRoleResponse:
        """Give a user a role."""
        _check_found(request.user, Failure.USER_NOT_FOUND)
        _check_found(request.role, Failure.ROLE_NOT_FOUND)
        await self._change(GrantRole(request.user, request.role), call)
        return rpc_pb2.AuthUserGrantRoleResponse(header=self._header())

    async def user_revoke_role(
        self, request: rpc_pb2.AuthUserRevokeRoleRequest, call: Call
    ) -> rpc_pb2.AuthUserRevokeRoleResponse:
        """Take a role from a user."""
        _check_found(request.name, Failure.USER_NOT_FOUND)
        _check_found(request.role, Failure.ROLE_NOT_GRANTED)
        await self._change(RevokeRole(request.name, request.role), call)
        return rpc_pb2.AuthUserRevokeRoleResponse(header=self._header())

    # ------------------------------------------------------------ roles

    async def role_add(self, request: rpc_pb2.AuthRoleAddRequest, call: Call) -> rpc_pb2.AuthRoleAddResponse:
        """Add a role, without permissions."""
        _check_name(request.name, Failure.ROLE_EMPTY)
        await self._change(AddRole(request.name), call)
        return rpc_pb2.AuthRoleAddResponse(header=self._header())

    async def role_get(self, request: rpc_pb2.AuthRoleGetRequest, call: Call) -> rpc_pb2.AuthRoleGetResponse:
        """The permissions of a role; every user may ask for those of the own roles."""
        await self._replicated.wait_readable()
        auth = self._store.auth
        auth.check_user(call.actor)
        own = auth.users.get(call.actor.user) if call.actor is not None else None
        if own is None or request.role not in own.roles:
            auth.check_root(call.actor)
        role = auth.roles.get(request.role)
        if role is None:
            raise AuthFailed(Failure.ROLE_NOT_FOUND)
        permissions = [
            auth_pb2.Permission(
                permType=auth_pb2.Permission.Type.Name(access), key=key, range_end=range_end or b""
            )
            for access, key, range_end in role.permissions
        ]
        return rpc_pb2.AuthRoleGetResponse(header=self._header(), perm=permissions)

    async def role_list(
        self, request: rpc_pb2.AuthRoleListRequest, call: Call
    ) -> rpc_pb2.AuthRoleListResponse:
        """The names of all roles."""
        await self._check_root(call)
        return rpc_pb2.AuthRoleListResponse(header=self._header(), roles=self._store.auth.roles)

    async def role_delete(
        self, request: rpc_pb2.AuthRoleDeleteRequest, call: Call
    ) -> rpc_pb2.AuthRoleDeleteResponse:
        """Delete a role, and take it from all users."""
        _check_found(request.role, Failure.ROLE_NOT_FOUND)
        await self._change(DeleteRole(request.role), call)
        return rpc_pb2.AuthRoleDeleteResponse(header=self._header())

    async def role_grant_permission(
        self, request: rpc_pb2.AuthRoleGrantPermissionRequest, call: Call
    ) -> rpc_pb2.AuthRoleGrantPermissionResponse:
        """Let a role read, or write, or both, the keys of a range."""
        _check_found(request.name, Failure.ROLE_NOT_FOUND)
        wanted = request.perm
        if wanted.permType not in (0, 1, 2):  # of a newer version of the API
            raise AuthFailed(Failure.INVALID_AUTH_MANAGEMENT)
        permission = Permission(Access(wanted.permType), wanted.key, wanted.range_end or None)
        await self._change(GrantPermission(request.name, permission), call)
        return rpc_pb2.AuthRoleGrantPermissionResponse(header=self._header())

    async def role_revoke_permission(
        self, request: rpc_pb2.AuthRoleRevokePermissionRequest, call: Call
    ) -> rpc_pb2.AuthRoleRevokePermissionResponse:
        """Take the permission for exactly this range from a role."""
        _check_found(request.role, Failure.ROLE_NOT_FOUND)
        await self._change(RevokePermission(request.role, request.key, request.range_end or None), call)
        return rpc_pb2.AuthRoleRevokePermissionResponse(header=self._header())

    # ------------------------------------------------------------ all of them

    async def _check_root(self, call: Call) -> None:
        """Raise AuthFailed unless root asks. The store checks that again when the change is applied."""
        await self._replicated.wait_readable()  # this node may not know yet who is root
        self._store.auth.check_root(call.actor)

    async def _change(self, command: AuthCommand, call: Call) -> None:
        check_level(self._node, AUTH)
        result = (await self._replicated.write(encode_command(command, call.actor))).result
        if not isinstance(result, AuthChanged):
            raise_failed(result)

    def _header(self) -> rpc_pb2.ResponseHeader:
        return header_of(self._replicated, self._store.revision)


def _check_name(name: str, if_empty: Failure) -> None:
    """Raise unless a user or a role can have this name."""
    if not name:
        raise AuthFailed(if_empty)
    if len(name.encode()) > MAX_NAME_BYTES:
        raise RpcError(
            Code.INVALID_ARGUMENT,
            f"etcdserver: the name of a user or role has {MAX_NAME_BYTES} bytes at most",
        )


def _check_found(name: str, otherwise: Failure) -> None:
    """Raise for a name that nothing in the store can have, and no command can say."""
    if not name or len(name.encode()) > MAX_NAME_BYTES:
        raise AuthFailed(otherwise)
