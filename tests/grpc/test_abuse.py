"""Bad bytes at a port of gRPC, in a process of its own: it serves good clients, in bounded memory."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from raftkv_trio.grpc import frames
from raftkv_trio.grpc.frames import PREFACE, ErrorCode, FrameBuffer
from tests.grpc.abuses import Abuse, abuses
from tests.grpc.ends import data, head, message, request
from tests.nonsense import exchange

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60
MAX_GROWTH_BYTES = 100_000_000


class Process:
    """The server, and what it has said."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.grpc.echo_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
            )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def peak_bytes(self) -> int:
        """The most memory that it has had in use so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    def check(self) -> None:
        """It runs, and has met nothing that it did not expect."""
        assert self._process.poll() is None
        said = self.log.read_text()
        assert "unexpected error" not in said
        assert "Traceback" not in said

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(DEADLINE_S)


class GoodClient:
    """One connection that makes calls all the time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self._frames = FrameBuffer()
        self._last_id = -1
        self._window = 65535
        self.socket.sendall(PREFACE + frames.settings({}) + frames.window_update(0, 2**30))

    def call(self, content: bytes) -> None:
        """Make a call, which must be answered rightly."""
        self._last_id += 2
        self.socket.sendall(request(self._last_id, content))
        got = b""
        while True:
            received = self.socket.recv(65536)
            assert received, "a good client's connection has ended"
            for kind, flags, stream_id, payload in self._frames.split(received):
                assert kind not in (frames.GOAWAY, frames.RST_STREAM)
                if stream_id == self._last_id:
                    got += payload if kind == frames.DATA else b""
                    if flags & frames.END_STREAM:
                        assert got == message(content)
                        return


@pytest.fixture
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("abuse") / "log")
    try:
        yield process
    finally:
        process.stop()


def suffer(port: int, abuse: Abuse) -> list[int]:
    """Send it; returns the codes of GOAWAY that came, if the client stays to read them."""
    received = exchange(port, abuse.pieces, DEADLINE_S, reads=abuse.reads)
    said = list(FrameBuffer().split(received))
    return [frames.read_go_away(payload)[1] for kind, _, _, payload in said if kind == frames.GOAWAY]


def endure(process: Process, examples: int) -> list[int]:
    """Abuse it on so many connections, beside a good client; returns the codes of GOAWAY."""
    codes, good = list[int](), GoodClient(process.port)
    good.call(b"first")
    before = process.peak_bytes()

    @settings(max_examples=examples, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(abuses())
    def check(abuse: Abuse) -> None:
        got = suffer(process.port, abuse)
        assert len(got) <= 1
        assert ErrorCode.INTERNAL_ERROR not in got
        codes.extend(got)
        good.call(b"%d" % len(codes))

    check()
    process.check()
    assert process.peak_bytes() - before < MAX_GROWTH_BYTES
    good.socket.close()
    return codes


def test_made_connections(process: Process) -> None:
    """Every kind of nonsense on 200 connections; GOAWAY has codes of many kinds."""
    codes = endure(process, 200)
    assert len(codes) > 50
    assert {ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.ENHANCE_YOUR_CALM} <= set(codes)


@pytest.mark.long
def test_many_made_connections(process: Process) -> None:
    """The same on 10,000."""
    assert len(endure(process, 10_000)) > 3000


# ---------------------------------------------------------------- memory


def hold(process: Process, said: bytes, connections: int) -> int:
    """Say this on so many connections, and read nothing; returns how much the server has grown."""
    good = GoodClient(process.port)
    good.call(b"before")
    before = process.peak_bytes()
    clients = [socket.create_connection(("127.0.0.1", process.port), DEADLINE_S) for _ in range(connections)]
    try:
        for client in clients:
            client.settimeout(1)
            try:
                client.sendall(said)
            except OSError:
                pass  # it is not read any more, or the connection has ended
        for _ in range(50):  # so that the server has done all that it was asked for
            good.call(b"among them")
        grown = process.peak_bytes() - before
    finally:
        for client in clients:
            client.close()
    good.call(b"after")
    good.socket.close()
    process.check()
    return grown


WIDE = PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 2**30}) + frames.window_update(0, 2**30)
NARROW = PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 0})


def many(path: bytes, content: bytes, count: int) -> bytes:
    return b"".join(
        head(2 * number + 1, path=path) + data(message(content), 2 * number + 1) for number in range(count)
    )


@pytest.mark.parametrize(
    "said",
    [
        WIDE + many(b"/test.Echo/Big", b"1000000", 900),  # a slow reader
        NARROW + many(b"/test.Echo/Big", b"1000000", 900),  # one that gives no window
        NARROW + many(b"/test.Echo/Count", b"1000000", 900),  # streams that nobody reads
        WIDE + many(b"/test.Echo/Count", b"1000000", 900),
    ],
    ids=["slow reader", "no window", "streams without window", "streams"],
)
def test_what_a_client_does_not_read_is_bounded(process: Process, said: bytes) -> None:
    """A gigabyte is asked for on each of five connections."""
    assert hold(process, said, 5) < 5 * 64 * 1024 * 1024 + MAX_GROWTH_BYTES


def test_requests_that_never_end_are_bounded(process: Process) -> None:
    """Two megabytes are announced on each of 900 streams, of each of 8 connections, and most are sent."""
    piece = b"\0\0\x1f\xff\xff" + bytes(16000)
    calls = (head(2 * number + 1) + data(piece, 2 * number + 1, ends=False) for number in range(900))
    said = b"".join([PREFACE, frames.settings({}), *calls])
    assert hold(process, said, 8) < 64 * 1024 * 1024 + MAX_GROWTH_BYTES
