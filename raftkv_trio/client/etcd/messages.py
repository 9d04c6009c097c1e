"""Operations of `raftkv_trio.kv` as etcd's messages, and the answers as replies."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from raftkv_trio.client.etcd.replies import DeleteReply, PutReply, RangeReply, Reply, TxnReply
from raftkv_trio.errors import ConfigError
from raftkv_trio.grpc import Message
from raftkv_trio.kv import (
    Compare,
    Delete,
    Get,
    KeyValue,
    Operation,
    Put,
    Relation,
    Target,
    Txn,
)
from raftkv_trio.schema import kv_pb2, rpc_pb2


class Response(Message, Protocol):
    """A response of etcd's: all of them have a header."""

    @property
    def header(self) -> rpc_pb2.ResponseHeader:
        """Who answers, and at which revision."""
        ...


RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Response)


@dataclass(frozen=True, slots=True)
class UnaryMethod(Generic[RequestT, ResponseT]):
    """A method of etcd's.

    Attributes:
        path: of gRPC.
        request, response: the classes of its messages.
        changes: whether it may change something.
    """

    path: str
    request: type[RequestT]
    response: type[ResponseT]
    changes: bool = False


_KV = "/etcdserverpb.KV"
RANGE = UnaryMethod(f"{_KV}/Range", rpc_pb2.RangeRequest, rpc_pb2.RangeResponse)
PUT = UnaryMethod(f"{_KV}/Put", rpc_pb2.PutRequest, rpc_pb2.PutResponse, True)
DELETE_RANGE = UnaryMethod(
    f"{_KV}/DeleteRange", rpc_pb2.DeleteRangeRequest, rpc_pb2.DeleteRangeResponse, True
)
TXN = UnaryMethod(f"{_KV}/Txn", rpc_pb2.TxnRequest, rpc_pb2.TxnResponse, True)
READ_ONLY_TXN = UnaryMethod(f"{_KV}/Txn", rpc_pb2.TxnRequest, rpc_pb2.TxnResponse)
COMPACT = UnaryMethod(f"{_KV}/Compact", rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse, True)
_LEASE = "/etcdserverpb.Lease"
LEASE_GRANT = UnaryMethod(f"{_LEASE}/LeaseGrant", rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseGrantResponse, True)
#: With an id of the server's choice: one that is granted twice expires, and harms nobody.
LEASE_GRANT_ANY = UnaryMethod(LEASE_GRANT.path, rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseGrantResponse)
LEASE_REVOKE = UnaryMethod(
    f"{_LEASE}/LeaseRevoke", rpc_pb2.LeaseRevokeRequest, rpc_pb2.LeaseRevokeResponse, True
)
LEASE_TIME_TO_LIVE = UnaryMethod(
    f"{_LEASE}/LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest, rpc_pb2.LeaseTimeToLiveResponse
)
LEASE_LIST = UnaryMethod(f"{_LEASE}/LeaseLeases", rpc_pb2.LeaseLeasesRequest, rpc_pb2.LeaseLeasesResponse)
STATUS = UnaryMethod("/etcdserverpb.Maintenance/Status", rpc_pb2.StatusRequest, rpc_pb2.StatusResponse)
MEMBER_LIST = UnaryMethod(
    "/etcdserverpb.Cluster/MemberList", rpc_pb2.MemberListRequest, rpc_pb2.MemberListResponse
)
_AUTH = "/etcdserverpb.Auth"
AUTHENTICATE = UnaryMethod(f"{_AUTH}/Authenticate", rpc_pb2.AuthenticateRequest, rpc_pb2.AuthenticateResponse)
AUTH_ENABLE = UnaryMethod(f"{_AUTH}/AuthEnable", rpc_pb2.AuthEnableRequest, rpc_pb2.AuthEnableResponse, True)
AUTH_DISABLE = UnaryMethod(
    f"{_AUTH}/AuthDisable", rpc_pb2.AuthDisableRequest, rpc_pb2.AuthDisableResponse, True
)
AUTH_STATUS = UnaryMethod(f"{_AUTH}/AuthStatus", rpc_pb2.AuthStatusRequest, rpc_pb2.AuthStatusResponse)
USER_ADD = UnaryMethod(f"{_AUTH}/UserAdd", rpc_pb2.AuthUserAddRequest, rpc_pb2.AuthUserAddResponse, True)
USER_GET = UnaryMethod(f"{_AUTH}/UserGet", rpc_pb2.AuthUserGetRequest, rpc_pb2.AuthUserGetResponse)
USER_LIST = UnaryMethod(f"{_AUTH}/UserList", rpc_pb2.AuthUserListRequest, rpc_pb2.AuthUserListResponse)
USER_DELETE = UnaryMethod(
    f"{_AUTH}/UserDelete", rpc_pb2.AuthUserDeleteRequest, rpc_pb2.AuthUserDeleteResponse, True
)
USER_CHANGE_PASSWORD = UnaryMethod(
    f"{_AUTH}/UserChangePassword",
    rpc_pb2.AuthUserChangePasswordRequest,
    rpc_pb2.AuthUserChangePasswordResponse,
    True,
)
USER_GRANT_ROLE = UnaryMethod(
    f"{_AUTH}/UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest, rpc_pb2.AuthUserGrantRoleResponse, True
)
USER_REVOKE_ROLE = UnaryMethod(
    f"{_AUTH}/UserRevokeRole", rpc_pb2.AuthUserRevokeRoleRequest, rpc_pb2.AuthUserRevokeRoleResponse, True
)
ROLE_ADD = UnaryMethod(f"{_AUTH}/RoleAdd", rpc_pb2.AuthRoleAddRequest, rpc_pb2.AuthRoleAddResponse, True)
ROLE_GET = UnaryMethod(f"{_AUTH}/RoleGet", rpc_pb2.AuthRoleGetRequest, rpc_pb2.AuthRoleGetResponse)
ROLE_LIST = UnaryMethod(f"{_AUTH}/RoleList", rpc_pb2.AuthRoleListRequest, rpc_pb2.AuthRoleListResponse)
ROLE_DELETE = UnaryMethod(
    f"{_AUTH}/RoleDelete", rpc_pb2.AuthRoleDeleteRequest, rpc_pb2.AuthRoleDeleteResponse, True
)
ROLE_GRANT_PERMISSION = UnaryMethod(
    f"{_AUTH}/RoleGrantPermission",
    rpc_pb2.AuthRoleGrantPermissionRequest,
    rpc_pb2.AuthRoleGrantPermissionResponse,
    True,
)
ROLE_REVOKE_PERMISSION = UnaryMethod(
    f"{_AUTH}/RoleRevokePermission",
    rpc_pb2.AuthRoleRevokePermissionRequest,
    rpc_pb2.AuthRoleRevokePermissionResponse,
    True,
)
_RELATIONS = {
    Relation.EQUAL: rpc_pb2.Compare.EQUAL,
    Relation.NOT_EQUAL: rpc_pb2.Compare.NOT_EQUAL,
    Relation.GREATER: rpc_pb2.Compare.GREATER,
    Relation.LESS: rpc_pb2.Compare.LESS,
}
_INT64 = 2**63


