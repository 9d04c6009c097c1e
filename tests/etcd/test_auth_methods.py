"""Who may call which method, for every method of the table: nobody, users with few permissions, and root.

A method that is not in the table fails the test, so that none is forgotten.
"""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.credentials import Authenticator
from raftkv_trio.access.leases import Lessor
from raftkv_trio.config import RestConfig, WatchConfig
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.cluster import ClusterHandlers
from raftkv_trio.etcd.maintenance import MaintenanceHandlers
from raftkv_trio.etcd.methods import make_methods
from raftkv_trio.etcd.requests import OneRequest
from raftkv_trio.grpc import Method, RpcError
from raftkv_trio.kv import AuthFailed, DisableAuth, EnableAuth
from raftkv_trio.schema import auth_pb2, rpc_pb2
from raftkv_trio.schema import v3election_pb2 as election
from raftkv_trio.schema import v3lock_pb2 as lock
from tests.rest.serving import PATIENCE_S, open_server

OK, DENIED, EMPTY = "allowed", "etcdserver: permission denied", "etcdserver: user name is empty"
NO_TOKEN = "etcdserver: invalid auth token"
A, OTHER = b"a/1", b"other"


class Case(NamedTuple):
    """A request, and what each user is answered.

    Attributes:
        request: made for a user, by name.
        ann: may read and write keys `a/...`.
        bob: may only write keys `b/...`; None: it does not matter.
    """

    request: Callable[[bytes], Any]
    ann: str
    nobody: str = EMPTY
    bob: str | None = None


def case(request: Any, ann: str, nobody: str = EMPTY, bob: str | None = None) -> Case:
    return Case(lambda user: request, ann, nobody, bob)


def txn(*operations: Any, failure: Any = (), compare: Any = ()) -> rpc_pb2.TxnRequest:
    return rpc_pb2.TxnRequest(compare=compare, success=operations, failure=failure)


def ranges(key: bytes, end: bytes = b"") -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key, range_end=end))


def puts(key: bytes, **options: Any) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, **options))


def deletes(key: bytes, **options: Any) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, **options))


def nested(*operations: Any) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_txn=txn(*operations))


def watch(key: bytes, end: bytes = b"") -> rpc_pb2.WatchRequest:
    return rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=key, range_end=end))


def leader_of(user: bytes) -> election.LeaderKey:
    return election.LeaderKey(name=user, key=user + b"/1", rev=1, lease=77)


def permission(key: bytes) -> auth_pb2.Permission:
    return auth_pb2.Permission(permType="READ", key=key)


