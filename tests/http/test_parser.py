"""The parser alone: what no connection can show, since it reads little at a time."""

import pytest

from raftkv_trio.http.messages import Request
from raftkv_trio.http.parser import RequestParser
from tests.http.readers import MAX_HEAD_BYTES, NoSource

OFFER = b"Connection: upgrade\r\nUpgrade: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def parse(*pieces: bytes) -> tuple[RequestParser, list[Request]]:
    parser = RequestParser(MAX_HEAD_BYTES, NoSource())
    for piece in pieces:
        parser.feed(piece)
    return parser, list(parser.requests)


@pytest.mark.parametrize(
    "head", [b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n" + OFFER + b"\r\n"]
)
def test_many_offers(head: bytes) -> None:
    """However many upgrades are offered at once, all are ignored."""
    parser, requests = parse(head * 3000)
    assert parser.failure is None
    assert len(requests) == 3000
    assert all(request.is_complete for request in requests)


@pytest.mark.parametrize("offer", [b"", OFFER])
def test_the_method_of_a_flaw(offer: bytes) -> None:
    """A flaw in the content of a HEAD is one of a HEAD, also if the head offers an upgrade."""
    parser, (request,) = parse(b"HEAD / HTTP/1.1\r\nHost: a\r\n" + offer + CHUNKED + b"x")
    assert parser.is_failure_of_head
    assert request.has_flaw


@pytest.mark.parametrize("framing", [b"1;" + b"x" * 40_000, b"1\r\na\r\n0\r\n" + b"T: x\r\n" * 7000])
def test_framing_without_end(framing: bytes) -> None:
    """Chunk extensions and trailers have the bound of a head."""
    sent = b"PUT / HTTP/1.1\r\nHost: a\r\n" + CHUNKED + framing
    parser, (request,) = parse(*(sent[start : start + 100] for start in range(0, len(sent), 100)))
    assert parser.failure is not None
    assert parser.failure.status == 431
    assert request.has_flaw
