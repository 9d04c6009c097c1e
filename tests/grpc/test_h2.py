"""The library h2 as the other end of ours, without I/O: it accepts all that we send, and we what it sends."""

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.grpc import CLIENT_LIMITS, Code, Limits
from raftkv_trio.grpc.client_end import ClientEnd
from raftkv_trio.grpc.heads import request_block
from raftkv_trio.grpc.messages import MessageReader
from raftkv_trio.grpc.server_end import ServerEnd
from tests.grpc.ends import methods

HEAD = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Echo/Echo"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "h2"),
]
RESPONSE = [(":status", "200"), ("content-type", "application/grpc")]
SETTINGS = h2.settings.SettingCodes


def exchange(
    ours: ServerEnd | ClientEnd, theirs: h2.connection.H2Connection, piece_bytes: int = 2**20
) -> list[h2.events.Event]:
    """Let both say what they have to say, in pieces; returns what h2 has seen."""
    seen: list[h2.events.Event] = []
    while True:
        said = theirs.data_to_send()
        for start in range(0, len(said), piece_bytes):
            ours.feed(said[start : start + piece_bytes])
        answer = b""
        while ours.output:
            taken = ours.take_output()
            ours.note_sent(len(taken))
            answer += taken
        if not said and not answer:
            assert ours.fault is None
            return seen
        for start in range(0, len(answer), piece_bytes):
            seen += theirs.receive_data(answer[start : start + piece_bytes])


def h2_client(**changes: int) -> h2.connection.H2Connection:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    if changes:
        client.update_settings({getattr(SETTINGS, name): value for name, value in changes.items()})
    return client


def send_slowly(client: h2.connection.H2Connection, stream_id: int, content: bytes) -> bytes:
    """Send what the windows allow; returns the rest."""
    while content:
        size = min(client.local_flow_control_window(stream_id), client.max_outbound_frame_size, len(content))
        if size <= 0:
            break
        pad_bytes = size % 100 if size > 200 else 0
        size -= pad_bytes + 1 if pad_bytes else 0
        client.send_data(stream_id, content[:size], pad_length=pad_bytes or None)
        content = content[size:]
    return content


def serve(server: ServerEnd) -> None:
    """Answer unary calls with their requests, and streams with each message."""
    for call in server.ready:
        if call.method.is_unary:
            server.respond(call, call.messages.popleft())
    server.ready.clear()
    for call in list(server.streams.values()):
        if not call.method.is_unary and call.unsent_bytes < 100_000:
            while (message := server.take_message(call)) is not None:
                server.send_message(call, message)
            if not call.is_remote_open:
                server.finish(call, Code.OK)


requests = st.lists(
    st.tuples(st.sampled_from(["Echo", "Chat"]), st.integers(0, 200_000)), min_size=1, max_size=6
)


