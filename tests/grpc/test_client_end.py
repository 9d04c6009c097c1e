"""The client's end without I/O: what is known of a call when its connection ends, and what it bounds."""

from collections.abc import Callable

import pytest

from raftkv_trio.grpc import CLIENT_LIMITS, CallLost, CallNotExecuted, Code, RpcError, frames
from raftkv_trio.grpc.client_end import ClientEnd
from raftkv_trio.grpc.frames import DATA, END_STREAM, ErrorCode, frame, head_frames, settings
from raftkv_trio.grpc.header_table import encode
from raftkv_trio.grpc.heads import RESPONSE_HEAD, TRAILERS_OK, request_block
from tests.grpc.ends import message

BLOCK = request_block("/test.Echo/Echo", "http", "localhost", {})
HEAD = head_frames(0, 1, RESPONSE_HEAD)
END = head_frames(END_STREAM, 1, TRAILERS_OK)


def connected(**values: int) -> ClientEnd:
    """An end whose server has said how it begins."""
    end = ClientEnd(CLIENT_LIMITS, lambda: 0.0)
    end.feed(settings({getattr(frames, name): value for name, value in values.items()}))
    end.note_sent(len(end.take_output()))
    return end


def fate(end: ClientEnd, happens: Callable[[ClientEnd], object], content: bytes = b"x") -> Exception | None:
    """How a call ends if this happens, and then the connection ends."""
    call = end.open_unary(BLOCK, content, lambda: None)
    happens(end)
    end.lose_all("the test says so")
    assert call.has_ended
    assert not end.streams
    return call.error


def test_a_call_of_which_no_byte_has_left() -> None:
    """It is certainly not executed."""
    assert isinstance(fate(connected(), lambda end: None), CallNotExecuted)


def test_a_call_that_was_sent() -> None:
    """It may be executed, also if only a part of it is known to have left."""
    assert isinstance(fate(connected(), lambda end: end.note_sent(len(end.take_output()))), CallLost)
    assert isinstance(fate(connected(), lambda end: end.take_output()), CallLost)

    def send_a_byte(end: ClientEnd) -> None:
        data = end.take_output()
        end.note_sent(1, data[1:])

    assert isinstance(fate(connected(), send_a_byte), CallLost)


def test_a_call_that_the_system_has_not_taken() -> None:
    """The connection was broken before it: it is certainly not executed."""

    def fail_to_send(end: ClientEnd) -> None:
        end.note_not_taken(len(end.take_output()))

    assert isinstance(fate(connected(), fail_to_send), CallNotExecuted)


def test_a_call_whose_request_has_no_window() -> None:
    """The server has only a part of the request: it is certainly not executed."""
    end = connected(INITIAL_WINDOW_SIZE=100)
    assert isinstance(
        fate(end, lambda end: end.note_sent(len(end.take_output())), bytes(200)), CallNotExecuted
    )


def test_a_stream_that_was_sent() -> None:
    """Its first messages may be executed, whatever waits."""
    end = connected(INITIAL_WINDOW_SIZE=100)
    call = end.open(BLOCK, is_unary=False, on_change=lambda: None)
    end.send_message(call, bytes(200))
    end.note_sent(len(end.take_output()))
    end.lose_all("the test says so")
    assert isinstance(call.error, CallLost)


def status_of(*said: bytes) -> Code | None:
    """With which status a call ends if the server says this; None: it goes on."""
    end = connected()
    call = end.open_unary(BLOCK, b"x", lambda: None)
    for piece in said:
        end.feed(piece)
    assert end.fault is None
    assert call.has_ended is (not end.streams)
    if not call.has_ended:
        return None
    assert call.error is None or isinstance(call.error, RpcError)
    return Code.OK if call.error is None else call.error.code


def data(content: bytes, *, ends: bool = False) -> bytes:
    return frame(DATA, END_STREAM if ends else 0, 1, content)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ([HEAD, data(message(b"a")), END], Code.OK),
        ([HEAD, data(message(b"a"))], None),
        ([head_frames(0, 1, encode([(b":status", b"103")])), HEAD, data(message(b"a")), END], Code.OK),
        ([HEAD, END], Code.INTERNAL),  # no message
        ([HEAD, data(message(b"a") * 2), END], Code.INTERNAL),  # two of them
        ([HEAD, data(message(b"abc")[:-1]), END], Code.INTERNAL),  # less than one
        ([HEAD, data(message(b"a"), ends=True)], Code.INTERNAL),  # no status
        ([HEAD, data(b"\1" + message(b"a")[1:])], Code.INTERNAL),  # compressed
        ([head_frames(END_STREAM, 1, RESPONSE_HEAD + encode([(b"grpc-status", b"99")]))], Code.UNKNOWN),
        ([head_frames(END_STREAM, 1, encode([(b":status", b"404")]))], Code.UNIMPLEMENTED),
        ([head_frames(END_STREAM, 1, encode([(b":status", b"503")]))], Code.UNAVAILABLE),
        ([head_frames(0, 1, encode([(b":status", b"200"), (b"content-type", b"text/html")]))], Code.UNKNOWN),
    ],
)
def test_responses(said: list[bytes], code: Code | None) -> None:
    """What is no response of gRPC ends the call with a status, as gRPC has it for each status of HTTP."""
    assert status_of(*said) == code


def test_a_call_that_is_given_up() -> None:
    """The server is told; what still comes for it is dropped."""
    end = connected()
    call = end.open_unary(BLOCK, b"x", lambda: pytest.fail("nothing is heard of it"))
    end.note_sent(len(end.take_output()))
    end.cancel(call)
    assert end.take_output() == frames.reset(1, ErrorCode.CANCEL)
    end.feed(HEAD + data(message(b"a")) + END)
    assert end.fault is None
    assert not end.output
