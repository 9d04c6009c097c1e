"""What a client says that breaks a rule or a bound: which code it gets, and what goes on."""

from collections.abc import Callable
from typing import Any

import pytest

from raftkv_trio.grpc import CLIENT_LIMITS, Code, Limits, frames
from raftkv_trio.grpc.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    ErrorCode,
    frame,
    settings,
    window_update,
)
from raftkv_trio.grpc.header_table import encode
from tests.grpc.ends import (
    HEAD,
    STREAM_PATH,
    Talk,
    data,
    head,
    message,
    request,
    resets,
    statuses,
    went_away,
)

E = ErrorCode
BLOCK = encode(HEAD)
REQUEST = request()
OPEN = head(path=STREAM_PATH)
TOO_LARGE_HEAD = "the head of the request is too large"
TOO_LARGE = "grpc: received message larger than max (4294967295 vs. 2097152)"
COMPRESSED = "grpc: compressed flag set with identity or empty encoding"


def raw_head(size: int, kind: int = DATA, flags: int = 0, stream_id: int = 1) -> bytes:
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        # frames
        (raw_head(16385), E.FRAME_SIZE_ERROR),
        (raw_head(2**24 - 1), E.FRAME_SIZE_ERROR),
        (frame(DATA, 0, 0, b"x"), E.PROTOCOL_ERROR),
        (frame(DATA, 0, 1, b"x"), E.PROTOCOL_ERROR),
        (frame(DATA, 0, 2, b"x"), E.PROTOCOL_ERROR),
        (OPEN + frame(DATA, PADDED, 1, b""), E.PROTOCOL_ERROR),
        (OPEN + frame(DATA, PADDED, 1, b"\x05abcd"), E.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 0, BLOCK), E.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 2, BLOCK), E.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + BLOCK), E.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"abcd"), E.FRAME_SIZE_ERROR),
        (frame(CONTINUATION, END_HEADERS, 1, BLOCK), E.PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 3, b""), E.PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)), E.PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, BLOCK) + frame(99, 0, 0, b""), E.PROTOCOL_ERROR),
        (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), E.PROTOCOL_ERROR),
        (frame(PRIORITY, 0, 0, bytes(5)), E.PROTOCOL_ERROR),
        (frame(RST_STREAM, 0, 1, bytes(4)), E.PROTOCOL_ERROR),
        (frame(RST_STREAM, 0, 0, bytes(4)), E.PROTOCOL_ERROR),
        (OPEN + frame(RST_STREAM, 0, 1, bytes(3)), E.FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 1, b""), E.PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 0, bytes(5)), E.FRAME_SIZE_ERROR),
        (frame(SETTINGS, 1, 0, bytes(6)), E.FRAME_SIZE_ERROR),
        (frame(PING, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
        (frame(PING, 0, 0, bytes(7)), E.FRAME_SIZE_ERROR),
        (frame(GOAWAY, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
        (frame(GOAWAY, 0, 0, bytes(7)), E.FRAME_SIZE_ERROR),
        # settings
        (settings({frames.INITIAL_WINDOW_SIZE: 2**31}), E.FLOW_CONTROL_ERROR),
        (settings({frames.MAX_FRAME_SIZE: 16383}), E.PROTOCOL_ERROR),
        (settings({frames.MAX_FRAME_SIZE: 2**24}), E.PROTOCOL_ERROR),
        (settings({frames.ENABLE_PUSH: 2}), E.PROTOCOL_ERROR),
        # windows
        (window_update(0, 0), E.PROTOCOL_ERROR),
        (window_update(0, 2**31 - 1), E.FLOW_CONTROL_ERROR),
        (window_update(1, 1), E.PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, bytes(3)), E.FRAME_SIZE_ERROR),
        (OPEN + window_update(1, 2**31 - 70_000) + settings({4: 80_000}), E.FLOW_CONTROL_ERROR),
        # HPACK
        (frame(HEADERS, END_HEADERS, 1, b"\x80"), E.COMPRESSION_ERROR),  # index 0
        (frame(HEADERS, END_HEADERS, 1, b"\xbe"), E.COMPRESSION_ERROR),  # beyond the table
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\x7f"), E.COMPRESSION_ERROR),  # a huge number
        (frame(HEADERS, END_HEADERS, 1, b"\x00\x7f\xff"), E.COMPRESSION_ERROR),  # ends inside a length
        (frame(HEADERS, END_HEADERS, 1, b"\x00\x05ab"), E.COMPRESSION_ERROR),  # ends inside a name
        (frame(HEADERS, END_HEADERS, 1, b"\x00\x81\xff\x01a"), E.COMPRESSION_ERROR),  # bad Huffman padding
        (frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f"), E.COMPRESSION_ERROR),  # a table of 4097 bytes
        (frame(HEADERS, END_HEADERS, 1, BLOCK + b"\x20"), E.COMPRESSION_ERROR),  # a new size after a field
    ],
)
def test_what_ends_the_connection(said: bytes, code: ErrorCode) -> None:
    """GOAWAY has the code that the RFC has; nothing is taken after it."""
    talk = Talk()
    assert went_away(talk.say(said)) == code
    assert talk.end.fault is not None
    assert talk.say(REQUEST) == []


@pytest.mark.parametrize(
    ("beginning", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" + bytes(24), E.PROTOCOL_ERROR),
        (PREFACE + REQUEST, E.PROTOCOL_ERROR),
        (PREFACE + frames.SETTINGS_ACK, E.PROTOCOL_ERROR),
        (PREFACE + frame(PING, 0, 0, bytes(8)), E.PROTOCOL_ERROR),
    ],
)
def test_connections_that_do_not_begin_as_http_2(beginning: bytes, code: ErrorCode) -> None:
    """The preface, and then SETTINGS."""
    talk = Talk(begins_with=beginning)
    assert went_away(talk.beginning) == code


def bad_heads() -> list[bytes]:
    fields = dict(HEAD)
    without = [
        encode([item for item in HEAD if item[0] != name]) for name in (b":method", b":scheme", b":path")
    ]
    more = [
        (b"Upper", b"x"),
        (b"a b", b"x"),
        (b"", b"x"),
        (b"a\x00", b"x"),
        (b"a", b"x\x00"),
        (b"a", b"x\r\ny"),
        (b"a", b" x"),
        (b"a", b"x\t"),
        (b"connection", b"close"),
        (b"proxy-connection", b"close"),
        (b"keep-alive", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
        (b":status", b"200"),
        (b":unknown", b"x"),
        (b":path", b"/twice"),
    ]
    after = [*[item for item in HEAD if item[0] != b":path"], (b":path", fields[b":path"])]
    return [*without, *(encode([*HEAD, field]) for field in more), encode(after), b""]


@pytest.mark.parametrize("block", bad_heads())
def test_malformed_heads(block: bytes) -> None:
    """Their streams are reset; the connection, and its header table, go on."""
    talk = Talk()
    said = talk.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert resets(said) == [(1, E.PROTOCOL_ERROR)]
    talk.say(request(3))
    assert list(statuses(talk.answer_all())) == [(3, 0, "")]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (OPEN + window_update(1, 0), E.PROTOCOL_ERROR),
        (OPEN + window_update(1, 2**31 - 1), E.FLOW_CONTROL_ERROR),
        (OPEN + head(path=STREAM_PATH), E.PROTOCOL_ERROR),  # a second head
        (OPEN + data(b"") + data(b"x"), E.STREAM_CLOSED),
        (OPEN + data(b"") + head(path=STREAM_PATH, ends=True), E.STREAM_CLOSED),
        (OPEN + frame(PRIORITY, 0, 1, bytes(4)), E.FRAME_SIZE_ERROR),
        (OPEN + b"".join([data(message(bytes(16000)), ends=False)] * 5), E.FLOW_CONTROL_ERROR),
    ],
)
def test_what_ends_one_stream(said: bytes, code: ErrorCode) -> None:
    """Another one goes on."""
    talk = Talk()
    assert resets(talk.say(said)) == [(1, code)]
    talk.end.ready.clear()
    talk.say(request(3))
    assert list(statuses(talk.answer_all())) == [(3, 0, "")]


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        (head(path=b"/a\xff\xfe/b"), Code.UNIMPLEMENTED, "unknown service a%EF%BF%BD%EF%BF%BD"),
        (head(path=b"*"), Code.RESOURCE_EXHAUSTED, 'malformed method name: "*"'),
        (head(more=[(b"grpc-timeout", b"x")]), Code.INTERNAL, "malformed grpc-timeout"),
        (head(more=[(b"grpc-timeout", b"123456789S")]), Code.INTERNAL, "malformed grpc-timeout"),
        (
            head(more=[(b"big", bytes([97]) * 8020)] * 2),
            Code.RESOURCE_EXHAUSTED,
            TOO_LARGE_HEAD,
        ),
        (
            head() + data(b"\0\xff\xff\xff\xff"),
            Code.RESOURCE_EXHAUSTED,
            TOO_LARGE,
        ),
        (
            head() + data(b"\1\0\0\0\0"),
            Code.INTERNAL,
            COMPRESSED,
        ),
        (head() + data(b"\7\0\0\0\0"), Code.INTERNAL, "grpc: received unexpected payload format 7"),
        (head() + data(b""), Code.UNKNOWN, "EOF"),
        (head(ends=True), Code.UNKNOWN, "EOF"),
        (head() + data(message(b"abc")[:4]), Code.UNKNOWN, "unexpected EOF"),
        (head() + data(message(b"abc")[:7]), Code.UNKNOWN, "unexpected EOF"),
    ],
)
def test_what_is_answered_with_a_status(said: bytes, code: Code, text: str) -> None:
    """As etcd's grpc-go answers, in one HEADERS frame; nothing is kept."""
    talk = Talk()
    answer = talk.say(said)
    assert list(statuses(answer)) == [(1, code, text)]
    assert went_away(answer) is None
    assert not talk.end.streams
    assert not talk.load.request_bytes


