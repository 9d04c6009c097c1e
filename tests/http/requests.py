"""Bad requests, made by hypothesis: bytes for one connection, and how it ends."""

from itertools import pairwise
from typing import NamedTuple

from hypothesis import strategies as st

TOKENS = ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS", "CONNECT", "TRACE", "PRI", "get", "X-Y"]
PATHS = [
    "/",
    "/key",
    "/3",
    "/key?a=b",
    "/%00%ff",
    "/-/status",
    "/-/members",
    "/-/members/3",
    "/-/metrics",
    "/-/leader",
    "/-/log-level",
    "/-/healthy",
    "/-/none",
    "*",
    "http://other/key",
    "http://other/-/ready",
    "https://",
    "other:80",
]
HARMLESS = {
    "Connection": ["keep-alive", "upgrade", "x,,y"],
    "Upgrade": ["h2c", "websocket", "TLS/1.0"],
    "HTTP2-Settings": ["AAMAAABkAAQAAP__", "!"],
    "Expect": ["100-continue", "200"],
    "If-Match": ["*", '"1"', "1", 'W/"2", "3"', '"' * 50],
    "If-None-Match": ["*", '"1"', ""],
    "Cache-Control": ["max-stale", "max-stale=5", "max-stale=-1", "max-stale=999999999999"],
    "Content-Type": ["multipart/form-data; boundary=x", "application/json", "\xff"],
    "Cookie": ["a=b; c", "=;=\xff"],
    "Range": ["bytes=0-0"],
}
FRAMING = {
    "Host": ["a:80", "localhost:80", "", "\xe9"],
    "Content-Length": ["0", "5", "-1", "1e3", "5, 5", "99999999999999999999", "5000000"],
    "Transfer-Encoding": ["chunked", "gzip", "chunked, chunked", "identity"],
    "Connection": ["close"],
}
NO_REQUESTS = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    b"PRI * HTTP/2.0\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"\r\n\r\n",
]


class Abuse(NamedTuple):
    """What is sent in how many pieces; then the client closes its side and reads, or is gone at once."""

    requests: list[bytes]
    cuts: list[int]
    reads: bool

    @property
    def pieces(self) -> list[bytes]:
        sent = b"".join(self.requests)
        bounds = sorted({0, len(sent), *(cut % (len(sent) + 1) for cut in self.cuts)})
        return [sent[start:end] for start, end in pairwise(bounds)]


latin = st.text(st.characters(max_codepoint=255), max_size=20)
good_fields = st.one_of(
    *(st.tuples(st.just(name), st.sampled_from(values)) for name, values in HARMLESS.items())
)
flawed_fields = st.one_of(
    good_fields,
    *(st.tuples(st.just(name), st.sampled_from(values)) for name, values in FRAMING.items()),
    st.tuples(st.sampled_from([*HARMLESS, *FRAMING]), latin),
    st.tuples(latin, latin),
)
contents = st.binary(max_size=200) | st.sampled_from([b"x" * 3000, b"debug", b"http://127.0.0.1:1"])


any_path = st.binary(max_size=30).map(lambda path: "/" + path.decode("latin-1"))
FLAWS = ["none"] * 5 + ["method", "target", "version", "host", "fields", "short", "long", "bare"]
odd_versions = st.sampled_from(["HTTP/1.0", "HTTP/2.0", "http/1.1", ""])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request with one flaw at most, so that what comes after it is often read too."""
    flaw = draw(st.sampled_from(FLAWS))
    method = draw(latin if flaw == "method" else st.sampled_from(TOKENS))
    target = draw(latin | any_path if flaw == "target" else st.sampled_from(PATHS))
    version = draw(odd_versions) if flaw == "version" else "HTTP/1.1"
    fields = [("Host", "localhost")] * (draw(st.sampled_from([0, 2])) if flaw == "host" else 1)
    fields += draw(st.lists(flawed_fields if flaw == "fields" else good_fields, max_size=3))
    content = draw(contents)
    told = max(0, len(content) + {"short": 7, "long": -7}.get(flaw, 0))
    if flaw != "bare" and draw(st.booleans()):
        fields.append(("Transfer-Encoding", "chunked"))
        content = b"%x\r\n%b\r\n0\r\n\r\n" % (told, content) if told else b"0\r\n\r\n"
    elif flaw != "bare":
        fields.append(("Content-Length", str(told)))
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in fields)]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1") + content


no_requests = st.sampled_from(NO_REQUESTS) | st.binary(max_size=50)
abuses = st.builds(
    Abuse,
    requests=st.lists(requests(), min_size=1, max_size=12) | st.lists(no_requests, min_size=1, max_size=2),
    cuts=st.lists(st.integers(0, 10_000), max_size=3),
    reads=st.sampled_from([True, True, True, False]),
)
