"""Users over REST: who may do what with keys, watches, and under `/-/`."""

import base64
from pathlib import Path

import httpx
import trio

from raftkv_trio.access.credentials import Authenticator
from raftkv_trio.kv import (
    ROOT,
    Access,
    Actor,
    AddRole,
    AddUser,
    EnableAuth,
    GrantPermission,
    GrantRole,
    Permission,
    RevokeRole,
    encode_command,
)
from tests.rest.serving import PATIENCE_S, Served, open_client, open_server


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


AS_ROOT, AS_ANN = basic(ROOT, "root's"), basic("ann", "ann's")


async def add_users(served: Served) -> None:
    """Root, and ann, who may do everything with keys `/a/...`."""
    passwords = Authenticator(served.replicated).passwords
    for command in (
        AddUser(ROOT, await passwords.record_of("root's", "here")),
        AddUser("ann", await passwords.record_of("ann's", "here")),
        AddRole(ROOT),
        AddRole("a"),
        GrantRole(ROOT, ROOT),
        GrantRole("ann", "a"),
        GrantPermission("a", Permission(Access.READWRITE, b"/a/", b"/a0")),
        EnableAuth(),
    ):
        await served.replicated.write(encode_command(command))


async def test_keys(tmp_path: Path) -> None:
    """A key is for who may read or write it; who does not say who asks is asked for it."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        await add_users(served)

        async def status(method: str, path: str, fields: dict[str, str]) -> int:
            content = b"x" if method == "PUT" else b""
            return (await client.request(method, path, content=content, headers=fields)).status_code

        for method in ("PUT", "GET", "HEAD", "DELETE"):
            assert await status(method, "/a/1", {}) == 401
            assert await status(method, "/a/1", basic("ann", "wrong")) == 401
            assert await status(method, "/b", AS_ANN) == 403
            assert await status(method, "/a/1", AS_ANN) in (200, 204)
            assert await status("PUT", "/a/1", AS_ROOT) == 204
        assert await status("GET", "/a/1", {"Cache-Control": "max-stale"}) == 401
        assert await status("GET", "/b", {"Cache-Control": "max-stale", **AS_ANN}) == 403
        assert await status("PUT", "/b", {"If-Match": '"1"', **AS_ANN}) == 403
        assert await status("POST", "/4", AS_ANN) == 403
        assert await status("DELETE", "/4", AS_ANN) == 403
        refused = await client.get("/a/1")
        assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")


async def test_tokens(tmp_path: Path) -> None:
    """A token of a user is as good as the password, but no other text is one."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        await add_users(served)
        token = await Authenticator(served.replicated).token("ann", "ann's", "here")
        for scheme in ("Bearer ", ""):
            fields = {"Authorization": scheme + token}
            assert (await client.put("/a/1", content=b"x", headers=fields)).status_code == 204
            fields = {"Authorization": scheme + token[:-2] + "xx"}
            assert (await client.put("/a/1", content=b"x", headers=fields)).status_code == 401


#: Method and path under `/-/`, and what answers a user who is not root, if users are checked.
OPERATORS = [
    ("GET", "/-/healthy", 200),
    ("GET", "/-/ready", 200),
    ("GET", "/-/metrics", 200),
    ("GET", "/-/status", 200),
    ("GET", "/-/members", 403),
    ("POST", "/-/members", 403),
    ("POST", "/-/members/dry-run", 403),
    ("DELETE", "/-/members/<member_id>", 403),
    ("POST", "/-/members/<member_id>/promote", 403),
    ("POST", "/-/members/<member_id>/forget", 403),
    ("PUT", "/-/members/<member_id>", 403),
    ("GET", "/-/backup", 403),
    ("POST", "/-/leader", 403),
    ("POST", "/-/snapshot", 403),
    ("GET", "/-/log-level", 403),
    ("PUT", "/-/log-level", 403),
]


async def test_operators(tmp_path: Path) -> None:
    """All that the app serves is in the table, and refused to strangers and plain users unless it says so."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        await add_users(served)
        for method, path, expected in OPERATORS:
            url = path.replace("<member_id>", "7")
            json = {"Content-Type": "application/json"}
            seen = (await client.request(method, url, headers={**AS_ANN, **json})).status_code
            assert seen == expected, (method, path)
            seen = (await client.request(method, url, headers=json)).status_code
            assert seen == (401 if expected == 403 else expected), (method, path)
        assert (await client.get("/-/members", headers=AS_ROOT)).status_code == 200
        assert (await client.get("/-/nothing", headers=AS_ROOT)).status_code == 404
        assert (await client.get("/-/nothing", headers=AS_ANN)).status_code == 403
        answer = await client.get("/-/members", headers=AS_ANN)
        assert answer.json()["status"] == 403


async def test_a_revoke_ends_watches_and_waits(tmp_path: Path) -> None:
    """Neither a stream nor a wait for a key tells of what happens after its user may not read it any more."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        await add_users(served)
        assert (await client.get("/-/watch?key=/b", headers=AS_ANN)).status_code == 403
        assert (await client.get("/-/watch?key=/a/1")).status_code == 401
        put = await client.put("/a/1", content=b"x", headers=AS_ANN)
        told: list[str] = []
        waited: list[httpx.Response] = []

        async def watch(*, task_status: trio.TaskStatus[None]) -> None:
            async with client.stream("GET", "/-/watch?prefix=/a/", headers=AS_ANN) as answer:
                assert answer.status_code == 200
                task_status.started()
                told.extend([line async for line in answer.aiter_lines()])

        async def wait() -> None:
            fields = {**AS_ANN, "If-None-Match": put.headers["ETag"], "Prefer": "wait=60"}
            waited.append(await client.get("/a/1", headers=fields))

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(watch)
                nursery.start_soon(wait)
                while served.replicated.watches.load.watchers < 2:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.01)
                root = Actor(ROOT, served.store.auth.revision)
                await served.replicated.write(encode_command(RevokeRole("ann", "a"), root))
                await client.put("/a/1", content=b"secret", headers=AS_ROOT)
        assert [answer.status_code for answer in waited] == [403]
        assert any("permission" in line for line in told)
        assert not any("secret" in line for line in told)