def check_number(name: str, value: int | None) -> None:
    """Raise ConfigError for what no message can carry."""
    if value is not None and not 0 <= value < _INT64:
        raise ConfigError(f"{name} is {value}; it must be from 0 to 2**63-1")


def put_message(put: Put, *, previous: bool = False) -> rpc_pb2.PutRequest:
    """The request of a put."""
    return rpc_pb2.PutRequest(
        key=put.key,
        value=put.value,
        lease=put.lease or 0,
        prev_kv=previous,
        ignore_value=put.keeps_value,
        ignore_lease=put.keeps_lease,
    )


def delete_message(delete: Delete, *, previous: bool = False) -> rpc_pb2.DeleteRangeRequest:
    """The request of a delete."""
    return rpc_pb2.DeleteRangeRequest(key=delete.key, range_end=delete.range_end or b"", prev_kv=previous)


def get_message(get: Get, *, serializable: bool = False) -> rpc_pb2.RangeRequest:
    """The request of a read."""
    check_number("a limit", get.limit)
    check_number("a revision", get.revision)
    return rpc_pb2.RangeRequest(
        key=get.key,
        range_end=get.range_end or b"",
        limit=get.limit or 0,
        count_only=get.limit == 0,
        revision=get.revision or 0,
        serializable=serializable,
    )


