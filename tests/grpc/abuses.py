"""What a client may say that is no good HTTP/2, or no good gRPC: strategies of hypothesis."""

from typing import NamedTuple

from hypothesis import strategies as st

from raftkv_trio.grpc import frames
from raftkv_trio.grpc.frames import PREFACE, ErrorCode, frame, settings, window_update
from raftkv_trio.grpc.header_table import Field, encode
from tests.grpc.ends import HEAD, STREAM_PATH, data, head, message, request


class Abuse(NamedTuple):
    """The bytes that a client sends, in pieces, and whether it stays to read the answer."""

    pieces: list[bytes]
    reads: bool


stream_ids = st.one_of(st.sampled_from([0, 1, 1, 1, 2, 3, 5, 2**31 - 1]), st.integers(0, 2**31 - 1))
kinds = st.one_of(st.integers(0, 9), st.integers(0, 255))
WAIT_PATH = b"/test.Echo/Wait"
numbers = st.one_of(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 65535]), st.integers(0, 2**32 - 1))

bad_fields: list[Field] = [
    (b"Upper", b"x"),
    (b"connection", b"close"),
    (b"transfer-encoding", b"chunked"),
    (b"te", b"gzip"),
    (b":status", b"200"),
    (b":path", b"/twice"),
    (b"a", b"\r\nb: c"),
    (b"a", b"\xff" * 20),
    (b"grpc-timeout", b"-1S"),
    (b"grpc-timeout", b"99999999H"),
    (b"grpc-timeout", b"0n"),
    (b"grpc-encoding", b"gzip"),
    (b"content-length", b"-5"),
    (b"content-type", b"text/html"),
    (b"big", b"b" * 9000),
]
paths = st.one_of(st.sampled_from([b"", b"*", b"/", b"/a\xff/b", b"/test.Echo/"]), st.binary())


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A block of a head: some fields left out, moved, or changed; perhaps of bytes that are no HPACK."""
    fields = list(HEAD)
    for _ in range(draw(st.integers(0, 3))):
        change = draw(st.sampled_from(["leave out", "move", "add", "path", "method", "any"]))
        at = draw(st.integers(0, len(fields) - 1)) if fields else 0
        if change == "leave out" and fields:
            del fields[at]
        elif change == "move" and fields:
            fields.append(fields.pop(at))
        elif change == "add":
            fields.insert(at, draw(st.sampled_from(bad_fields)))
        elif change == "path":
            path = draw(
                st.one_of(st.sampled_from([b"", b"*", b"/", b"/a\xff/b", b"/test.Echo/"]), st.binary())
            )
            fields = [(name, path if name == b":path" else value) for name, value in fields]
        elif change == "method":
            fields = [(name, b"GET" if name == b":method" else value) for name, value in fields]
        else:
            fields.insert(at, (draw(st.binary(max_size=20)), draw(st.binary(max_size=50))))
    return encode(fields)


bombs = st.sampled_from(
    [
        b"\x40\x01a\x7f\x81\x1e" + b"b" * 4000 + b"\xbe" * 4000,
        b"\x00\x00\x00" * 5000,
        b"\x3f\xe1\x1f" * 3000,
        b"\xff" * 16000,
        b"\x00\xff\xff\xff\xff\xff" + b"\xff" * 1000,
        b"\x00\x01a\xff\x80\x40" + b"\x00" * 8000,
    ]
)
blocks = st.one_of(heads(), heads(), st.binary(max_size=100), bombs)
contents = st.one_of(
    st.sampled_from(
        [
            b"",
            b"\0",
            message(b"x"),
            message(b"x") * 3,
            message(b"!"),
            b"\1" + message(b"x")[1:],
            b"\xff" * 5,
            b"\0\xff\xff\xff\xffabc",
            b"\0\0\0\0\x09abc",
        ]
    ),
    st.binary(max_size=300),
)


@st.composite
def made_frames(draw: st.DrawFn) -> bytes:
    """One frame, mostly of a payload that its type may have."""
    kind, flags, stream_id = draw(kinds), draw(st.integers(0, 255)), draw(stream_ids)
    if kind in (frames.HEADERS, frames.CONTINUATION, frames.PUSH_PROMISE):
        payload = draw(blocks)
        flags = draw(st.sampled_from([4, 5, 4, 5, 0, 1, flags]))
    elif kind == frames.DATA:
        payload = draw(contents)
        flags = draw(st.sampled_from([0, 1, 1, 8, flags]))
    elif kind == frames.SETTINGS:
        pairs = draw(st.lists(st.tuples(st.integers(0, 8), numbers), max_size=4))
        payload = settings(dict(pairs))[9:]
        flags, stream_id = (
            draw(st.sampled_from([0, 0, 1, flags])),
            draw(st.sampled_from([0, 0, 0, stream_id])),
        )
    elif kind in (frames.RST_STREAM, frames.WINDOW_UPDATE):
        payload = draw(numbers).to_bytes(4, "big")
    else:
        payload = draw(st.binary(max_size=20))
    made = frame(kind, flags, stream_id, payload)
    if draw(st.integers(0, 9)) == 0:  # a length that is not that of the payload
        made = draw(st.integers(0, 2**24 - 1)).to_bytes(3, "big") + made[3:]
    return made


good = st.sampled_from(
    [
        request(1),
        request(3),
        head(1),
        head(1, path=STREAM_PATH),
        head(1, path=STREAM_PATH) + data(message(b"a") * 5, ends=False),
        data(message(b"x")),
        window_update(0, 1000),
        window_update(1, 1),
        frames.reset(1, ErrorCode.CANCEL),
        frame(frames.PING, 0, 0, bytes(8)),
    ]
)
floods = st.sampled_from(
    [
        settings({}) * 500,
        settings({frames.INITIAL_WINDOW_SIZE: 1}) * 20 + request(1),
        frame(frames.PING, 0, 0, bytes(8)) * 1000,
        frame(frames.PRIORITY, 0, 1, bytes(5)) * 1000,
        b"".join(head(2 * n + 1) + frames.reset(2 * n + 1, ErrorCode.CANCEL) for n in range(1000)),
        b"".join(request(2 * n + 1) for n in range(1000)),
        b"".join(head(2 * n + 1, path=WAIT_PATH) + data(message(b"x"), 2 * n + 1) for n in range(1000)),
        b"".join(head(2 * n + 1) for n in range(1100)),
        frame(frames.HEADERS, 0, 1, encode(HEAD)) + frame(frames.CONTINUATION, 0, 1, b"\x00\x01a\x01b") * 500,
        head(1) + frame(frames.DATA, 0, 1, b"") * 3000,
        head(1, path=b"/test.Echo/Big") + data(message(b"10000000")) + window_update(1, 1) * 300,
    ]
)
BEGIN = PREFACE + settings({})
beginnings = st.sampled_from(
    [*[BEGIN] * 8, PREFACE + settings({4: 1}), PREFACE, b"", b"GET / HTTP/1.1\r\n\r\n", PREFACE[:9]]
)
all_parts = st.one_of(made_frames(), made_frames(), made_frames(), good, st.binary(max_size=40))


@st.composite
def abuses(draw: st.DrawFn) -> Abuse:
    """A connection's bytes: frames, good and bad, in one piece or cut anywhere."""
    parts = draw(st.lists(all_parts, max_size=8))
    if draw(st.integers(0, 19)) == 0:
        parts.insert(draw(st.integers(0, len(parts))), draw(floods))
    said = draw(beginnings) + b"".join(parts)
    cuts = sorted(draw(st.lists(st.integers(0, len(said)), max_size=3)))
    pieces = [said[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    return Abuse([piece for piece in pieces if piece], draw(st.booleans()) or draw(st.booleans()))
