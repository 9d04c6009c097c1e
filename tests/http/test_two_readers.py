"""Two parsers read the same bytes: whatever both take for a request is the same request, content included.

Else a proxy in front of a node, which has a parser of its own, could be made to see other requests than the
node does (request smuggling; RFC 9112, section 11.2). What only one of the two takes for a request is listed
here, with the reason why that does no harm.
"""

import re
from collections.abc import Callable
from itertools import zip_longest

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.readers import Reading, read_by_h11, read_by_us
from tests.http.requests import Abuse, abuses

#: Put into good streams at random places; most of the differences between two parsers are about these.
PIECES = [
    *(b"\r", b"\n", b"\r\n", b"\r\n ", b"\n\n", b" ", b"\t", b":", b"\x00", b"\x0b", b"\x7f", b"\xff"),
    *(b"0", b"1", b",", b";", b"+", b"-", b"chunked", b"HTTP/1.1", b"\r\n\r\n", b"Host: localhost\r\n"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n"),
]
METHODS = b"GET|HEAD|PUT|DELETE|POST|PATCH|OPTIONS|CONNECT|TRACE"
HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /" + HEAD + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@st.composite
def streams(draw: st.DrawFn) -> Abuse:
    """Requests, each with one flaw at most, and up to three changes anywhere in the bytes of all of them."""
    abuse = draw(abuses)
    sent = bytearray(b"".join(abuse.requests))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(sent)))
        sent[start : start + draw(st.integers(0, 3))] = draw(st.sampled_from(PIECES) | st.binary(max_size=2))
    return Abuse([bytes(sent)], abuse.cuts, True)


def has(pattern: bytes) -> Callable[[bytes, Reading], bool]:
    return lambda stream, reading: re.search(pattern, stream) is not None


def is_new_method(stream: bytes, reading: Reading) -> bool:
    return re.fullmatch(METHODS, reading.method) is None


def is_no_url(stream: bytes, reading: Reading) -> bool:
    return re.match(rb"/|\*$|https?://", reading.target, re.IGNORECASE) is None


def is_repeated(stream: bytes, reading: Reading) -> bool:
    return len(re.findall(rb"content-length", stream, re.IGNORECASE)) > 1 or b"," in stream


#: What h11 takes for a request, and we refuse. To refuse more than another never makes two requests of one.
ONLY_H11 = {
    "a method that HTTP does not know (501)": is_new_method,
    "a target that is neither a path nor a URL, which h11 leaves to the app (400)": is_no_url,
    "lines that end with a bare LF, which the RFC lets a recipient take (400)": has(rb"(?<!\r)\n"),
    "folded lines, which the RFC tells a server to refuse or to unfold (400)": has(rb"\r\n[ \t]"),
    "control characters in a value (400)": has(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]"),
    "chunks in HTTP/1.0, which has none (400)": has(rb"HTTP/1\.0"),
    "the same Content-Length more than once (400)": is_repeated,
    "spaces where chunks have none (400)": has(rb"[0-9a-f][ \t]+\r\n"),
    "fields about framing in a trailer, where they mean nothing (400)": has(
        rb"(?i)\r\n0+\r\n(?:[^\r\n]+\r\n)*(?:content-length|transfer-encoding|connection)"
    ),
}
#: What we take for a request, and h11 refuses.
ONLY_WE = {
    "empty lines before a request line, which the RFC tells a server to skip": has(rb"(^|\n|[^\r])\r\n[A-Z]"),
    "a bare CR or LF before a request line, which is no part of a request": has(
        rb"(?:\r(?!\n)|(?<!\r)\n)[\r\n]*[A-Z]"
    ),
    "more than 20 digits of a chunk's size, most of which are zeros": has(rb"0{8}"),
    "more spaces than one in a request line: the three words are the same": has(rb"  +"),
    "HTTP/1.x under the name of another protocol that looks the same (ICE, RTSP)": has(rb"ICE/|RTSP/"),
}


def check(stream: Abuse) -> None:
    sent = b"".join(stream.pieces)
    ours, theirs = read_by_us(stream.pieces).requests, read_by_h11(stream.pieces).requests
    for own, other in zip_longest(ours, theirs):
        if own is not None and other is not None:
            assert own == other
            continue
        reading, reasons = (other, ONLY_H11) if own is None else (own, ONLY_WE)
        assert any(is_reason(sent, reading) for is_reason in reasons.values()), (own, other)
        return


CORPUS = [
    b"GET /" + HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /" + HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
    b"PUT /" + HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"PUT /" + HEAD + CHUNKED + b"\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n" + GET,
    b"PUT /" + HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"PUT /" + HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"PUT /" + HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc" + GET,
    b"PUT /" + HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + CHUNKED + b"\r\n1\r\na\r\n0\r\n\r\n" + GET,
    b"CONNECT a:80" + HEAD + b"Content-Length: 3\r\n\r\nabc" + GET,
    b"GET /" + HEAD + b"Connection: close\r\n\r\n" + GET,
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET,
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    b"GET / ICE/1.0\r\n\r\n",
    b"\r\n\r\n" + GET + b"\r\n" + GET,
    b"\r" + GET,
    GET + b"\r" + GET,
    GET + b"\n" + GET,
    b"PUT /" + HEAD + b"Content-Length: 3\r\n\r\nabc\r\r\n" + GET,
    b"PUT /" + HEAD + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    b"PUT /" + HEAD + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    b"PUT /" + HEAD + b"Transfer-Encoding: identity\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    b"PUT /" + HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    b"PUT /" + HEAD + CHUNKED + b"\r\n1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n" + GET,
    b"PUT /" + HEAD + CHUNKED + b"\r\n1\r\na\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + GET,
    b"PUT /" + HEAD + CHUNKED + b"\r\n1\r\na\r\n0\r\nConnection: close\r\n\r\n" + GET,
    b"PUT /" + HEAD + CHUNKED + b"\r\n1\r\na\r\n0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + GET,
    b"PUT /" + HEAD + CHUNKED + b"\r\n" + b"0" * 40 + b"1\r\na\r\n0\r\n\r\n",
    b"PUT /" + HEAD + CHUNKED + b'\r\n1;a="\r\n"\r\na\r\n0\r\n\r\n',
    b"PUT /" + HEAD + CHUNKED + b"\r\n1\r\nab0\r\n\r\n",
    b"GET /" + HEAD + b"Connection: close, upgrade\r\nUpgrade: x\r\n\r\n" + GET,
    b"GET /" + HEAD + b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n" + GET,
]


@pytest.mark.parametrize("sent", CORPUS)
def test_known_traps(sent: bytes) -> None:
    """Framings that parsers are known to differ about, in one piece and byte by byte."""
    check(Abuse([sent], [], True))
    check(Abuse([sent], list(range(len(sent))), True))


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams())
def test_made_streams(stream: Abuse) -> None:
    """Streams that hypothesis makes."""
    check(stream)


@pytest.mark.long
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams())
def test_many_made_streams(stream: Abuse) -> None:
    """20,000 of them."""
    check(stream)