def txn_message(txn: Txn, *, previous: bool = False) -> rpc_pb2.TxnRequest:
    """The request of a txn; `previous` counts for all its puts and deletes.

    Raises ConfigError if it has a quota.
    """
    if txn.quota_bytes is not None:
        raise ConfigError("a txn of a client has no quota of its own; leave quota_bytes out")
    return rpc_pb2.TxnRequest(
        compare=map(_compare_message, txn.compares),
        success=_operation_messages(txn.success, previous),
        failure=_operation_messages(txn.failure, previous),
    )


def _operation_messages(operations: Iterable[Operation], previous: bool) -> list[rpc_pb2.RequestOp]:
    messages = []
    for operation in operations:
        match operation:
            case Put():
                message = rpc_pb2.RequestOp(request_put=put_message(operation, previous=previous))
            case Delete():
                message = rpc_pb2.RequestOp(request_delete_range=delete_message(operation, previous=previous))
            case Get():
                message = rpc_pb2.RequestOp(request_range=get_message(operation))
            case Txn():
                message = rpc_pb2.RequestOp(request_txn=txn_message(operation, previous=previous))
        messages.append(message)
    return messages


def _compare_message(compare: Compare) -> rpc_pb2.Compare:
    message = rpc_pb2.Compare(
        result=_RELATIONS[compare.relation],
        key=compare.key,
        range_end=compare.range_end or b"",
    )
    operand = compare.operand
    if compare.target is Target.VALUE:
        if isinstance(operand, int):
            raise ConfigError("a compare of a value needs bytes as its operand")
        message.target, message.value = rpc_pb2.Compare.VALUE, operand
        return message
    if not isinstance(operand, int):
        raise ConfigError("a compare of a number needs an integer as its operand")
    check_number("the operand of a compare", operand)
    match compare.target:
        case Target.VERSION:
            message.target, message.version = rpc_pb2.Compare.VERSION, operand
        case Target.CREATE_REVISION:
            message.target, message.create_revision = rpc_pb2.Compare.CREATE, operand
        case Target.MOD_REVISION:
            message.target, message.mod_revision = rpc_pb2.Compare.MOD, operand
        case Target.LEASE:
            message.target, message.lease = rpc_pb2.Compare.LEASE, operand
    return message


def key_value_of(message: kv_pb2.KeyValue) -> KeyValue:
    """A key-value of an answer."""
    return KeyValue(
        message.key,
        message.value,
        message.create_revision,
        message.mod_revision,
        message.version,
        message.lease or None,
    )


def put_reply(message: rpc_pb2.PutResponse) -> PutReply:
    """The answer to a put."""
    previous = key_value_of(message.prev_kv) if message.HasField("prev_kv") else None
    return PutReply(message.header.revision, previous)


def delete_reply(message: rpc_pb2.DeleteRangeResponse) -> DeleteReply:
    """The answer to a delete."""
    previous = tuple(map(key_value_of, message.prev_kvs))
    return DeleteReply(message.header.revision, message.deleted, previous)


def range_reply(message: rpc_pb2.RangeResponse) -> RangeReply:
    """The answer to a read."""
    return RangeReply(message.header.revision, tuple(map(key_value_of, message.kvs)), message.count)


def txn_reply(message: rpc_pb2.TxnResponse) -> TxnReply:
    """The answer to a txn."""
    return TxnReply(message.header.revision, message.succeeded, tuple(map(_reply, message.responses)))


def _reply(message: rpc_pb2.ResponseOp) -> Reply:
    match message.WhichOneof("response"):
        case "response_put":
            return put_reply(message.response_put)
        case "response_delete_range":
            return delete_reply(message.response_delete_range)
        case "response_range":
            return range_reply(message.response_range)
        case _:
            return txn_reply(message.response_txn)
