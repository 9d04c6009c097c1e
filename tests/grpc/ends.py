"""A server's end without I/O, and a client of it that may say anything."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from raftkv_trio.grpc import Limits, frames
from raftkv_trio.grpc.frames import END_STREAM, PREFACE, FrameBuffer, head_frames, settings
from raftkv_trio.grpc.header_table import Field, HeadDecoder, encode
from raftkv_trio.grpc.rpc import Metadata, Method
from raftkv_trio.grpc.server_end import Load, ServerEnd
from tests.grpc.serving import Raw

HEAD: list[Field] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/test.Echo/Echo"),
    (b":authority", b"localhost"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
STREAM_PATH = b"/test.Echo/Chat"


class Said(NamedTuple):
    """A frame of the server, with what is in it as far as tests look at it."""

    kind: int
    flags: int
    stream_id: int
    content: object


def head(
    stream_id: int = 1, *, path: bytes | None = None, ends: bool = False, more: Iterable[Field] = ()
) -> bytes:
    """The head of a request."""
    fields = [(name, path if name == b":path" and path is not None else value) for name, value in HEAD]
    return head_frames(END_STREAM if ends else 0, stream_id, encode([*fields, *more]))


def data(content: bytes, stream_id: int = 1, *, ends: bool = True) -> bytes:
    return frames.frame(frames.DATA, END_STREAM if ends else 0, stream_id, content)


def message(content: bytes) -> bytes:
    return len(content).to_bytes(5, "big") + content


def request(stream_id: int = 1, content: bytes = b"x") -> bytes:
    """A whole unary call."""
    return head(stream_id) + data(message(content), stream_id)


async def no_handler(*args: object) -> None:
    raise AssertionError("nothing runs here")


def methods() -> dict[str, Method]:
    echo = Method("/test.Echo/Echo", Raw, Raw, no_handler)
    chat = Method("/test.Echo/Chat", Raw, Raw, no_handler, True, True)
    return {echo.path: echo, chat.path: chat}


class Talk:
    """A server's end that has just been connected, by a client that has said how it begins.

    Attributes:
        now: the time, which tests move.
    """

    def __init__(self, limits: Limits | None = None, begins_with: bytes = PREFACE + settings({})) -> None:
        self.now = 0.0
        self.load = Load()
        self.limits = limits or Limits()
        self.end = ServerEnd(methods(), self.limits, lambda: self.now, self.load)
        self._decoder: HeadDecoder[list[Field]] = HeadDecoder(2**20, lambda fields: fields or [])
        self._frames = FrameBuffer()
        self.end.feed(begins_with)
        self.beginning = self.heard()

    def say(self, *pieces: bytes) -> list[Said]:
        """Send this; returns what the server says to it."""
        for piece in pieces:
            self.end.feed(piece)
        return self.heard()

    def heard(self) -> list[Said]:
        """What the server has said since the last call."""
        said = []
        while self.end.output:
            taken = self.end.take_output()
            self.end.note_sent(len(taken))
            said += [Said(*frame[:3], self._content(*frame)) for frame in self._frames.split(taken)]
        return said

    def _content(self, kind: int, flags: int, stream_id: int, payload: bytes) -> object:
        if kind == frames.HEADERS:
            return self._decoder.decode(payload)
        if kind in (frames.RST_STREAM, frames.WINDOW_UPDATE):
            return frames.read_number(payload)
        if kind == frames.GOAWAY:
            last, code, _ = frames.read_go_away(payload)
            return last, code
        return payload

    def answer_all(self) -> list[Said]:
        """Answer all calls that are ready with their requests; returns what was said."""
        for call in self.end.ready:
            if call.messages:
                self.end.respond(call, call.messages[0])
        self.end.ready.clear()
        return self.heard()


def went_away(said: list[Said]) -> int | None:
    """The code of GOAWAY; None if there was none."""
    codes = [frame.content for frame in said if frame.kind == frames.GOAWAY]
    assert len(codes) <= 1
    if not codes:
        return None
    assert isinstance(codes[0], tuple)
    code: int = codes[0][1]
    return code


def resets(said: list[Said]) -> list[tuple[int, object]]:
    """Streams that were reset, with their codes."""
    return [(frame.stream_id, frame.content) for frame in said if frame.kind == frames.RST_STREAM]


def statuses(said: list[Said]) -> Iterator[tuple[int, int, str]]:
    """Streams that were ended with a status: its code and text."""
    for frame in said:
        if frame.kind == frames.HEADERS and frame.flags & END_STREAM:
            assert isinstance(frame.content, list)
            fields: Metadata = {name.decode(): value.decode() for name, value in frame.content}
            yield frame.stream_id, int(fields["grpc-status"]), fields.get("grpc-message", "")
