"""The HTTP client of all commands: what it says of servers that fail, and that it does nothing twice."""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from raftkv_trio.addresses import ClientAddress, PeerAddress
from raftkv_trio.client.backup import fetch_backup
from raftkv_trio.client.login import Login
from raftkv_trio.client.members import Cluster
from raftkv_trio.client.rest import (
    NoAnswer,
    NobodyDid,
    NotANode,
    RequestFailed,
    RequestRefused,
    RestClient,
    open_rest_client,
)
from raftkv_trio.errors import ConfigError, RaftKVError
from tests.client.stranger import Stranger, open_stranger, response

NOBODY = PeerAddress("127.0.0.1", 1)
PATH = "/-/members"


@asynccontextmanager
async def stranger(answer: bytes, path: str = PATH) -> AsyncIterator[Stranger]:
    async with trio.open_nursery() as nursery:
        yield await open_stranger(nursery, {path: answer})
        nursery.cancel_scope.cancel()


async def change(*endpoints: PeerAddress) -> None:
    async with open_rest_client(60) as rest:
        await Cluster(rest, endpoints).change([{"action": "remove", "id": 3}], is_forced=False)


async def test_a_change_goes_on_to_the_next_endpoint_if_nothing_was_sent() -> None:
    """A closed port and a node that has no leader did nothing: the next endpoint is asked."""
    unavailable = response({"detail": "no leader is known"}, "503 Service Unavailable")
    async with stranger(unavailable) as waiting, stranger(response({})) as node:
        await change(NOBODY, waiting.address, node.address)
        assert (waiting.asked, node.asked) == ([f"POST {PATH}"], [f"POST {PATH}"])


@pytest.mark.parametrize("answer", [b"", response({"detail": "unknown outcome"}, "504 Gateway Timeout")])
async def test_a_change_that_may_have_been_made_is_not_sent_again(answer: bytes) -> None:
    """After a connection that ended without an answer, and after an unknown outcome, no other is asked."""
    async with stranger(answer) as first, stranger(response({})) as second:
        with pytest.raises(RaftKVError):
            await change(first.address, second.address)
        assert (first.asked, second.asked) == ([f"POST {PATH}"], [])


@pytest.mark.parametrize("is_download", [False, True])
async def test_a_tls_handshake_that_is_cancelled_closes_its_socket(is_download: bool) -> None:
    """A server that says nothing sees the connection end at once, not when garbage is collected."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = ClientAddress("127.0.0.1", listener.socket.getsockname()[1], is_tls=True)

    async def ask() -> None:
        async with open_rest_client(60) as rest:
            if is_download:
                async with rest.download(server, PATH):
                    pass
            else:
                await rest.ask("GET", server, PATH)

    gc.disable()
    try:
        with trio.fail_after(60):
            async with listener, trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                silent = await listener.accept()
                await silent.receive_some()
                nursery.cancel_scope.cancel()
            async with silent:
                while await silent.receive_some():
                    pass
    finally:
        gc.enable()


async def test_a_change_that_timed_out_is_not_sent_again() -> None:
    """The request has arrived, and the timeout ends: it may still be carried out."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        silent = PeerAddress("127.0.0.1", listener.socket.getsockname()[1])
        second = await open_stranger(nursery, {PATH: response({})})
        async with open_rest_client(0.3) as rest:
            with pytest.raises(NoAnswer, match=r"nothing within 0\.3 s") as raised:
                await Cluster(rest, [silent, second.address]).change([], is_forced=False)
        assert raised.value.was_sent
        assert second.asked == []
        await listener.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("409 Conflict", RequestRefused),
        ("429 Too Many Requests", RequestFailed),
        ("507 Insufficient Storage", RequestFailed),
        ("302 Found", RequestFailed),
    ],
)
async def test_errors_of_a_node(status: str, kind: type[RaftKVError]) -> None:
    """A refusal is a ConfigError, for the operator to correct; no detail can control a terminal."""
    answer = response({"detail": "no\x1b[2J room"}, status)
    async with stranger(answer) as node, open_rest_client(60) as rest:
        with pytest.raises(kind, match=r"no\\x1b\[2J room$") as raised:
            await rest.ask("GET", node.address, PATH)
    assert isinstance(raised.value, ConfigError) is (kind is RequestRefused)


async def test_a_long_sentence_of_a_node_is_shown_to_its_end() -> None:
    """Its end says what to do."""
    answer = response({"detail": f"{'x' * 600}; stop it"}, "503 Service Unavailable")
    async with stranger(answer) as node, open_rest_client(60) as rest:
        with pytest.raises(RequestFailed, match=r"xxx; stop it$"):
            await rest.ask("GET", node.address, PATH)


async def test_a_full_node_says_so() -> None:
    """The one error that a node sends as plain text, before it reads a request."""
    full = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 21\r\n\r\nToo many connections\n"
    async with stranger(full) as node, open_rest_client(60) as rest:
        with pytest.raises(RequestFailed, match=r"^http://.*: too many connections$"):
            await rest.ask("GET", node.address, PATH)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "the connection ended in the middle of"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf", "is not a compatible raftkv-trio node"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf", "sent a damaged backup: "),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\nz", "a proxy compresses"),
        (response({"detail": "no quorum"}, "503 Service Unavailable"), ": no quorum"),
        (response({}, "404 Not Found"), "it answers with status 404"),
    ],
)
async def test_a_backup_that_does_not_come(tmp_path: Path, answer: bytes, sentence: str) -> None:
    """It is said why, and no file is made, nor is the one replaced that was there."""
    file = tmp_path / "file"
    file.write_text("before")
    async with stranger(answer, "/-/backup") as node:
        with pytest.raises(RaftKVError, match=sentence):
            await fetch_backup([node.address], file, timeout_s=60, force=True, shows_progress=False)
    assert os.listdir(tmp_path) == ["file"]
    assert file.read_text() == "before"


