"""What each method of etcd's API answers while users are checked: nobody, a plain user, and root.

A method that is not in the table fails the test, so that none is forgotten.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from raftkv_trio.schema import rpc_pb2 as rpc
from raftkv_trio.schema import v3election_pb2 as election
from raftkv_trio.schema import v3lock_pb2 as lock
from tests.etcd.servers import PATIENCE_S, ApiServer, open_node
from tests.etcd.users import ANN, ROOT, add_users, token_of

#: Who may call a method: everybody, every user, root, or who has a permission for the keys of the request.
EVERYBODY, USERS, ONLY_ROOT, PERMITTED = "everybody", "users", "root", "permitted"
#: Of requests of a plain user: keys that are not the user's.
KEY = b"not/ann's"
CALLS: dict[str, tuple[Any, str]] = {
    "KV/Range": (rpc.RangeRequest(key=KEY), PERMITTED),
    "KV/Put": (rpc.PutRequest(key=KEY), PERMITTED),
    "KV/DeleteRange": (rpc.DeleteRangeRequest(key=KEY), PERMITTED),
    "KV/Txn": (
        rpc.TxnRequest(success=[rpc.RequestOp(request_range=rpc.RangeRequest(key=KEY, serializable=True))]),
        PERMITTED,
    ),
    "KV/Compact": (rpc.CompactionRequest(revision=1), ONLY_ROOT),
    "Lease/LeaseGrant": (rpc.LeaseGrantRequest(TTL=60, ID=1), USERS),
    "Lease/LeaseRevoke": (rpc.LeaseRevokeRequest(ID=5), USERS),
    "Lease/LeaseKeepAlive": (rpc.LeaseKeepAliveRequest(ID=5), USERS),
    "Lease/LeaseTimeToLive": (rpc.LeaseTimeToLiveRequest(ID=5), USERS),
    "Lease/LeaseLeases": (rpc.LeaseLeasesRequest(), USERS),
    "Cluster/MemberList": (rpc.MemberListRequest(), USERS),
    "Cluster/MemberAdd": (rpc.MemberAddRequest(), ONLY_ROOT),
    "Cluster/MemberRemove": (rpc.MemberRemoveRequest(ID=9), ONLY_ROOT),
    "Cluster/MemberUpdate": (rpc.MemberUpdateRequest(ID=9), ONLY_ROOT),
    "Cluster/MemberPromote": (rpc.MemberPromoteRequest(ID=9), ONLY_ROOT),
    "Maintenance/Alarm": (rpc.AlarmRequest(), USERS),
    "Maintenance/Status": (rpc.StatusRequest(), EVERYBODY),
    "Maintenance/Defragment": (rpc.DefragmentRequest(), ONLY_ROOT),
    "Maintenance/Hash": (rpc.HashRequest(), ONLY_ROOT),
    "Maintenance/HashKV": (rpc.HashKVRequest(), ONLY_ROOT),
    "Maintenance/Snapshot": (rpc.SnapshotRequest(), ONLY_ROOT),
    "Maintenance/MoveLeader": (rpc.MoveLeaderRequest(targetID=9), ONLY_ROOT),
    "Auth/AuthEnable": (rpc.AuthEnableRequest(), ONLY_ROOT),
    "Auth/AuthStatus": (rpc.AuthStatusRequest(), ONLY_ROOT),
    "Auth/Authenticate": (rpc.AuthenticateRequest(name=ANN[0], password=ANN[1]), EVERYBODY),
    "Auth/UserAdd": (rpc.AuthUserAddRequest(name="ann", password="x"), ONLY_ROOT),
    "Auth/UserGet": (rpc.AuthUserGetRequest(name="root"), ONLY_ROOT),
    "Auth/UserList": (rpc.AuthUserListRequest(), ONLY_ROOT),
    "Auth/UserDelete": (rpc.AuthUserDeleteRequest(name="none"), ONLY_ROOT),
    "Auth/UserChangePassword": (rpc.AuthUserChangePasswordRequest(name="none", password="x"), ONLY_ROOT),
    "Auth/UserGrantRole": (rpc.AuthUserGrantRoleRequest(user="none", role="a"), ONLY_ROOT),
    "Auth/UserRevokeRole": (rpc.AuthUserRevokeRoleRequest(name="none", role="a"), ONLY_ROOT),
    "Auth/RoleAdd": (rpc.AuthRoleAddRequest(name="a"), ONLY_ROOT),
    "Auth/RoleGet": (rpc.AuthRoleGetRequest(role="root"), ONLY_ROOT),
    "Auth/RoleList": (rpc.AuthRoleListRequest(), ONLY_ROOT),
    "Auth/RoleDelete": (rpc.AuthRoleDeleteRequest(role="none"), ONLY_ROOT),
    "Auth/RoleGrantPermission": (rpc.AuthRoleGrantPermissionRequest(name="none"), ONLY_ROOT),
    "Auth/RoleRevokePermission": (rpc.AuthRoleRevokePermissionRequest(role="none"), ONLY_ROOT),
    "Lock/Lock": (lock.LockRequest(name=KEY, lease=7), PERMITTED),
    "Lock/Unlock": (lock.UnlockRequest(key=KEY), PERMITTED),
    "Election/Campaign": (election.CampaignRequest(name=KEY, lease=7), PERMITTED),
    "Election/Proclaim": (
        election.ProclaimRequest(leader=election.LeaderKey(name=KEY, key=KEY, rev=9, lease=7)),
        PERMITTED,
    ),
    "Election/Leader": (election.LeaderRequest(name=KEY), PERMITTED),
    "Election/Observe": (election.LeaderRequest(name=KEY), PERMITTED),
    "Election/Resign": (
        election.ResignRequest(leader=election.LeaderKey(name=KEY, key=KEY, rev=9, lease=7)),
        PERMITTED,
    ),
    "Auth/AuthDisable": (rpc.AuthDisableRequest(), ONLY_ROOT),  # the last one, since it succeeds
}
#: Watch answers in its responses, and never with a status: see `test_etcdctl_auth.py`.
ELSEWHERE = {"Watch/Watch"}
REFUSED_WITHOUT_USER = "user name is empty"
REFUSED = "permission denied"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with open_node(tmp_path_factory.mktemp("node")) as server:
        add_users(server)
        yield server


def all_methods() -> dict[str, Any]:
    """The descriptors of all methods of the schema, by `Service/Method`."""
    return {
        f"{service.name}/{method.name}": method
        for module in (rpc, lock, election)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def ask(server: ApiServer, name: str, token: str = "") -> str:
    """Call a method with its request; returns the text of the error, empty for none within a while."""
    method, request = all_methods()[name], CALLS[name][0]
    path = f"/{method.containing_service.full_name}/{name.partition('/')[2]}"
    metadata = [("token", token)] if token else []
    with server.channel() as channel:
        kinds = [
            "stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming)
        ]
        call = getattr(channel, "_".join(kinds))(path, type(request).SerializeToString, bytes)
        sent = iter([request]) if method.client_streaming else request
        timeout = 1.0 if name == "Election/Observe" else PATIENCE_S  # who may observe waits for ever
        try:
            answer = call(sent, metadata=metadata, timeout=timeout)
            if method.server_streaming:
                for _ in answer:
                    break
        except grpc.RpcError as error:
            return str(error.details())
    return ""


def test_each_method(node: ApiServer) -> None:
    """Strangers and plain users are refused what the table says, and root nothing."""
    assert set(CALLS) == set(all_methods()) - ELSEWHERE
    users = {name: token_of(node, user) for name, user in (("ann", ANN), ("root", ROOT))}
    wrong = []
    for name, (_, who) in CALLS.items():
        tokens = ("", "no token", users["ann"], users["root"])
        nobody, unknown, ann, root = [ask(node, name, token) for token in tokens]
        if (REFUSED_WITHOUT_USER in nobody) != (who != EVERYBODY):
            wrong.append(f"{name} without a user: {nobody!r}")
        if (REFUSED in ann) != (who in (ONLY_ROOT, PERMITTED)):
            wrong.append(f"{name} of a plain user: {ann!r}")
        if any(text in root for text in (REFUSED, REFUSED_WITHOUT_USER)):
            wrong.append(f"{name} of root: {root!r}")
        if ("invalid auth token" in unknown) != (who != EVERYBODY):
            wrong.append(f"{name} with a wrong token: {unknown!r}")
    assert not wrong, "\n".join(wrong)
