"""The root API: what raftexample's users know, with revisions."""

import re

import httpx
import pytest

from tests.rest.serving import Served


async def test_a_value_comes_back(client: httpx.AsyncClient) -> None:
    """What was put is read, byte for byte, at the revision that the put told."""
    value = bytes(range(256)) * 5
    put = await client.put("/my-key", content=value)
    assert (put.status_code, put.content) == (204, b"")
    assert put.headers["ETag"] == '"2"'
    got = await client.get("/my-key")
    assert (got.status_code, got.content) == (200, value)
    assert got.headers["ETag"] == '"2"'
    assert got.headers["Content-Type"] == "application/octet-stream"


async def test_etag_is_the_mod_revision(client: httpx.AsyncClient, served: Served) -> None:
    """Each put of a key, and none of another, gives it a new entity tag: the revision it was changed at."""
    tags = [(await client.put(path, content=b"v")).headers["ETag"] for path in ("/a", "/b", "/a")]
    assert tags == ['"2"', '"3"', '"4"']
    assert (await client.get("/b")).headers["ETag"] == '"3"'
    record = served.store.get(b"/a")
    assert record is not None
    assert (record.create_revision, record.mod_revision, record.version) == (2, 4, 2)


async def test_raft_index_and_term(client: httpx.AsyncClient, served: Served) -> None:
    """Writes name the log position of their entry, reads one at or after it; both name the term."""
    positions = []
    for response in (
        await client.put("/key", content=b"1"),
        await client.get("/key"),
        await client.put("/key", content=b"2"),
        await client.delete("/key"),
    ):
        assert response.headers["X-Raft-Term"] == str(served.node.status().term)
        positions.append(int(response.headers["X-Raft-Index"]))
    put, got, again, deleted = positions
    assert put <= got < again < deleted == served.node.status().applied_index


async def test_head_is_get_without_content(client: httpx.AsyncClient) -> None:
    """HEAD has status and fields of GET, for keys that exist and keys that do not."""
    await client.put("/key", content=b"value")
    for path in ("/key", "/none"):
        head, get = await client.head(path), await client.get(path)
        assert head.status_code == get.status_code
        assert head.content == b""
        assert without_date(head) == without_date(get)


def without_date(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name != "date"}


async def test_every_answer_has_a_date(client: httpx.AsyncClient) -> None:
    """An origin server with a clock says when it answers (RFC 9110, section 6.6.1)."""
    for path in ("/none", "/-/status", "/-/none"):
        assert (await client.get(path)).headers["Date"].endswith(" GMT")


async def test_absent_keys(client: httpx.AsyncClient) -> None:
    """Reading or deleting what is not there is 404, in raftexample's words and then in ours."""
    got = await client.get("/none")
    assert (got.status_code, got.text) == (404, "Failed to GET: there is no such key\n")
    deleted = await client.delete("/none")
    assert (deleted.status_code, deleted.text) == (404, "Failed to DELETE: there is no such key\n")


async def test_a_read_says_how_far_its_node_has_applied(client: httpx.AsyncClient) -> None:
    """So says also the answer that there is no such key: a client may compare it with a later one."""
    put = await client.put("/key", content=b"1")
    for path in ("/key", "/none"):
        got = await client.get(path)
        assert int(got.headers["X-Raft-Index"]) >= int(put.headers["X-Raft-Index"])
        assert got.headers["X-Raft-Term"] == put.headers["X-Raft-Term"]


async def test_delete(client: httpx.AsyncClient) -> None:
    """A deleted key is gone, and created anew by the next put."""
    await client.put("/key", content=b"1")
    deleted = await client.delete("/key")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert "ETag" not in deleted.headers
    assert (await client.get("/key")).status_code == 404
    assert (await client.put("/key", content=b"2")).headers["ETag"] == '"4"'
    assert (await client.get("/key")).content == b"2"


