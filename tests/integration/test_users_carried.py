"""Users get where no log takes them: through a backup to a new cluster, in a snapshot to a node that lags."""

from base64 import b64encode
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
    Put,
    Txn,
)
from tests.cli.program import refusal, run
from tests.conftest import find_free_ports
from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster
from tests.integration.members import wait_said
from tests.integration.test_auth_state import Asked, make_members, store_of

AS_ROOT, AS_ANN, WRONG = ("root", "secret"), ("ann", "hers"), ("ann", "another")
APP = Permission(Access.READWRITE, b"/app", b"/apq")


async def users_and_keys() -> list[AuthCommand | Txn]:
    """Root, ann with a role, and a user without a password; two keys, and ann may see one of them."""
    passwords = Passwords()
    return [
        Txn(success=(Put(b"/app", b"hers"), Put(b"/other", b"not hers"))),
        AddUser(ROOT, await passwords.record_of(AS_ROOT[1], "")),
        GrantRole(ROOT, ROOT),
        AddUser("ann", await passwords.record_of(AS_ANN[1], "")),
        AddUser("certified", None),
        AddRole("app"),
        AddRole("unused"),
        GrantPermission("app", APP),
        GrantRole("ann", "app"),
        EnableAuth(),
    ]


async def assert_checks_users(http: httpx.AsyncClient, cluster: Cluster, node_id: int) -> None:
    """A node lets ann read her key with her password, and nobody without, and root read all."""
    hers, other = cluster.url(node_id, "/app"), cluster.url(node_id, "/other")
    for url, user, status in (
        (hers, None, 401),
        (hers, AS_ANN, 200),
        (hers, WRONG, 401),
        (other, AS_ANN, 403),
        (other, AS_ROOT, 200),
    ):
        answer = await http.get(url, auth=user)
        assert answer.status_code == status, (node_id, url, user, answer.text)
    assert (await http.put(hers, auth=AS_ANN, content=b"hers")).status_code == 204
    assert (await http.put(hers, content=b"nobody's")).status_code == 401