# ---------------------------------------------------------------- floods


def rapid_reset(number: int) -> bytes:
    return head(2 * number + 1) + frames.reset(2 * number + 1, E.CANCEL)


def made_reset(number: int) -> bytes:
    """Makes the server reset a stream."""
    return head(2 * number + 1, path=STREAM_PATH) + window_update(2 * number + 1, 0)


def after(first: bytes, *, then: bytes) -> Callable[[int], bytes]:
    return lambda number: then if number else first


REFUSED = head(path=b"/no")
BEGUN = frame(HEADERS, 0, 1, BLOCK)
FLOODS: dict[str, Callable[[int], bytes]] = {
    "settings": lambda number: settings({}),
    "pings": lambda number: frame(PING, 0, 0, bytes(8)),
    "answers to pings": lambda number: frame(PING, 1, 0, bytes(8)),
    "priorities": lambda number: frame(PRIORITY, 0, 1, bytes(5)),
    "unknown frames": lambda number: frame(99, 0, 0, b"?"),
    "goaways": lambda number: frame(GOAWAY, 0, 0, bytes(8)),
    "acknowledgements": lambda number: frames.SETTINGS_ACK,
    "empty content": after(OPEN, then=frame(DATA, 0, 1, b"")),
    "windows of ended streams": after(REQUEST, then=window_update(1, 1)),
    "content of ended streams": after(REFUSED, then=data(b"x", ends=False)),
    "heads of ended streams": after(REFUSED, then=REFUSED),
    "rapid reset": rapid_reset,
    "made reset": made_reset,
    "empty continuations": after(BEGUN, then=frame(CONTINUATION, 0, 1, b"")),
    "continuations": after(BEGUN, then=frame(CONTINUATION, 0, 1, b"\x00\x01a\x64" + b"b" * 100)),
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods(name: str) -> None:
    """Some thousand frames that cost the client nothing end the connection; what is kept is bounded."""
    talk = Talk()
    for number in range(10_000):
        talk.end.feed(FLOODS[name](number))
        talk.answer_all()
        if talk.end.fault is not None:
            break
    assert talk.end.fault is not None
    assert talk.end.fault.code == E.ENHANCE_YOUR_CALM
    assert len(talk.end.streams) <= 1


@pytest.mark.parametrize("name", ["settings", "pings", "rapid reset", "priorities"])
def test_the_same_at_a_human_pace_is_no_flood(name: str) -> None:
    """One in a second, for hours."""
    talk = Talk()
    for number in range(10_000):
        talk.now += 1
        talk.say(FLOODS[name](number))
        talk.end.ready.clear()
    assert talk.end.fault is None


def test_clients_that_measure_with_pings() -> None:
    """Go's clients send a PING for each response, however many these are in a second."""
    talk = Talk()
    for number in range(10_000):
        talk.say(request(2 * number + 1))
        assert talk.answer_all()
        assert talk.say(frame(PING, 0, 0, bytes(8)))[0].flags == frames.ACK
    assert talk.end.fault is None


def test_more_streams_than_allowed() -> None:
    """They are refused, so that the client knows that they did nothing; those within the bound are served."""
    talk = Talk(Limits(max_streams=100))
    said = talk.say(*(request(2 * number + 1) for number in range(1000)))
    assert [code for _, code in resets(said)] == [E.REFUSED_STREAM] * 900
    assert len(list(statuses(talk.answer_all()))) == 100


def test_after_a_stop() -> None:
    """GOAWAY names the last stream; later ones are refused, and what still comes for them is no fault."""
    talk = Talk()
    talk.say(request(1))
    talk.end.stop()
    said = talk.say(request(3), request(5), data(b"more", 5))
    assert [frame.content for frame in said if frame.kind == GOAWAY] == [(1, E.NO_ERROR)]
    assert resets(said) == [(3, E.REFUSED_STREAM), (5, E.REFUSED_STREAM)]
    assert list(statuses(talk.answer_all())) == [(1, 0, "")]


def test_bytes_of_requests_in_progress_are_bounded() -> None:
    """Over all connections of a server; what is refused for it did nothing, and says so."""
    limits = Limits(max_request_bytes=100_000)
    talk = Talk(limits, PREFACE + settings({}) + window_update(0, 2**20))
    said = talk.say(*(request(2 * number + 1, bytes(10_000)) for number in range(20)))
    refused = list(statuses(said))
    assert {code for _, code, _ in refused} == {Code.RESOURCE_EXHAUSTED}
    assert len(refused) == 11
    assert len(list(statuses(talk.answer_all()))) == 9
    assert talk.load.request_bytes == 0
    talk.say(request(41, bytes(10_000)))
    assert list(statuses(talk.answer_all())) == [(41, 0, "")]


def test_a_window_of_one_byte() -> None:
    """A response leaves byte by byte, as the client allows it, and whole in the end."""
    talk = Talk(begins_with=PREFACE + settings({frames.INITIAL_WINDOW_SIZE: 0}))
    talk.say(request(content=b"0123456789"))
    said = talk.answer_all()
    for _ in range(15):
        assert talk.end.unsent_bytes
        said += talk.say(window_update(1, 1))
    content = [frame.content for frame in said if frame.kind == DATA]
    assert content == [bytes([byte]) for byte in message(b"0123456789")]
    assert list(statuses(said)) == [(1, 0, "")]
    assert not talk.end.unsent_bytes
    assert not talk.end.blocked


@pytest.mark.parametrize("initial_window", [10**6, 0])
def test_a_window_of_one_byte_with_many_streams(initial_window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection's window grows by a byte: that costs no look at each stream that waits."""
    talk = Talk(begins_with=PREFACE + settings({frames.INITIAL_WINDOW_SIZE: initial_window}))
    for stream_id in range(1, 401, 2):
        talk.say(request(stream_id))
        # The last one, by its window, uses up that of the connection, if the others have not.
        talk.end.respond(talk.end.ready.pop(), bytes(1000 if stream_id < 399 else 70_000))
    talk.say(window_update(399, 10**6))
    looks = 0
    send_unsent = talk.end._send_unsent

    def count(*args: Any) -> int:
        nonlocal looks
        looks += 1
        return send_unsent(*args)

    monkeypatch.setattr(talk.end, "_send_unsent", count)
    assert len(talk.end.blocked) > 100
    talk.say(window_update(0, 10))
    said = talk.say(window_update(0, 1) * 100)
    assert [frame.content for frame in said if frame.kind == DATA] == [b"\0"] * 100
    assert looks <= 200, looks


def test_a_setting_that_is_changed_many_times_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of changes in a frame the last one counts: each would cost a look at all streams."""
    talk = Talk()
    talk.say(head(path=STREAM_PATH))
    (call,) = talk.end.ready
    changes = list[int]()
    change_initial_window = talk.end._change_initial_window

    def change(value: int) -> None:
        changes.append(value)
        change_initial_window(value)

    monkeypatch.setattr(talk.end, "_change_initial_window", change)
    payload = b"".join(settings({frames.INITIAL_WINDOW_SIZE: value})[9:] for value in range(2000))
    assert went_away(talk.say(frame(SETTINGS, 0, 0, payload))) is None
    assert changes == [1999]
    assert call.send_window == 1999


def test_a_window_that_shrinks_below_zero() -> None:
    """Nothing leaves until the client has made up for it (RFC 9113, section 6.9.2)."""
    talk = Talk()
    talk.say(head(), settings({frames.INITIAL_WINDOW_SIZE: 0}), window_update(1, 5), data(message(b"x" * 20)))
    assert len(talk.answer_all()) == 2  # a head, and DATA
    talk.say(settings({frames.INITIAL_WINDOW_SIZE: 100}), settings({frames.INITIAL_WINDOW_SIZE: 10}))
    assert not talk.end.blocked
    talk.say(head(3, path=STREAM_PATH))
    (call,) = talk.end.ready
    talk.end.send_message(call, b"y" * 5)
    talk.say(settings({frames.INITIAL_WINDOW_SIZE: 2}))
    talk.end.send_message(call, b"z")
    assert talk.heard() == []
    assert talk.say(window_update(3, 8)) == []
    assert [frame.content for frame in talk.say(window_update(3, 1))] == [b"\0"]


@pytest.mark.parametrize("field", ["max_streams", "burst_s", "send_timeout_s"])
def test_limits_must_be_positive(field: str) -> None:
    """Nobody can turn a bound off by mistake."""
    with (
        pytest.raises(ValueError, match="must be positive")
        if False
        else pytest.raises(Exception, match=field)
    ):
        Limits(**{field: 0})


def test_the_limits_of_clients_are_good() -> None:
    """They are checked as those of servers."""
    assert CLIENT_LIMITS.stream_window_bytes > Limits().stream_window_bytes
