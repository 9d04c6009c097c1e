"""Who may do what over REST while authentication is enabled."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from quart import Quart

from raftkv_trio.access.credentials import Authenticator
from raftkv_trio.config import RestConfig
from raftkv_trio.kv import (
    ChangePassword,
    DisableAuth,
    EnableAuth,
    GrantPermission,
    Put,
    RevokePermission,
    Txn,
    encode_command,
)
from raftkv_trio.rest.responses import METHODS
from tests.rest.serving import PATIENCE_S, Served, open_client, open_cluster, open_server
from tests.rest.test_watch import watch
from tests.rest.users import ACTOR, ANN, RIGHT, ROOT, add_users, basic, change

CHALLENGE = 'Basic realm="raftkv-trio", charset="UTF-8"'
ANYBODY, A_USER, ONLY_ROOT = (True, True, True), (False, True, True), (False, False, True)
NOTHING: dict[str, str] = {}
#: Of every route under /-/, by method: who may ask for it of nobody, ann and root.
UNDER_OPERATORS = {
    ("GET", "/-/healthy"): ANYBODY,
    ("GET", "/-/ready"): ANYBODY,
    ("GET", "/-/metrics"): ANYBODY,
    ("GET", "/-/status"): ANYBODY,
    ("GET", "/-/members"): A_USER,
    ("POST", "/-/members"): ONLY_ROOT,
    ("POST", "/-/members/dry-run"): ONLY_ROOT,
    ("DELETE", "/-/members/<member_id>"): ONLY_ROOT,
    ("PUT", "/-/members/<member_id>"): ONLY_ROOT,
    ("POST", "/-/members/<member_id>/promote"): ONLY_ROOT,
    ("POST", "/-/members/<member_id>/forget"): ONLY_ROOT,
    ("POST", "/-/leader"): ONLY_ROOT,
    ("POST", "/-/snapshot"): ONLY_ROOT,
    ("GET", "/-/backup"): ONLY_ROOT,
    ("GET", "/-/log-level"): ONLY_ROOT,
    ("PUT", "/-/log-level"): ONLY_ROOT,
}
#: Of keys, /-/watch and the members at the root: method, target, fields, content, and who may.
AT_THE_ROOT: list[tuple[str, str, dict[str, str], str, tuple[bool, bool, bool]]] = [
    ("GET", "/a", {}, "", A_USER),
    ("HEAD", "/a", {}, "", A_USER),
    ("GET", "/a", {"Cache-Control": "max-stale=60"}, "", A_USER),
    ("GET", "/a", {"If-None-Match": "*"}, "", A_USER),
    ("GET", "/none", {}, "", ONLY_ROOT),
    ("GET", "/z", {}, "", ONLY_ROOT),
    ("GET", "/z", {"If-None-Match": "*"}, "", ONLY_ROOT),
    ("GET", "/z", {"If-Match": '"999"'}, "", ONLY_ROOT),
    ("GET", "/z", {"Cache-Control": "max-stale"}, "", ONLY_ROOT),
    ("PUT", "/a", {}, "value", A_USER),
    ("PUT", "/a", {"If-None-Match": "*"}, "value", A_USER),
    ("PUT", "/z", {}, "value", ONLY_ROOT),
    ("PUT", "/z", {"If-Match": '"999"'}, "value", ONLY_ROOT),
    ("PUT", "/z", {"If-Match": '"1", "999"'}, "value", ONLY_ROOT),
    ("PUT", "/none", {"If-Match": "*"}, "value", ONLY_ROOT),
    ("DELETE", "/a", {}, "", A_USER),
    ("DELETE", "/z", {}, "", ONLY_ROOT),
    ("DELETE", "/none", {}, "", ONLY_ROOT),
    ("DELETE", "/z", {"If-Match": '"999"'}, "", ONLY_ROOT),
    ("DELETE", "/7", {}, "", ONLY_ROOT),
    ("POST", "/7", {}, "no URL", ONLY_ROOT),
    ("POST", "/a", {}, "", ANYBODY),
    ("OPTIONS", "/a", {}, "", ANYBODY),
    ("GET", "/-/watch?key=/z", {}, "", ONLY_ROOT),
    ("GET", "/-/watch?prefix=/", {}, "", ONLY_ROOT),
]


@asynccontextmanager
async def served_with_users(directory: Path) -> AsyncIterator[tuple[Served, httpx.AsyncClient]]:
    async with open_server(directory) as served, open_client(served) as client:
        with trio.fail_after(2 * PATIENCE_S):
            for key in ("/a", "/z"):
                assert (await client.put(key, content="old")).status_code == 204
            await add_users(served)
            yield served, client


def check_refused(answer: httpx.Response, status: int) -> None:
    """It is refused in the form of its route, and by 401 a client is told how to say who asks."""
    assert answer.status_code == status, answer.text
    assert answer.headers.get("WWW-Authenticate") == (CHALLENGE if status == 401 else None)
    if status == 403 and answer.request.method != "HEAD":
        assert "has no permission for that; a user with the role root can give one" in answer.text
    if answer.request.method != "HEAD" and answer.request.url.path.startswith("/-/"):
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == status


async def head_or_error(
    client: httpx.AsyncClient, method: str, target: str, fields: dict[str, str], content: str
) -> httpx.Response:
    """The answer; if it is no error, perhaps without content, since a watch has no end."""
    async with client.stream(method, target, headers=fields, content=content) as answer:
        if not answer.is_success:
            await answer.aread()
    return answer


async def test_every_route(tmp_path: Path) -> None:
    """Of nobody, of a plain user, and of root. A route that is in no table here fails."""
    async with served_with_users(tmp_path) as (served, client):
        app = served.service.app
        assert isinstance(app, Quart)
        routes = {
            (method, rule.rule)
            for rule in app.url_map.iter_rules()
            for method in rule.methods or ()
            if method not in ("HEAD", "OPTIONS")
        }
        assert routes == set(UNDER_OPERATORS)
        assert {method for method, *_ in AT_THE_ROOT} == set(METHODS)
        asked: list[Any] = list(AT_THE_ROOT)
        for (method, rule), who in UNDER_OPERATORS.items():
            path = rule.replace("<member_id>", "7")
            asked.append((method, path, {}, "not JSON", who))
            if method == "GET":
                asked.append(("HEAD", path, {}, "", who))
        for method, target, fields, content, who in asked:
            for user, may in zip((None, ANN, ROOT), who, strict=True):
                shown = NOTHING if user is None else basic(user)
                before = served.node.applied_index
                answer = await head_or_error(client, method, target, fields | shown, content)
                if may:
                    assert answer.status_code not in (401, 403), (method, target, user)
                else:
                    check_refused(answer, 401 if user is None else 403)
                    # Not in the log either, and no word of whether the key exists.
                    assert served.node.applied_index == before
                    assert "ETag" not in answer.headers


async def test_what_proves_a_user(tmp_path: Path) -> None:
    """A password, or a token; what is wrong is 401, also where nothing would be needed with nothing shown."""
    async with served_with_users(tmp_path) as (served, client):
        token = await Authenticator(served.replicated).token(*ANN, "")
        for good in (basic(ANN), {"Authorization": f"Bearer {token}"}, {"Authorization": token}):
            assert (await client.get("/a", headers=good)).text == "old"
            assert (await client.get("/-/members", headers=good)).status_code == 200
        wrong = [basic((ANN[0], "x")), basic(("nobody", "x")), {"Authorization": "Basic !"}]
        digest = {"Authorization": 'Digest username="ann"'}
        told = await client.get("/a", headers=digest)
        assert "has the scheme Digest; the server takes `Basic`, with name" in told.text
        wrong += [{"Authorization": f"Bearer {token}x"}, digest]
        for bad in wrong:
            assert (await client.get("/-/nothing", headers=bad)).status_code == 404
            for target in ("/a", "/-/members", "/-/watch?key=/a"):
                check_refused(await client.get(target, headers=bad), 401)
        check_refused(await client.put("/a", headers=wrong[0], content="new"), 401)
        assert (await client.get("/-/status", headers=wrong[0])).status_code == 200
        twice = httpx.Headers([("Authorization", basic(ANN)["Authorization"])] * 2)
        assert (await client.get("/a", headers=twice)).status_code == 400
        # Another password ends what was proved by the old one.
        record = await Authenticator(served.replicated).passwords.record_of("new", "")
        await change(served, ChangePassword(ANN[0], record))
        for old in (basic(ANN), {"Authorization": f"Bearer {token}"}):
            check_refused(await client.get("/a", headers=old), 401)
        assert (await client.get("/a", headers=basic((ANN[0], "new")))).text == "old"


async def test_writes_are_those_of_their_users(tmp_path: Path) -> None:
    """What was revoked while a write waits in the log is refused, and the id of a retry is its user's."""
    async with served_with_users(tmp_path) as (served, client):
        fields = {"Idempotency-Key": "1"}
        for _ in range(2):
            answer = await client.put("/a", headers=basic(ANN) | fields, content="new")
            assert answer.status_code == 204
        assert (await client.put("/a", headers=basic(ROOT) | fields, content="new")).status_code == 422
        check_refused(await client.put("/a", headers=fields, content="new"), 401)
        served.disk.gate.close()
        answers: dict[str, httpx.Response] = {}

        async def write(method: str) -> None:
            answers[method] = await client.request(method, "/a", headers=basic(ANN))

        async with trio.open_nursery() as nursery:
            command = encode_command(RevokePermission("a", RIGHT.key, RIGHT.range_end), ACTOR)
            nursery.start_soon(served.replicated.write, command)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.start_soon(write, "PUT")
            nursery.start_soon(write, "DELETE")
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not answers
            served.disk.gate.open()
        for answer in answers.values():
            check_refused(answer, 403)
        assert (await client.get("/a", headers=basic(ROOT))).text == "new"


