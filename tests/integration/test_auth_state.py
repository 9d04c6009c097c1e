"""Users and roles of real nodes: they stay over a restart, and `auth reset` lets everybody in again."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import trio

from raftkv_trio.addresses import parse_cluster
from raftkv_trio.config import NodeConfig
from raftkv_trio.kv import (
    ROOT,
    AddUser,
    AuthCommand,
    EnableAuth,
    GrantRole,
    Put,
    Store,
    Txn,
    encode_command,
)
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.offline.replay import replay
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage import OsDisk
from raftkv_trio.storage.small_files import read_auth_reset, write_auth_reset
from tests.cli.program import refusal, run
from tests.conftest import find_free_ports
from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster
from tests.integration.members import wait_said

ENABLED: list[AuthCommand] = [AddUser(ROOT, b"a forgotten password"), GrantRole(ROOT, ROOT), EnableAuth()]


def make_members(cluster: Cluster, commands: Sequence[AuthCommand | Txn] = ENABLED) -> None:
    """Make the directories of all members, which hold these commands in their logs."""
    entries = [
        Entry(1, at, data=encode_proposal(ProposalId(1, 1, at), encode_command(command)))
        for at, command in enumerate(commands, 2)
    ]
    for node_id in cluster.ids:
        config = NodeConfig(
            node_id=node_id, members=parse_cluster(cluster.peer_urls()), data_dir=cluster.data_dir(node_id)
        )
        storage = open_directory(OsDisk(), config, random.Random(node_id))
        storage.append(HardState(1, 1, len(entries) + 1), entries)
        storage.close(clean=True)


def store_of(cluster: Cluster, node_id: int) -> Store:
    """What the directory of a stopped member holds."""
    config = NodeConfig(
        node_id=node_id, members=parse_cluster(cluster.peer_urls()), data_dir=cluster.data_dir(node_id)
    )
    storage = open_directory(OsDisk(), config, random.Random(1))
    try:
        return replay(storage)[0]
    finally:
        storage.close(clean=True)


async def test_a_reset_lets_everybody_in(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """One member is stopped for it; all have the same users afterwards, and none is checked."""
    cluster = Cluster(tmp_path, 3)
    make_members(cluster)
    directory = cluster.data_dir(1)
    done = run("auth", "reset", directory, "--yes", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "users with the role root: root\n" in done.stdout
    assert read_auth_reset(OsDisk(), directory) == 3
    try:
        cluster.start(2, 3)
        cluster.start(1)
        await cluster.wait_ready(http)
        await wait_said(cluster, 1, "authentication is disabled, as auth-reset has asked")
        assert (await http.put(cluster.url(2, "/key"), content=b"value")).status_code == 204
        await cluster.wait_equal(http)
        refused = await trio.to_thread.run_sync(
            lambda: refusal("auth", "reset", directory, "--yes", directory=tmp_path)
        )
        assert "in use" in refused
        for node_id in cluster.ids:
            assert cluster.stop(node_id) == 0
    finally:
        cluster.kill()
    assert read_auth_reset(OsDisk(), directory) is None
    for node_id in cluster.ids:
        auth = store_of(cluster, node_id).auth
        assert (auth.is_enabled, auth.revision, list(auth.users)) == (False, 4, [ROOT])
    assert "not enabled" in refusal("auth", "reset", directory, "--yes", directory=tmp_path)


async def test_users_stay_over_a_restart_and_a_late_note_undoes_nothing(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """A note of `auth reset` for other users than there are is refused, and removed."""
    cluster = Cluster(tmp_path, 1)
    make_members(cluster)
    write_auth_reset(OsDisk(), cluster.data_dir(1), 2)
    try:
        for _ in range(2):
            cluster.start()
            await cluster.wait_ready(http)
            await wait_said(cluster, 1, "authentication was not disabled")
            assert cluster.stop(1) == 0
            assert read_auth_reset(OsDisk(), cluster.data_dir(1)) is None
    finally:
        cluster.kill()
    assert cluster.log(1).read_text().count("authentication was not disabled") == 1
    auth = store_of(cluster, 1).auth
    assert (auth.is_enabled, auth.revision) == (True, 3)


async def test_the_history_is_compacted_while_users_are_checked(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """By the server itself, which is no user."""
    cluster = Cluster(tmp_path, 1, ("--max-history-bytes", "5000"))
    puts = [Txn(success=(Put(b"key", bytes(1000)),)) for _ in range(20)]
    make_members(cluster, [*puts, *ENABLED])
    try:
        cluster.start()
        await cluster.wait_ready(http)
        last = 1 + len(puts) + len(ENABLED)
        with trio.fail_after(PATIENCE_S):  # behind them the first entry of the term, and the compaction
            while (await cluster.status(http, 1))["applied_index"] < last + 2:  # noqa: ASYNC110
                await trio.sleep(POLL_S)
        assert cluster.stop(1) == 0
    finally:
        cluster.kill()
    store = store_of(cluster, 1)
    assert store.auth.is_enabled
    assert store.compacted_revision > 1


def test_what_cannot_be_reset(tmp_path: Path) -> None:
    """Nothing is changed, and the sentence says why."""
    (tmp_path / "empty").mkdir()
    assert "no data directory" in refusal("auth", "reset", "empty", "--yes", directory=tmp_path)
    assert "--yes" in refusal("auth", "reset", "empty", directory=tmp_path)


class Asked:
    """A node's etcd API, asked in JSON."""

    def __init__(self, http: httpx.AsyncClient, port: int) -> None:
        self._http = http
        self._url = f"http://127.0.0.1:{port}/v3"

    async def ask(self, path: str, fields: dict[str, object], token: str = "") -> tuple[int, Any]:
        headers = {"Authorization": token} if token else {}
        answer = await self._http.post(f"{self._url}/{path}", json=fields, headers=headers)
        return answer.status_code, answer.json()

    async def token(self) -> str:
        status, answer = await self.ask("auth/authenticate", {"name": "root", "password": "secret"})
        assert status == 200, answer
        return str(answer["token"])

    async def is_put(self, token: str = "") -> bool:
        status, answer = await self.ask("kv/put", {"key": "a2V5", "value": "dg=="}, token)
        assert status == 200 or "user name is empty" in answer["error"], answer
        return status == 200


async def test_users_are_checked_after_a_restart_and_not_after_a_reset(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """As clients see it: by etcd's API, with a password that is forgotten in the end."""
    (port,) = find_free_ports(1)
    cluster, asked = Cluster(tmp_path, 1, ("--etcd-port", str(port))), Asked(http, port)
    try:
        cluster.start()
        await cluster.wait_ready(http)
        assert (await asked.ask("auth/user/add", {"name": "root", "password": "secret"}))[0] == 200
        assert (await asked.ask("auth/user/grant", {"user": "root", "role": "root"}))[0] == 200
        token = await asked.token()
        assert (await asked.ask("auth/enable", {}, token))[0] == 200
        assert not await asked.is_put()
        assert cluster.stop(1) == 0
        cluster.start()
        await cluster.wait_ready(http)
        assert not await asked.is_put()
        assert await asked.is_put(token)
        assert await asked.is_put(await asked.token())
        assert cluster.stop(1) == 0
        assert run("auth", "reset", cluster.data_dir(1), "--yes", directory=tmp_path).returncode == 0
        cluster.start()
        await wait_said(cluster, 1, "authentication is disabled, as auth-reset has asked")
        assert await asked.is_put()
    finally:
        cluster.kill()