async def test_a_backup_without_a_majority(tmp_path: Path) -> None:
    """The next member is asked, which may have one; if none has, it is said where to read on."""
    refused = response({"detail": "no leader is known"}, "503 Service Unavailable")
    async with stranger(refused, "/-/backup") as one, stranger(refused, "/-/backup") as two:
        fetch = partial(fetch_backup, timeout_s=60, force=False, shows_progress=False)
        with pytest.raises(NobodyDid) as raised:
            await fetch([one.address, two.address], tmp_path / "file")
        assert str(raised.value).splitlines() == [
            "no member that was asked did this:",
            f"{one.address.url}: no leader is known",
            f"{two.address.url}: no leader is known",
            'if a majority is lost for good, see "The majority is lost" in docs/operating.md',
        ]
        with pytest.raises(NobodyDid, match='"The majority is lost" in docs'):
            await fetch([one.address], tmp_path / "file")


def test_refusals_of_several_members_say_whose_they_are() -> None:
    """One that is alone needs no address: the user has named it."""
    refusals = [RequestRefused("http://a:1", "ask for https://"), RequestRefused("http://b:1", "no")]
    assert str(NobodyDid(refusals)).splitlines()[1:] == ["http://a:1: ask for https://", "http://b:1: no"]
    assert str(NobodyDid(refusals[:1])) == "ask for https://"


async def test_a_download_that_is_not_read_to_its_end() -> None:
    """The caller's own error ends it, and leaves nothing to the garbage collector (warnings are errors)."""

    async def fail(node: Stranger, rest: RestClient) -> None:
        async with rest.download(node.address, PATH) as download:
            async for _ in download.pieces:
                raise OSError("full")

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000)
    async with stranger(answer) as node, open_rest_client(60) as rest:
        with pytest.raises(OSError, match="full"):
            await fail(node, rest)


async def test_a_long_answer_is_not_read_to_its_end() -> None:
    """A document has a limit, so that no server can fill the memory of the command that asks it."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n" + bytes(2_000_000)
    async with stranger(answer) as node, open_rest_client(60) as rest:
        with pytest.raises(NotANode, match="longer than 1048576 bytes"):
            await rest.ask("GET", node.address, PATH)


@pytest.mark.parametrize("host", ["999.1.1.1", "xn--a"])
async def test_a_host_that_no_request_can_name_is_one_that_does_not_answer(host: str) -> None:
    """httpx and idna refuse such a host with errors of their own; another member may have announced it."""
    async with open_rest_client(5) as rest:
        with pytest.raises(NoAnswer, match="malformed"):
            await rest.ask("GET", PeerAddress(host, 80), PATH)


async def test_an_unavailable_server_without_words_leads_to_the_next_endpoint() -> None:
    """A proxy answers 503 with nothing when no node is behind it."""
    async with stranger(response("", "503 Service Unavailable")) as proxy, stranger(response({})) as node:
        await change(proxy.address, node.address)
        assert (proxy.asked, node.asked) == ([f"POST {PATH}"], [f"POST {PATH}"])


# ---------------------------------------------------------------- who asks


async def test_who_asks_is_in_each_request() -> None:
    """In Basic, as RFC 7617 has it with UTF-8."""
    login = Login(user="ann", password="p\xe4ss:word")
    async with stranger(response({})) as node, open_rest_client(60, login=login) as rest:
        await rest.ask("GET", node.address, PATH)
        await rest.ask("POST", node.address, PATH, {})
        async with rest.download(node.address, PATH):
            pass
        assert node.authorizations == ["Basic YW5uOnDDpHNzOndvcmQ="] * 3


async def test_a_password_is_not_sent_without_tls_to_whom_a_member_names() -> None:
    """If all endpoints have TLS. The refusal that follows says so; without a user, that one is needed."""
    refusal = response({"detail": "who asks?"}, "401 Unauthorized")
    for login, words in (
        (
            Login(user="ann", password="secret", needs_tls=True),
            "who asks?; the password was not sent to http",
        ),
        (None, "who asks?; name a user (on the command line of raftkv-trio with --user)"),
        (Login(user="ann", password="secret"), "who asks?"),
    ):
        async with stranger(refusal) as node, open_rest_client(60, login=login) as rest:
            with pytest.raises(RequestRefused) as refused:
                await rest.ask("GET", node.address, PATH)
            assert str(refused.value).startswith(words)
            assert len(node.authorizations) == (login is not None and not login.needs_tls)


async def test_a_name_with_a_colon_cannot_be_sent() -> None:
    """The colon would end it."""
    with pytest.raises(ConfigError, match="no name of a user with a colon"):
        async with open_rest_client(60, login=Login(user="a:b", password="secret")):
            pass