async def test_an_empty_value_is_a_value(client: httpx.AsyncClient) -> None:
    """A key that was put with no content exists."""
    assert (await client.put("/key")).status_code == 204
    got = await client.get("/key")
    assert (got.status_code, got.content, got.headers["Content-Length"]) == (200, b"", "0")


async def test_post_elsewhere(client: httpx.AsyncClient) -> None:
    """POST on a path that is no node id is 400, in raftexample's words, and says what to do."""
    for path in ("/", "/key", "/04", "/4/", "/4?a", "/-4", "/4x"):
        posted = await client.post(path, content=b"http://127.0.0.1:1")
        assert posted.status_code == 400
        assert re.match("Failed on POST: .* POST /ID .* use PUT\n", posted.text), path


@pytest.mark.parametrize("method", ["put", "Get", "PU", "X" * 100, "!"])
async def test_what_is_no_method(served: Served, method: str) -> None:
    """What HTTP does not know as a method, a known one in other letters included, is 501."""
    answer = await served.ask(method.encode() + b" /key")
    assert answer.status == 501
    assert b"a method that HTTP knows, such as GET; methods are in capitals" in answer.content


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "CONNECT", "PROPFIND"])
async def test_other_methods(served: Served, method: str) -> None:
    """Any other method is 405 with the methods that keys know."""
    answer = await served.ask(method.encode() + b" /key")
    assert (answer.status, answer.headers["Allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, POST, PUT")
    assert answer.content == b"Method not allowed; use DELETE, GET, HEAD, OPTIONS, POST or PUT\n"


@pytest.mark.parametrize(
    "request_line", [b"OPTIONS /key HTTP/1.1", b"OPTIONS * HTTP/1.1", b"OPTIONS / HTTP/1.0"]
)
async def test_options(served: Served, request_line: bytes) -> None:
    """OPTIONS is 204 with the methods, which is what load balancers such as haproxy ask for."""
    async with served.connect() as wire:
        await wire.send(
            request_line, b"\r\n", b"" if b"1.0" in request_line else b"Host: localhost\r\n", b"\r\n"
        )
        answer = await wire.answer()
    assert (answer.status, answer.headers["Allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, POST, PUT")


async def test_members_as_raftexample_has_them(client: httpx.AsyncClient) -> None:
    """POST adds a node by its peer URL, DELETE removes it for good; nonsense has its own answer each."""
    url = b"http://127.0.0.1:42379"
    assert (await client.post("/4", content=url)).status_code == 204
    roles = {member["id"]: member["role"] for member in (await client.get("/-/members")).json()}
    assert roles == {1: "voter", 4: "learner"}
    for method, path, content, status, words in (
        ("POST", "/4", url, 409, "node 4 is a member already"),
        ("POST", "/5", url, 409, "is the address of node 4"),
        ("POST", "/5", b"five", 400, "does not begin with http://"),
        ("POST", "/0", url, 400, "Failed on POST"),
        ("DELETE", "/5", b"", 404, "node 5 is not a member"),
        ("DELETE", "/1", b"", 409, "the last voter cannot be removed"),
        ("DELETE", "/4", b"", 204, ""),
        ("DELETE", "/4", b"", 404, "it was removed"),
        ("POST", "/4", url, 409, "a removed id is never taken again"),
    ):
        answer = await client.request(method, path, content=content)
        assert (answer.status_code, words in answer.text) == (status, True), (method, path, answer.text)


async def test_delete_of_a_path_that_is_node_and_key(client: httpx.AsyncClient) -> None:
    """If a key /3 exists, DELETE /3 removes nothing and names both ways; with If-Match it deletes the key."""
    await client.put("/3", content=b"value")
    refused = await client.delete("/3")
    assert refused.status_code == 409
    assert "DELETE /-/members/3" in refused.text
    assert "If-Match: *" in refused.text
    assert (await client.get("/3")).content == b"value"
    assert (await client.delete("/3", headers={"If-Match": "*"})).status_code == 204
    assert (await client.get("/3")).status_code == 404
    assert (await client.delete("/3", headers={"If-Match": "*"})).text.startswith("Failed to DELETE")
