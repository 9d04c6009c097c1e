"""Clients of etcd's API that load a node for nothing: `python -m tests.etcd.attackers NAME PORT`."""

import socket
import sys
from collections.abc import Callable, Iterator
from itertools import count

from raftkv_trio.grpc import frames
from raftkv_trio.grpc.frames import PREFACE
from tests.grpc.ends import data, head, message

HELLO = PREFACE + frames.settings({})
PUT = b"/etcdserverpb.KV/Put"
JSON = b"POST /v3/kv/put HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b"


def settings() -> Iterator[bytes]:
    """A flood of SETTINGS, each of which wants to be acknowledged."""
    yield HELLO
    while True:
        yield frames.settings({frames.INITIAL_WINDOW_SIZE: 65535}) * 100


def pings() -> Iterator[bytes]:
    """A flood of PINGs."""
    yield HELLO
    while True:
        yield frames.ping(b"12345678") * 100


def resets() -> Iterator[bytes]:
    """Rapid reset: calls that are cancelled as soon as they begin."""
    yield HELLO
    for stream in count(1, 2):
        yield head(stream, path=PUT) + frames.reset(stream, frames.ErrorCode.CANCEL)


def streams() -> Iterator[bytes]:
    """A thousand calls at once whose content never ends, on connections that come again and again."""
    yield HELLO + b"".join(head(stream, path=PUT) for stream in range(1, 2000, 2))
    while True:
        yield frames.ping(b"12345678")


def heads() -> Iterator[bytes]:
    """Heads of calls that nobody serves."""
    yield HELLO
    for stream in count(1, 2):
        yield head(stream, path=b"/no/Method") + data(message(b""), stream)


def bodies() -> Iterator[bytes]:
    """Messages that are none."""
    yield HELLO
    for stream in count(1, 2):
        yield head(stream, path=PUT) + data(message(b"\xff" * 100), stream)


def json() -> Iterator[bytes]:
    """JSON that is none, one request after the other."""
    content = b'{"key":"' + b"A" * 1000
    while True:
        yield (JSON % (len(content), content)) * 10


def nested() -> Iterator[bytes]:
    """JSON that is nested deeply."""
    content = b'{"a":' * 5000
    while True:
        yield JSON % (len(content), content)


def escapes() -> Iterator[bytes]:
    """JSON with an escape, which takes a slower parser, and with many members."""
    content = b'{"\\u0061":1,' + b'"a":1,' * 2500
    while True:
        yield JSON % (len(content), content)


def unknown_hosts() -> Iterator[bytes]:
    """Requests that are refused for their heads, with content that goes on and on."""
    while True:
        yield (JSON % (10**6, bytes(10**6))).replace(b"127.0.0.1", b"x")


def windows() -> Iterator[bytes]:
    """SETTINGS that change the windows of a thousand streams, many times in each frame."""
    calls = b"".join(head(stream, path=PUT) for stream in range(1, 2000, 2))
    change = frames.settings({frames.INITIAL_WINDOW_SIZE: 65535})[9:]
    yield HELLO + calls
    while True:
        yield frames.frame(frames.SETTINGS, 0, 0, change * 2500)


def greetings() -> Iterator[bytes]:
    """Connections of HTTP/2 that ask for nothing."""
    yield HELLO


def no_requests() -> Iterator[bytes]:
    """Connections that begin with what is no request."""
    yield b"\0" * 100


def connections() -> Iterator[bytes]:
    """Connections that say nothing."""
    return iter(())


def large_bodies() -> Iterator[bytes]:
    """Large messages that are none, on connections with wide windows."""
    whole = message(b"\xff" * 60_000)
    pieces = [whole[at : at + 16384] for at in range(0, len(whole), 16384)]
    yield HELLO
    for stream in count(1, 2):
        yield head(stream, path=PUT) + b"".join(data(piece, stream, ends=False) for piece in pieces)


def one_call() -> Iterator[bytes]:
    """Connections on which one call is refused."""
    yield HELLO + head(1, path=b"/no/Method", ends=True)


ATTACKS: dict[str, Callable[[], Iterator[bytes]]] = {
    attack.__name__: attack
    for attack in (
        settings,
        pings,
        resets,
        streams,
        heads,
        bodies,
        json,
        nested,
        escapes,
        unknown_hosts,
        windows,
        greetings,
        no_requests,
        connections,
        large_bodies,
        one_call,
    )
}


def main(name: str, port: int) -> None:
    """Attack on one connection after the other, as fast as the node takes it."""
    print("attacking", flush=True)
    while True:
        with socket.create_connection(("127.0.0.1", port), 60) as attacker:
            attacker.settimeout(0.05)
            try:
                for said in ATTACKS[name]():
                    attacker.sendall(said)
                    attacker.setblocking(False)
                    try:
                        while attacker.recv(1 << 16):
                            pass
                        break
                    except BlockingIOError:
                        pass
                    attacker.settimeout(0.05)
            except OSError:
                pass  # the node has ended the connection, or reads no more


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