@pytest.mark.parametrize("enabled_before", [True, False])
async def test_a_wait_ends_where_it_may_not_be_read_any_more(tmp_path: Path, enabled_before: bool) -> None:
    """With 403 or 401, not with what happened after the revoke; so does one that began unchecked."""
    async with open_server(tmp_path) as served, open_client(served) as client:
        tag = (await client.put("/a", content="old")).headers["ETag"]
        await add_users(served, enable=enabled_before)
        answers: list[httpx.Response] = []

        async def wait() -> None:
            fields = {"If-None-Match": tag, "Prefer": f"wait={int(PATIENCE_S)}"}
            shown = basic(ANN) if enabled_before else NOTHING
            answers.append(await client.get("/a", headers=fields | shown))

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                while not served.replicated.watches.load.watchers:
                    await trio.lowlevel.checkpoint()
                if enabled_before:
                    await change(served, RevokePermission("a", RIGHT.key, RIGHT.range_end))
                else:
                    await change(served, EnableAuth())
        check_refused(answers[0], 403 if enabled_before else 401)


async def test_a_watch_ends_where_it_may_not_be_read_any_more(tmp_path: Path) -> None:
    """It is told all that came before the revoke and nothing after, and begins again after a new grant."""
    async with served_with_users(tmp_path) as (served, _):
        begin = served.store.revision + 1
        fields = basic(ANN)
        query = f"prefix=/a&rev={begin}"

        async def write(*commands: bytes) -> None:
            """All in one batch, so that no turn of the hub comes between."""
            proposals = [served.node.submit(command) for command in commands]
            for proposal in proposals:
                await served.replicated.outcome(proposal)

        def put(value: bytes) -> bytes:
            return encode_command(Txn((), (Put(b"/a1", value),)), ACTOR)

        revoke = encode_command(RevokePermission("a", RIGHT.key, RIGHT.range_end), ACTOR)
        grant = encode_command(GrantPermission("a", RIGHT), ACTOR)
        async with watch(served, query, **fields) as stream:
            await stream.next()
            await write(put(b"before"), revoke, put(b"after"), grant)
            event = await stream.next()
            assert event is not None
            assert event.data["changes"][0]["value"] == "before"
            event = await stream.next()
            assert event is not None
            assert (event.kind, event.data["reason"]) == ("error", "denied")
            assert await stream.next() is None
        async with watch(served, query, **fields) as stream:
            await stream.next()
            values = [(event := await stream.next()) and event.data["changes"][0]["value"] for _ in range(2)]
            assert values == ["before", "after"]