async def test_a_restored_cluster_checks_the_same_users(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """By the same passwords. Only root gets the backup, and tokens of the old cluster end."""
    (port,) = find_free_ports(1)
    old, new = (Cluster(tmp_path / name, 1, ("--etcd-port", str(port))) for name in ("old", "new"))
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    make_members(old, await users_and_keys())
    asked_for = ("backup", "--endpoint", old.url(1, ""), "saved")
    try:
        old.start()
        await old.wait_ready(http)
        for user in ((), ("--user", ":".join(AS_ANN))):
            await trio.to_thread.run_sync(lambda u: refusal(*asked_for, *u, directory=tmp_path), user)
            assert not (tmp_path / "saved").exists()
        root = ("--user", ":".join(AS_ROOT))
        saved = await trio.to_thread.run_sync(lambda: run(*asked_for, *root, directory=tmp_path))
        assert (saved.returncode, saved.stderr) == (0, "")
        asked = Asked(http, port)
        old_token = await asked.token()
        assert await asked.is_put(old_token)
        assert old.stop(1) == 0
        flags = ("--id", "1", "--cluster", new.peer_urls(), "--data-dir", new.data_dir(1))
        assert run("restore", "saved", *flags, directory=tmp_path).returncode == 0
        new.start()
        await new.wait_ready(http)
        status, answer = await asked.ask("kv/range", {"key": _text(b"/app")}, old_token)
        assert (status, answer["error"]) == (401, "etcdserver: invalid auth token")
        await assert_checks_users(http, new, 1)
        assert await asked.is_put(await asked.token())
        assert new.stop(1) == 0
    finally:
        old.kill()
        new.kill()
    before, after = store_of(old, 1).auth, store_of(new, 1).auth
    assert (len(before.users), len(before.roles)) == (3, 2)
    assert (after.is_enabled, after.revision) == (True, before.revision)
    assert (dict(after.users), dict(after.roles)) == (dict(before.users), dict(before.roles))


async def test_a_node_that_lags_gets_users_by_a_snapshot(tmp_path: Path, http: httpx.AsyncClient) -> None:
    """It enforces them before it answers anything, and lets everybody in again after another one."""
    cluster = Cluster(tmp_path, arguments=("--catch-up-entries", "0"))
    ports = find_free_ports(3)
    for node_id, port in zip(cluster.ids, ports, strict=True):
        cluster.give(node_id, "--etcd-port", str(port))
    try:
        cluster.start()
        await cluster.wait_ready(http)
        for key in ("/app", "/other"):
            assert (await http.put(cluster.url(1, key), content=b"value")).status_code == 204
        await cluster.wait_equal(http)
        leader = await cluster.leader(http)
        # Not the same node twice: for a while the leader keeps what one needs that was sent a snapshot.
        first_away, then_away = (node_id for node_id in cluster.ids if node_id != leader)
        asked, shown = Asked(http, ports[leader - 1]), _basic(AS_ROOT)

        async def change(path: str, **fields: object) -> None:
            status, answer = await asked.ask(f"auth/{path}", fields, shown)
            assert status == 200, answer

        assert cluster.stop(first_away) == 0
        for name, password in (AS_ROOT, AS_ANN):
            await change("user/add", name=name, password=password)
        await change("user/grant", user="root", role="root")
        await change("role/add", name="app")
        permission = {"permType": 2, "key": _text(APP.key), "range_end": _text(APP.range_end or b"")}
        await change("role/grant", name="app", perm=permission)
        await change("user/grant", user="ann", role="app")
        await change("enable")
        seen = await answers_until_ready(http, cluster, leader, first_away)
        assert seen <= {401, 503}, "it has let nobody see a key"
        await assert_checks_users(http, cluster, first_away)
        token = await asked.token()
        assert await Asked(http, ports[first_away - 1]).is_put(token)

        assert cluster.stop(then_away) == 0
        await change("disable")
        await answers_until_ready(http, cluster, leader, then_away)
        assert (await http.get(cluster.url(then_away, "/other"))).status_code == 200
        assert await Asked(http, ports[then_away - 1]).is_put()
        await cluster.wait_equal(http)
    finally:
        cluster.kill()


async def answers_until_ready(http: httpx.AsyncClient, cluster: Cluster, leader: int, away: int) -> set[int]:
    """Have the leader drop its log, and start a node; what that one answers to nobody until it is ready.

    It gets all that it has missed in a snapshot.
    """
    with trio.fail_after(PATIENCE_S):  # as long as it is active, the leader keeps what it lacks
        while await is_active(http, cluster, leader, away):  # noqa: ASYNC110 - it is another process
            await trio.sleep(POLL_S)
    taken = await http.post(
        cluster.url(leader, "/-/snapshot"), auth=AS_ROOT, headers={"Content-Type": "application/json"}
    )
    assert taken.status_code == 200, taken.text
    cluster.start(away)
    seen = set()

    async def ask_for_a_key() -> None:
        while True:
            try:
                seen.add((await http.get(cluster.url(away, "/other"))).status_code)
            except httpx.TransportError:
                pass  # it does not listen yet
            await trio.sleep(POLL_S)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_for_a_key)
        await wait_said(cluster, away, f"restored the snapshot at index {taken.json()['index']}\n")
        await cluster.wait_ready(http)
        nursery.cancel_scope.cancel()
    return seen


async def is_active(http: httpx.AsyncClient, cluster: Cluster, leader: int, node_id: int) -> bool:
    """Whether a node acknowledges new entries, as the leader sees it."""
    answer = await http.get(cluster.url(leader, "/-/members"), auth=AS_ROOT)
    return any(member["id"] == node_id and member["is_active"] for member in answer.json())


def _basic(user: tuple[str, str]) -> str:
    return "Basic " + b64encode(":".join(user).encode()).decode()


def _text(key: bytes) -> str:
    return b64encode(key).decode()