@settings(max_examples=25, derandomize=True)
@given(
    requests=requests,
    piece_bytes=st.sampled_from([1, 9, 1000, 16393, 2**20]),
    window=st.sampled_from([1, 100, 65535, 2**20]),
    server_window=st.sampled_from([1, 1000, 65535, 10**6]),
    table=st.sampled_from([0, 100, 4096]),
)
def test_h2_as_the_client(
    requests: list[tuple[str, int]], piece_bytes: int, window: int, server_window: int, table: int
) -> None:
    """Calls side by side, with windows and pieces of every size: each gets its own message back."""
    if piece_bytes < 9 or window < 100 or server_window < 1000:
        requests = [(name, size // 300) for name, size in requests]
    server = ServerEnd(methods(), Limits(stream_window_bytes=server_window), lambda: 0.0)
    client = h2_client(INITIAL_WINDOW_SIZE=window, HEADER_TABLE_SIZE=table)
    exchange(server, client, piece_bytes)
    rests: dict[int, bytes] = {}
    got: dict[int, bytes] = {}
    trailers: dict[int, dict[bytes, bytes]] = {}
    for number, (name, size) in enumerate(requests):
        stream_id = 2 * number + 1
        client.send_headers(stream_id, [(n, f"/test.Echo/{name}" if n == ":path" else v) for n, v in HEAD])
        content = bytes([number]) * size
        rests[stream_id] = len(content).to_bytes(5, "big") + content
        got[stream_id] = b""
    expected = dict(rests)
    for _ in range(100_000):
        for stream_id, rest in list(rests.items()):
            rests[stream_id] = send_slowly(client, stream_id, rest)
            if not rests[stream_id]:
                client.end_stream(stream_id)
                del rests[stream_id]
        serve(server)
        for event in exchange(server, client, piece_bytes):
            if isinstance(event, h2.events.DataReceived):
                assert event.stream_id is not None
                got[event.stream_id] += event.data or b""
                if event.flow_controlled_length:
                    client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                assert event.stream_id is not None
                trailers[event.stream_id] = dict(event.headers or [])
        if len(trailers) == len(requests):
            break
    assert got == expected
    assert all(fields == {b"grpc-status": b"0"} for fields in trailers.values())
    assert not server.streams
    assert not server.unsent_bytes


def test_h2_gets_errors_and_resets() -> None:
    """Trailers-Only, a PING, a reset, and GOAWAY are what h2 takes them for."""
    server = ServerEnd(methods(), Limits(), lambda: 0.0)
    client = h2_client()
    client.send_headers(1, [(name, "/no/such" if name == ":path" else value) for name, value in HEAD])
    client.ping(b"12345678")
    seen = exchange(server, client)
    (response,) = [event for event in seen if isinstance(event, h2.events.ResponseReceived)]
    assert dict(response.headers or [])[b"grpc-status"] == b"12"
    assert [e.ping_data for e in seen if isinstance(e, h2.events.PingAckReceived)] == [b"12345678"]
    assert [e.error_code for e in seen if isinstance(e, h2.events.StreamReset)] == [0]
    client.send_headers(3, [(name, "/test.Echo/Chat" if name == ":path" else value) for name, value in HEAD])
    exchange(server, client)
    (call,) = server.ready
    client.reset_stream(3)
    exchange(server, client)
    assert not call.is_local_open
    server.stop()
    (end,) = [e for e in exchange(server, client) if isinstance(e, h2.events.ConnectionTerminated)]
    assert (end.error_code, end.last_stream_id) == (0, 3)


@settings(max_examples=25, derandomize=True)
@given(
    sizes=st.lists(st.integers(0, 100_000), min_size=1, max_size=6),
    piece_bytes=st.sampled_from([9, 1000, 2**20]),
    window=st.sampled_from([100, 65535, 2**20]),
)
def test_h2_as_the_server(sizes: list[int], piece_bytes: int, window: int) -> None:
    """It answers each call of ours with the request, as slowly as its windows and ours allow."""
    client = ClientEnd(CLIENT_LIMITS, lambda: 0.0)
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    server.update_settings({SETTINGS.INITIAL_WINDOW_SIZE: window})
    exchange(client, server)
    block = request_block("/test.Echo/Echo", "http", "localhost", {"key": "value"})
    contents = [bytes([number]) * size for number, size in enumerate(sizes)]
    calls = [client.open_unary(block, content, lambda: None) for content in contents]
    got = {call.id: b"" for call in calls}
    rests: dict[int, bytes] = {}
    for _ in range(100_000):
        for event in exchange(client, server, piece_bytes):
            if isinstance(event, h2.events.RequestReceived):
                assert dict(event.headers or [])[b"key"] == b"value"
            elif isinstance(event, h2.events.DataReceived):
                assert event.stream_id is not None
                got[event.stream_id] += event.data or b""
                if event.flow_controlled_length:
                    server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                assert event.stream_id is not None
                server.send_headers(
                    event.stream_id, [(":status", "200"), ("content-type", "application/grpc")]
                )
                rests[event.stream_id] = got[event.stream_id]
        for stream_id, rest in list(rests.items()):
            rests[stream_id] = send_slowly(server, stream_id, rest)
            if not rests[stream_id]:
                server.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)
                del rests[stream_id]
        if all(call.has_ended for call in calls):
            break
    assert [(call.error, list(call.messages)) for call in calls] == [
        (None, [content]) for content in contents
    ]
    assert not client.streams


@settings(max_examples=100, derandomize=True)
@given(messages=st.lists(st.binary(max_size=300), max_size=20), cuts=st.lists(st.integers(1, 50)))
def test_messages_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    """DATA frames and messages know nothing of each other."""
    content = b"".join(len(message).to_bytes(5, "big") + message for message in messages)
    reader, got, at = MessageReader(300), list[bytes](), 0
    for cut in [*cuts, len(content) + 1]:
        got += reader.feed(content[at : at + cut])
        at += cut
        missing = reader.missing_bytes
        assert missing > 0
    assert got == messages
    assert not reader.is_inside


@pytest.mark.parametrize("content_type", ["application/json", None])
def test_what_is_no_call_is_to_be_sent_by_http_1_1(content_type: str | None) -> None:
    """Its stream is reset with the code for that, while calls beside it go on."""
    server, client = ServerEnd(methods(), Limits(), lambda: 0.0), h2_client()
    exchange(server, client)
    head = [(name, value) for name, value in HEAD if name != "content-type"]
    if content_type is not None:
        head.append(("content-type", content_type))
    client.send_headers(1, HEAD)
    client.send_headers(3, head)
    client.send_data(3, b"{}", end_stream=True)
    client.send_data(1, b"\0\0\0\0\1x", end_stream=True)
    resets = [event for event in exchange(server, client) if isinstance(event, h2.events.StreamReset)]
    assert [(reset.stream_id, reset.error_code) for reset in resets] == [
        (3, h2.errors.ErrorCodes.HTTP_1_1_REQUIRED)
    ]
    assert [call.id for call in server.ready] == [1]
