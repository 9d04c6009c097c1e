"""A permission is revoked while its user writes through all of three real nodes."""

from base64 import b64encode
from itertools import count
from pathlib import Path

import httpx
import trio

from raftkv_trio.access.credentials.passwords import Passwords
from raftkv_trio.kv import (
    ROOT,
    Access,
    AddRole,
    AddUser,
    AuthCommand,
    EnableAuth,
    GrantPermission,
    GrantRole,
    Permission,
    Txn,
)
from tests.conftest import find_free_ports
from tests.integration.cluster import PATIENCE_S, Cluster
from tests.integration.test_auth_state import make_members

WORKERS = 4  # on each node
AS_ANN, AS_ROOT = (
    {"Authorization": "Basic " + b64encode(user).decode()} for user in (b"ann:hers", b"root:roots")
)


async def test_no_write_is_behind_the_revoke(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """Neither one that waited in the log, nor one that a node took which did not know of it yet."""
    passwords = Passwords()
    cluster = Cluster(tmp_path)
    users: list[AuthCommand | Txn] = [
        AddUser(ROOT, await passwords.record_of("roots", "")),
        GrantRole(ROOT, ROOT),
        AddUser("ann", await passwords.record_of("hers", "")),
        AddRole("a"),
        GrantPermission("a", Permission(Access.READWRITE, b"/a", b"/b")),
        GrantRole("ann", "a"),
        EnableAuth(),
    ]
    make_members(cluster, users)
    (etcd_port,) = find_free_ports(1)
    cluster.give(1, "--etcd-port", str(etcd_port))
    written: list[int] = []  # the revisions of her writes
    refused: list[int] = []
    wrote = {node_id: trio.Event() for node_id in cluster.ids}

    async def write(node_id: int, worker: int) -> None:
        for number in count():
            url = cluster.url(node_id, f"/a{node_id}-{worker}-{number}")
            answer = await http.put(url, headers=AS_ANN, content="value")
            if answer.status_code != 204:
                refused.append(answer.status_code)
                return
            written.append(int(answer.headers["ETag"].strip('"')))
            wrote[node_id].set()

    try:
        cluster.start(*cluster.ids)
        await cluster.wait_ready(http)
        with trio.fail_after(2 * PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for node_id in cluster.ids:
                    for worker in range(WORKERS):
                        nursery.start_soon(write, node_id, worker)
                for event in wrote.values():
                    await event.wait()
                url = f"http://127.0.0.1:{etcd_port}/v3/auth/user/revoke"
                revoked = await http.post(url, headers=AS_ROOT, json={"name": "ann", "role": "a"})
                assert revoked.status_code == 200, revoked.text
            revision = int(revoked.json()["header"]["revision"])
            await cluster.wait_equal(http)
            states = [await cluster.status(http, node_id) for node_id in cluster.ids]
        assert refused == [403] * len(refused)
        assert len(refused) == WORKERS * len(cluster.ids)
        assert max(written) == revision
        assert {state["revision"] for state in states} == {revision}
    finally:
        cluster.kill()
