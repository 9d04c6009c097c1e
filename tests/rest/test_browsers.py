"""Browsers at the REST API: both fronts, keys and `/-/`, refuse what a page of another site asks for."""

from pathlib import Path

import httpx
import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import NodeConfig, RestConfig, ServerConfig
from raftkv_trio.http import serve_http
from raftkv_trio.rest import make_waiting_service
from raftkv_trio.rest.app import known_hosts
from tests.rest.serving import Served, open_client, open_server

FOREIGN = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
)
CHANGES = (
    ("PUT", "/key", "evil"),
    ("DELETE", "/key", ""),
    ("POST", "/4", "http://127.0.0.1:4"),
    ("DELETE", "/1", ""),
    ("POST", "/-/snapshot", ""),
    ("POST", "/-/leader", ""),
    ("POST", "/-/members", '{"id": 4, "url": "http://127.0.0.1:4"}'),
    ("DELETE", "/-/members/1", ""),
    ("PUT", "/-/log-level", '{"level": "error"}'),
)


async def state(served: Served, client: httpx.AsyncClient) -> tuple[int, str, str]:
    """What a change would change: the applied entries, a value, the log level."""
    value, level = (await client.get("/key")).text, (await client.get("/-/log-level")).text
    return served.node.status().applied_index, value, level


@pytest.mark.parametrize("fields", FOREIGN)
async def test_a_page_of_another_origin(
    served: Served, client: httpx.AsyncClient, fields: dict[str, str]
) -> None:
    """It changes nothing, with 403 and a sentence; it may ask for a read, without leave to see the answer."""
    assert (await client.put("/key", content="value")).status_code == 204
    before = await state(served, client)
    for method, path, content in CHANGES:
        refused = await client.request(method, path, content=content, headers=fields)
        assert (refused.status_code, "another origin" in refused.text) == (403, True), path
        kind = "application/problem+json" if path.startswith("/-/") else "text/plain; charset=utf-8"
        assert refused.headers["Content-Type"] == kind
    assert await state(served, client) == before
    for method, path, expected in (
        ("GET", "/key", 200),
        ("HEAD", "/key", 200),
        ("OPTIONS", "/key", 204),
        ("GET", "/-/status", 200),
        ("OPTIONS", "/-/snapshot", 204),
    ):
        assert (await client.request(method, path, headers=fields)).status_code == expected


async def test_a_page_of_the_same_origin(served: Served, client: httpx.AsyncClient) -> None:
    """A page that the node's own host and port served may do what a program may."""
    own = {"Origin": served.url, "Sec-Fetch-Site": "same-origin"}
    assert (await client.put("/key", content="value", headers=own)).status_code == 204
    assert (await client.post("/-/snapshot", headers=own)).status_code == 200


async def test_a_host_name_that_leads_here_for_others(served: Served, client: httpx.AsyncClient) -> None:
    """With DNS rebinding the page is of the same origin, but its name is unknown, for reads too."""
    rebound = {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}
    before = await state(served, client)
    for method, path, content in (
        *CHANGES,
        ("GET", "/key", ""),
        ("GET", "/-/status", ""),
        ("GET", "/-/healthy", ""),
    ):
        refused = await client.request(method, path, content=content, headers=rebound)
        assert (refused.status_code, "--host-whitelist" in refused.text) == (421, True)
    assert await state(served, client) == before
    metrics = (await client.get("/-/metrics")).text
    assert 'raftkv_http_requests_total{method="GET",route="key",status="421"} 1.0' in metrics
    assert 'raftkv_http_requests_total{method="POST",route="/-/",status="421"} 3.0' in metrics


def test_the_host_of_the_address_for_probes() -> None:
    """Whoever asks for health and metrics there names it."""
    config = RestConfig(listen_metrics=PeerAddress("probes", 9999))
    assert known_hosts(config, None, list).include(b"probes:9999")


async def test_the_host_whitelist(tmp_path: Path) -> None:
    """It adds names to those that are always known."""
    config = RestConfig(port=0, host_whitelist=("kv.example",))
    async with open_server(tmp_path / "data", config) as served, open_client(served) as client:
        for host, status in (
            ("kv.example:1", 404),
            ("localhost", 404),
            ("10.1.2.3", 404),
            ("other", 421),
        ):
            assert (await client.get("/key", headers={"Host": host})).status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_change_under_the_prefix_is_json(
    served: Served, client: httpx.AsyncClient, kind: str | None
) -> None:
    """Others get 415, so that no form and no simple request of a page can make one, whatever it tells."""
    before = await state(served, client)
    client.headers.pop("Content-Type")
    for method, path, content in CHANGES:
        if path.startswith("/-/") and method != "DELETE":
            headers = {} if kind is None else {"Content-Type": kind}
            refused = await client.request(method, path, content=content.encode(), headers=headers)
            assert (refused.status_code, "application/json" in refused.text) == (415, True)
    assert await state(served, client) == before
    # What does not exist, or is no change, is told first; keys have values of any type.
    assert (await client.post("/-/none")).status_code == 404
    assert (await client.put("/-/none")).status_code == 403
    assert (await client.post("/-/status")).status_code == 405
    assert (await client.put("/key", headers={"Content-Type": "text/plain"})).status_code == 204
    assert (await client.delete("/-/members/9")).status_code == 404


async def test_members_are_not_changed_at_the_root(tmp_path: Path) -> None:
    """Without `root_members` such a path is a key as any other for DELETE, and POST names the other path."""
    config = RestConfig(port=0, root_members=False)
    async with open_server(tmp_path / "data", config) as served, open_client(served) as client:
        refused = await client.post("/4", content=b"http://127.0.0.1:4")
        assert (refused.status_code, refused.text) == (
            403,
            "Members are not changed at the root; use POST /-/members\n",
        )
        assert (await client.delete("/1")).status_code == 404
        assert (await client.put("/1", content=b"value")).status_code == 204
        assert (await client.delete("/1")).status_code == 204
        assert len(served.node.members()) == 1


async def test_a_node_that_waits_to_be_added() -> None:
    """It refuses the same; its members are those of the configuration."""
    members = {1: PeerAddress("member-1", 1), 2: PeerAddress("member-2", 1)}
    config = ServerConfig(node=NodeConfig(node_id=1, members=members, data_dir=Path("data"), join=True))
    app = make_waiting_service(config, lambda: "Waiting to join: nobody answers")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_http, app, RestConfig(port=0))
        own = {"Host": f"member-2:{port}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=own) as client:
            assert (await client.get("/-/healthy")).status_code == 200
            assert (await client.put("/key")).status_code == 503
            assert (await client.put("/key", headers=FOREIGN[0])).status_code == 403
            assert (await client.get("/-/healthy", headers={"Host": "evil.example"})).status_code == 421
        nursery.cancel_scope.cancel()
