"""Permissions that are revoked while a call is under way."""

from pathlib import Path

import pytest

from raftkv_trio.access.candidates import Candidates
from raftkv_trio.access.leases import Lessor
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.election import ElectionHandlers
from raftkv_trio.etcd.sessions import Sessions
from raftkv_trio.kv import (
    ROOT,
    Access,
    Actor,
    AddRole,
    AddUser,
    AuthFailed,
    EnableAuth,
    GrantPermission,
    GrantRole,
    KeyValue,
    Permission,
    Put,
    RevokePermission,
    Txn,
)
from raftkv_trio.schema import v3election_pb2
from tests.rest.serving import open_server


async def test_a_leader_is_not_told_to_who_may_not_know_it_by_then(tmp_path: Path) -> None:
    """A long queue is looked at in pages; what is told was put after the user lost the permission."""
    async with open_server(tmp_path) as served:
        replicated, store = served.replicated, served.replicated.store
        store.run(Txn(success=(Put(b"q/1", b"before"),)))
        for command in (
            AddUser(ROOT, b"record"),
            AddUser("ann", b"record"),
            AddRole("reader"),
            GrantPermission("reader", Permission(Access.READ, b"q/", b"q0")),
            GrantRole(ROOT, ROOT),
            GrantRole("ann", "reader"),
            EnableAuth(),
        ):
            store.run_auth_command(command)

        class Revoked(Candidates):
            async def first(self, prefix: bytes) -> KeyValue | None:
                store.run_auth_command(RevokePermission("reader", b"q/", b"q0"))
                store.run(Txn(success=(Put(b"q/1", b"after"),)))
                return await super().first(prefix)

        candidates = Revoked(replicated)
        handlers = ElectionHandlers(
            replicated, candidates, Sessions(replicated, candidates, Lessor(replicated, 1, None))
        )
        with pytest.raises(AuthFailed):
            await handlers.leader(
                v3election_pb2.LeaderRequest(name=b"q"), Call({}, Actor("ann", store.auth.revision))
            )