FOR_ROOT = DENIED
COMPARE_OTHER = rpc_pb2.Compare(key=OTHER, target="VERSION", version=0)
#: The lease 77 has the key `leased`, the lease 78 `a/leased`.
CASES: dict[str, tuple[Case, ...]] = {
    "KV/Range": (
        case(rpc_pb2.RangeRequest(key=A), OK, bob=DENIED),
        case(rpc_pb2.RangeRequest(key=A, serializable=True), OK, bob=DENIED),
        case(rpc_pb2.RangeRequest(key=b"a/", range_end=b"a0"), OK),
        case(rpc_pb2.RangeRequest(key=b"a/", range_end=b"a1"), DENIED),
        case(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", count_only=True), DENIED),
        case(rpc_pb2.RangeRequest(key=OTHER, serializable=True), DENIED),
        case(rpc_pb2.RangeRequest(key=b"b/1"), DENIED, bob=DENIED),
    ),
    "KV/Put": (
        case(rpc_pb2.PutRequest(key=A, prev_kv=True), OK),
        case(rpc_pb2.PutRequest(key=A, lease=77), DENIED),
        case(rpc_pb2.PutRequest(key=A, lease=78), OK),
        case(rpc_pb2.PutRequest(key=OTHER), DENIED),
        case(rpc_pb2.PutRequest(key=b"b/1"), DENIED, bob=OK),
        case(rpc_pb2.PutRequest(key=b"b/1", prev_kv=True), DENIED, bob=DENIED),
    ),
    "KV/DeleteRange": (
        case(rpc_pb2.DeleteRangeRequest(key=A, prev_kv=True), OK),
        case(rpc_pb2.DeleteRangeRequest(key=b"a/", range_end=b"a1"), DENIED),
        case(rpc_pb2.DeleteRangeRequest(key=b"b/", range_end=b"b0"), DENIED, bob=OK),
        case(rpc_pb2.DeleteRangeRequest(key=b"b/", range_end=b"b0", prev_kv=True), DENIED, bob=DENIED),
    ),
    "KV/Txn": (
        case(txn(ranges(A), puts(A), deletes(b"a/2")), OK),
        case(txn(ranges(A)), OK),
        case(txn(ranges(OTHER)), DENIED),
        case(txn(puts(A), compare=[COMPARE_OTHER]), DENIED),
        case(txn(compare=[COMPARE_OTHER]), DENIED),
        case(txn(puts(A), failure=[ranges(OTHER)]), DENIED),
        case(txn(puts(A), failure=[deletes(OTHER)]), DENIED),
        case(txn(nested(nested(puts(OTHER)))), DENIED),
        case(txn(nested(ranges(b"a/", b"b")), puts(A)), DENIED),
        case(txn(nested(puts(b"b/1"))), DENIED, bob=OK),
        case(txn(nested(puts(b"b/1", prev_kv=True))), DENIED, bob=DENIED),
        case(txn(puts(b"b/1"), failure=[deletes(b"b/1", prev_kv=True)]), DENIED, bob=DENIED),
        case(txn(puts(A, lease=77)), DENIED),
    ),
    "KV/Compact": (case(rpc_pb2.CompactionRequest(revision=1), DENIED),),
    "Watch/Watch": (
        case(watch(A), OK, bob=DENIED),
        case(watch(b"a/", b"a0"), OK),
        case(watch(b"a/", b"\0"), DENIED),  # etcd looks at the first key only
        case(watch(b"b/1"), DENIED, bob=DENIED),
    ),
    "Lease/LeaseGrant": (case(rpc_pb2.LeaseGrantRequest(TTL=60), OK),),
    "Lease/LeaseRevoke": (case(rpc_pb2.LeaseRevokeRequest(ID=79), DENIED),),
    "Lease/LeaseKeepAlive": (case(rpc_pb2.LeaseKeepAliveRequest(ID=77), OK),),
    "Lease/LeaseTimeToLive": (
        case(rpc_pb2.LeaseTimeToLiveRequest(ID=77), OK),
        case(rpc_pb2.LeaseTimeToLiveRequest(ID=77, keys=True), DENIED),
        case(rpc_pb2.LeaseTimeToLiveRequest(ID=78, keys=True), OK),
    ),
    "Lease/LeaseLeases": (case(rpc_pb2.LeaseLeasesRequest(), OK),),
    "Cluster/MemberList": (case(rpc_pb2.MemberListRequest(), OK),),
    "Cluster/MemberAdd": (case(rpc_pb2.MemberAddRequest(peerURLs=["nonsense"]), FOR_ROOT),),
    "Cluster/MemberRemove": (case(rpc_pb2.MemberRemoveRequest(ID=99), FOR_ROOT),),
    "Cluster/MemberUpdate": (case(rpc_pb2.MemberUpdateRequest(ID=99, peerURLs=["nonsense"]), FOR_ROOT),),
    "Cluster/MemberPromote": (case(rpc_pb2.MemberPromoteRequest(ID=99), FOR_ROOT),),
    "Maintenance/Alarm": (
        case(rpc_pb2.AlarmRequest(), OK),
        case(rpc_pb2.AlarmRequest(action="DEACTIVATE"), FOR_ROOT),
        case(rpc_pb2.AlarmRequest(action="ACTIVATE"), FOR_ROOT),
    ),
    "Maintenance/Status": (case(rpc_pb2.StatusRequest(), OK, OK),),
    "Maintenance/Defragment": (case(rpc_pb2.DefragmentRequest(), FOR_ROOT),),
    "Maintenance/Hash": (case(rpc_pb2.HashRequest(), FOR_ROOT),),
    "Maintenance/HashKV": (case(rpc_pb2.HashKVRequest(), FOR_ROOT),),
    "Maintenance/Snapshot": (case(rpc_pb2.SnapshotRequest(), FOR_ROOT),),
    "Maintenance/MoveLeader": (case(rpc_pb2.MoveLeaderRequest(targetID=99), FOR_ROOT),),
    "Auth/Authenticate": (case(rpc_pb2.AuthenticateRequest(name="ann", password="ann"), OK, OK),),
    "Auth/AuthStatus": (case(rpc_pb2.AuthStatusRequest(), FOR_ROOT),),
    "Auth/AuthEnable": (case(rpc_pb2.AuthEnableRequest(), FOR_ROOT),),
    "Auth/UserAdd": (case(rpc_pb2.AuthUserAddRequest(name="eve", password="eve"), FOR_ROOT),),
    "Auth/UserGet": (
        case(rpc_pb2.AuthUserGetRequest(name="ann"), OK, bob=DENIED),
        case(rpc_pb2.AuthUserGetRequest(name="root"), DENIED),
        case(rpc_pb2.AuthUserGetRequest(name="nobody"), DENIED),
    ),
    "Auth/UserList": (case(rpc_pb2.AuthUserListRequest(), FOR_ROOT),),
    "Auth/UserDelete": (case(rpc_pb2.AuthUserDeleteRequest(name="nobody"), FOR_ROOT),),
    "Auth/UserChangePassword": (
        case(rpc_pb2.AuthUserChangePasswordRequest(name="eve", password="x"), FOR_ROOT),
    ),
    "Auth/UserGrantRole": (case(rpc_pb2.AuthUserGrantRoleRequest(user="eve", role="root"), FOR_ROOT),),
    "Auth/UserRevokeRole": (case(rpc_pb2.AuthUserRevokeRoleRequest(name="ann", role="x"), FOR_ROOT),),
    "Auth/RoleAdd": (case(rpc_pb2.AuthRoleAddRequest(name="r"), FOR_ROOT),),
    "Auth/RoleGet": (
        case(rpc_pb2.AuthRoleGetRequest(role="of ann"), OK, bob=DENIED),
        case(rpc_pb2.AuthRoleGetRequest(role="nothing"), DENIED),
    ),
    "Auth/RoleList": (case(rpc_pb2.AuthRoleListRequest(), FOR_ROOT),),
    "Auth/RoleDelete": (case(rpc_pb2.AuthRoleDeleteRequest(role="nothing"), FOR_ROOT),),
    "Auth/RoleGrantPermission": (
        case(rpc_pb2.AuthRoleGrantPermissionRequest(name="of ann", perm=permission(OTHER)), FOR_ROOT),
    ),
    "Auth/RoleRevokePermission": (
        case(rpc_pb2.AuthRoleRevokePermissionRequest(role="of ann", key=b"x"), FOR_ROOT),
    ),
    "Lock/Lock": (
        Case(lambda user: lock.LockRequest(name=b"a/" + user), OK),
        Case(lambda user: lock.LockRequest(name=b"x/" + user), DENIED),
        # Whoever queues learns of all who do.
        Case(lambda user: lock.LockRequest(name=b"b/" + user), DENIED, bob=DENIED),
    ),
    "Lock/Unlock": (
        case(lock.UnlockRequest(key=A), OK),
        case(lock.UnlockRequest(key=OTHER), DENIED),
    ),
    "Election/Campaign": (
        Case(lambda user: election.CampaignRequest(name=b"a/queue-" + user, value=b"1"), OK),
        Case(lambda user: election.CampaignRequest(name=b"x/queue-" + user, value=b"1"), DENIED),
    ),
    "Election/Proclaim": (
        case(election.ProclaimRequest(leader=leader_of(b"a")), DENIED),  # for its lease, of the key `leased`
        case(election.ProclaimRequest(leader=leader_of(b"x")), DENIED),
    ),
    "Election/Leader": (
        case(election.LeaderRequest(name=b"a/queue-ann"), OK),
        case(election.LeaderRequest(name=b"x"), DENIED),
    ),
    "Election/Observe": (
        case(election.LeaderRequest(name=b"a/queue-ann"), OK),
        case(election.LeaderRequest(name=b"x/queue-root"), DENIED),
    ),
    "Election/Resign": (
        case(election.ResignRequest(leader=leader_of(b"a")), OK),
        case(election.ResignRequest(leader=leader_of(b"x")), DENIED),
    ),
    "Auth/AuthDisable": (case(rpc_pb2.AuthDisableRequest(), FOR_ROOT),),  # the last one
}


class Table:
    """The methods of a running node, by service and name."""

    def __init__(self, replicated: ReplicatedStore, methods: Mapping[str, Method]) -> None:
        self.replicated = replicated
        self.methods = {path.rpartition(".")[2]: method for path, method in methods.items()}

    async def call(self, name: str, request: Any, token: str = "") -> Any:
        """The response, or the first one of a stream; raises RpcError."""
        method = self.methods[name]
        metadata = {"token": token} if token else {}
        if method.is_unary:
            return await method.handler(request, metadata)
        first: list[Any] = []
        with trio.CancelScope() as scope:

            async def send(message: Any) -> None:
                first.append(method.response.FromString(message) if isinstance(message, bytes) else message)
                scope.cancel()
                await trio.lowlevel.checkpoint()

            await method.handler(OneRequest(request), metadata, send)
        return first[0]

    async def outcome(self, name: str, request: Any, token: str) -> str:
        """OK, also if the call fails for another reason, or what it is refused for."""
        try:
            with trio.fail_after(PATIENCE_S):
                response = await self.call(name, request, token)
        except RpcError as error:
            is_refused = error.text in (DENIED, EMPTY, NO_TOKEN)
            return error.text if is_refused else OK
        reason: str = getattr(response, "cancel_reason", "")
        return reason.partition(" desc = ")[2] if reason else OK

    async def token(self, name: str) -> str:
        """A token of a user, whose password is the name."""
        request = rpc_pb2.AuthenticateRequest(name=name, password=name)
        token: str = (await self.call("Auth/Authenticate", request)).token
        return token


@asynccontextmanager
async def open_table(directory: Path) -> AsyncIterator[Table]:
    """A node with the users root, ann and bob, who are checked."""
    async with open_server(directory) as served, trio.open_nursery() as nursery:
        replicated = ReplicatedStore(served.node, served.store, RestConfig(port=0), WatchConfig())
        lessor = Lessor(replicated, 2)
        nursery.start_soon(replicated.watches.run)
        nursery.start_soon(lessor.run)
        config = RestConfig(port=0)
        methods = make_methods(replicated, lessor, config, WatchConfig(), Authenticator(replicated))
        table = Table(replicated, methods)
        for name, key in (("root", b""), ("ann", b"a/"), ("bob", b"b/")):
            await table.call("Auth/UserAdd", rpc_pb2.AuthUserAddRequest(name=name, password=name))
            role = "root" if name == "root" else f"of {name}"
            await table.call("Auth/RoleAdd", rpc_pb2.AuthRoleAddRequest(name=role))
            await table.call("Auth/UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=name, role=role))
            if key:
                kind = "READWRITE" if name == "ann" else "WRITE"
                perm = auth_pb2.Permission(permType=kind, key=key, range_end=key[:-1] + b"0")
                request = rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=perm)
                await table.call("Auth/RoleGrantPermission", request)
        for lease, leased in ((77, b"leased"), (78, b"a/leased"), (79, b"other leased")):
            await table.call("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=lease, TTL=600))
            await table.call("KV/Put", rpc_pb2.PutRequest(key=leased, lease=lease))
        await enable(table)
        yield table
        nursery.cancel_scope.cancel()


def basic_of(login: str) -> str:
    """The field of HTTP with which a user shows name and password."""
    return "Basic " + base64.b64encode(login.encode()).decode()


async def enable(table: Table) -> None:
    """Check users; root proves with a password to be root."""
    metadata = {"authorization": basic_of("root:root")}
    await table.methods["Auth/AuthEnable"].handler(rpc_pb2.AuthEnableRequest(), metadata)


async def test_who_may_call_what(tmp_path: Path) -> None:
    """Every method of the table, as nobody, as users with few permissions, and as root."""
    async with open_table(tmp_path) as table:
        assert set(CASES) == set(table.methods), "each method has to say who may call it"
        tokens = {name: await table.token(name) for name in ("root", "ann", "bob")}
        tokens["unknown"] = "no token"
        wrong = []
        for name, cases in CASES.items():
            for number, (request, ann, nobody, bob) in enumerate(cases):
                unknown = OK if nobody == OK else NO_TOKEN
                wanted = {"nobody": nobody, "unknown": unknown, "ann": ann, "bob": bob, "root": OK}
                for user, answer in wanted.items():
                    if answer is not None:
                        found = await table.outcome(name, request(user.encode()), tokens.get(user, ""))
                        if found != answer:
                            wrong.append(f"{name} {number} as {user}: {found}, and not {answer}")
        assert not wrong, "\n".join(wrong)
        assert await table.outcome("KV/Range", rpc_pb2.RangeRequest(key=OTHER), "") == OK  # disabled by root


async def test_strangers_write_nothing_into_the_log(tmp_path: Path) -> None:
    """The store would refuse it when it is applied, but so anybody could fill the log."""
    async with open_table(tmp_path) as table:
        before = table.replicated.node.status().commit_index
        for name, cases in CASES.items():
            for one in cases:
                await table.outcome(name, one.request(b"nobody"), "")
        assert table.replicated.node.status().commit_index == before


async def test_only_who_proves_to_be_root_can_have_users_checked(tmp_path: Path) -> None:
    """Neither nobody nor another user, nor root with another password."""
    async with open_table(tmp_path) as table:
        enabling = table.methods["Auth/AuthEnable"].handler
        await table.call("Auth/AuthDisable", rpc_pb2.AuthDisableRequest(), await table.token("root"))
        for login, text in (
            (None, EMPTY),
            ("ann:ann", DENIED),
            ("root:wrong", "etcdserver: authentication failed, invalid user ID or password"),
        ):
            shown = {} if login is None else {"authorization": basic_of(login)}
            with pytest.raises(RpcError) as caught:
                await enabling(rpc_pb2.AuthEnableRequest(), shown)
            assert caught.value.text == text
        for name, password in (("ann", "ann"), ("root", "wrong"), ("nobody", "x")):
            request = rpc_pb2.AuthenticateRequest(name=name, password=password)
            with pytest.raises(RpcError, match="authentication is not enabled"):
                await table.call("Auth/Authenticate", request)
        await enabling(rpc_pb2.AuthEnableRequest(), {"token": await table.token("root")})
        assert await table.outcome("KV/Range", rpc_pb2.RangeRequest(key=OTHER), "") == EMPTY


async def test_a_watch_with_a_token_that_is_no_good_is_cancelled(tmp_path: Path) -> None:
    """With etcd's reason, upon which its clients get another token, and not by an end of the stream."""
    async with open_table(tmp_path) as table:
        response = await table.call("Watch/Watch", watch(A), "nonsense")
        assert (response.created, response.canceled, response.watch_id) == (True, True, -1)
        reason = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
        assert response.cancel_reason == reason


class Lagging(ReplicatedStore):
    """Of a member that lags: once it has caught up, it knows that users are checked."""

    async def wait_readable(self) -> None:
        await super().wait_readable()
        self.store.run_auth_command(EnableAuth())


async def test_a_member_that_lags_changes_nothing_for_strangers(tmp_path: Path) -> None:
    """Nothing of what the log does not check: it may have missed that users are checked."""
    async with open_table(tmp_path) as table:
        node, store = table.replicated.node, table.replicated.store
        lagging = Lagging(node, store, RestConfig(port=0), WatchConfig())
        cluster, maintenance = ClusterHandlers(lagging), MaintenanceHandlers(lagging, RestConfig(port=0))
        calls: tuple[tuple[Callable[..., Awaitable[Any]], Any], ...] = (
            (cluster.member_add, rpc_pb2.MemberAddRequest(peerURLs=["http://127.0.0.1:1"])),
            (cluster.member_remove, rpc_pb2.MemberRemoveRequest(ID=1)),
            (cluster.member_update, rpc_pb2.MemberUpdateRequest(ID=1, peerURLs=["http://127.0.0.1:1"])),
            (cluster.member_promote, rpc_pb2.MemberPromoteRequest(ID=1)),
            (maintenance.move_leader, rpc_pb2.MoveLeaderRequest(targetID=1)),
        )
        for handler, request in calls:
            store.run_auth_command(DisableAuth())
            with pytest.raises(AuthFailed):
                await handler(request, Call({}))