async def test_nothing_is_checked_when_authentication_is_disabled_again(tmp_path: Path) -> None:
    """Not even what a client shows that is wrong."""
    async with served_with_users(tmp_path) as (served, client):
        check_refused(await client.delete("/z"), 401)
        await change(served, DisableAuth())
        assert (await client.get("/z", headers=basic((ANN[0], "wrong")))).text == "old"
        assert (await client.delete("/z")).status_code == 204
        assert (await client.post("/-/snapshot")).status_code == 200
        assert not served.store.get(b"/z")


async def test_a_node_that_lags_behind_changes_nothing_for_strangers(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """It does not know yet that users are checked, and so asks a quorum before a change of the members."""
    patient = RestConfig(port=0, request_timeout_s=PATIENCE_S)
    async with open_cluster(tmp_path, free_ports(3), patient) as (leader, follower, _):
        addresses = dict(leader.node.addresses)
        follower.disk.gate.close()
        await add_users(leader)
        assert not follower.store.auth.is_enabled
        asked = [("POST", "/-/members"), ("DELETE", "/-/members/2"), ("POST", "/2"), ("DELETE", "/2")]
        asked += [("GET", "/-/backup"), ("GET", "/a")]
        answers: dict[tuple[str, str], httpx.Response] = {}

        async def ask(client: httpx.AsyncClient, method: str, path: str) -> None:
            content = '{"id": 2, "url": "http://127.0.0.1:1"}' if method == "POST" else ""
            answers[method, path] = await client.request(method, path, content=content)

        with trio.fail_after(PATIENCE_S):
            async with open_client(follower) as client, trio.open_nursery() as nursery:
                for method, path in asked:
                    nursery.start_soon(ask, client, method, path)
                while len(follower.parts.applied._waiting) < len(asked):
                    assert not answers
                    await trio.sleep(0.01)
                follower.disk.gate.open()
        for answer in answers.values():
            check_refused(answer, 401)
        assert dict(leader.node.addresses) == addresses
