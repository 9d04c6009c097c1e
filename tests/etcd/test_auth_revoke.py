"""What is revoked holds for writes that wait in the log, and for watches that are open."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from raftkv_trio.grpc import RpcError
from raftkv_trio.kv import (
    Access,
    Actor,
    AuthChanged,
    AuthCommand,
    ChangePassword,
    DeleteUser,
    Put,
    RevokePermission,
    RevokeRole,
    Txn,
    encode_command,
)
from raftkv_trio.schema import rpc_pb2
from tests.etcd.test_auth_methods import DENIED, A, Table, open_table, watch
from tests.rest.serving import PATIENCE_S

OLD_REVISION = "etcdserver: revision of auth store is old"


def submit(table: Table, command: AuthCommand | Txn) -> Any:
    """Have a command of root put into the log, behind all that was submitted before."""
    root = Actor("root", table.replicated.store.auth.revision)
    return table.replicated.node.submit(encode_command(command, root))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (RevokeRole("ann", "of ann"), DENIED),
        (RevokePermission("of ann", b"a/", b"a0"), DENIED),
        (DeleteUser("ann"), OLD_REVISION),
        (ChangePassword("ann", b"another"), OLD_REVISION),
    ],
)
async def test_a_revoke_holds_for_a_write_that_waits(tmp_path: Path, change: AuthCommand, text: str) -> None:
    """The write is submitted while its user may do it, and refused: the revoke comes before it in the log."""
    async with open_table(tmp_path) as table:
        token = await table.token("ann")
        store = table.replicated.store
        await table.call("KV/Put", rpc_pb2.PutRequest(key=A, value=b"before"), token)
        with trio.fail_after(PATIENCE_S):
            revoke = submit(table, change)
            store.auth.check_range(
                Actor("ann", store.auth.revision), Access.WRITE, A
            )  # it is not applied yet
            with pytest.raises(RpcError) as caught:
                await table.call("KV/Put", rpc_pb2.PutRequest(key=A, value=b"after"), token)
            assert isinstance((await revoke.wait()).result, AuthChanged)
        assert caught.value.text == text
        there = store.get(A)
        assert there is not None
        assert there.value == b"before"


async def test_a_revoke_ends_an_open_watch(tmp_path: Path) -> None:
    """All that came before it is told, then why the watch ends; other watches of the stream go on."""
    async with open_table(tmp_path) as table, trio.open_nursery() as nursery:
        root = await table.token("root")
        token = await table.token("ann")
        asked, requests = trio.open_memory_channel[Any](8)
        told: list[rpc_pb2.WatchResponse] = []
        has_told = trio.Event()

        async def send(message: bytes, *, more: bool = False) -> None:
            nonlocal has_told
            told.append(rpc_pb2.WatchResponse.FromString(message))
            has_told.set()
            has_told = trio.Event()
            await trio.lowlevel.checkpoint()

        async def until(count: int) -> None:
            with trio.fail_after(PATIENCE_S):
                while len(told) < count:
                    await has_told.wait()

        async def serve(requests: AsyncIterator[Any]) -> None:
            await table.methods["Watch/Watch"].handler(requests, {"token": token}, send)

        permission = rpc_pb2.AuthRoleGrantPermissionRequest(name="of ann")
        permission.perm.key = b"kept"
        await table.call("Auth/RoleGrantPermission", permission, root)
        nursery.start_soon(serve, requests)
        await asked.send(watch(A))
        await asked.send(watch(b"kept"))
        await until(2)
        put_1, revoke, put_2, put_kept = (
            Txn((), (Put(A, b"1"),), ()),
            RevokePermission("of ann", b"a/", b"a0"),
            Txn((), (Put(A, b"2"),), ()),
            Txn((), (Put(b"kept", b"3"),), ()),
        )
        for command in (put_1, revoke, put_2, put_kept):  # one batch of the log
            submit(table, command)
        await until(5)
        of_a = [one for one in told if one.watch_id == 0][1:]
        assert [event.kv.value for one in of_a for event in one.events] == [b"1"]
        assert [one.canceled for one in of_a] == [False, True]
        assert of_a[-1].cancel_reason == f"rpc error: code = PermissionDenied desc = {DENIED}"
        assert [len(one.events) for one in told if one.watch_id == 1] == [0, 1]
        nursery.cancel_scope.cancel()
