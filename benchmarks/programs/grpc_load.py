"""Calls of etcd's KV service over gRPC, so many outstanding on each connection: prints JSON.

    python -m benchmarks.programs.grpc_load PORT put|get|txn CONNECTIONS OUTSTANDING KEYS SECONDS

Frames are written and read here, with next to no work for each call: a client library would be slower than
the servers that are measured.
"""

import json
import random
import selectors
import socket
import struct
import sys
import time

from hpack import Encoder
from hpack.struct import NeverIndexedHeaderTuple

from raftkv_trio.schema import rpc_pb2

VALUE = b"v" * 100
PUTS_OF_A_TXN = 100
WARM_UP_S = 1.0
_LARGEST_WINDOW = 2**31 - 1
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_PATHS = {"put": "/etcdserverpb.KV/Put", "get": "/etcdserverpb.KV/Range", "txn": "/etcdserverpb.KV/Txn"}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Calls:
    """Makes the bytes of calls.

    Args:
        operation: one of `_PATHS`.
        keys: how many there are.
    """

    def __init__(self, operation: str, keys: int) -> None:
        head = {
            ":method": "POST",
            ":scheme": "http",
            ":path": _PATHS[operation],
            ":authority": "127.0.0.1",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        # Never indexed, so that the block is the same for each call.
        fields = [NeverIndexedHeaderTuple(name.encode(), value.encode()) for name, value in head.items()]
        self._head = Encoder().encode(fields, huffman=False)
        self._operation = operation
        self._keys = keys
        self._random = random.Random(1)

    def make(self, stream: int) -> bytes:
        """The next call, on this stream."""
        message = self._message().SerializeToString()
        data = b"\0" + struct.pack(">I", len(message)) + message
        return frame(_HEADERS, _END_HEADERS, stream, self._head) + frame(_DATA, _END_STREAM, stream, data)

    def _key(self) -> bytes:
        return b"/bench/%d" % self._random.randrange(self._keys)

    def _message(self) -> rpc_pb2.PutRequest | rpc_pb2.RangeRequest | rpc_pb2.TxnRequest:
        if self._operation == "put":
            return rpc_pb2.PutRequest(key=self._key(), value=VALUE)
        if self._operation == "get":
            return rpc_pb2.RangeRequest(key=self._key())
        first = self._random.randrange(self._keys)
        return rpc_pb2.TxnRequest(
            success=[
                rpc_pb2.RequestOp(
                    request_put=rpc_pb2.PutRequest(key=b"/bench/%d" % ((first + n) % self._keys), value=VALUE)
                )
                for n in range(PUTS_OF_A_TXN)
            ]
        )


class Connection:
    """A connection with so many calls outstanding."""

    def __init__(self, port: int, calls: Calls, outstanding: int) -> None:
        self._calls = calls
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._next = 1
        self._began: dict[int, float] = {}
        self._answered: set[int] = set()  # whose message has come, and not its end
        settings = struct.pack(">HI", 4, _LARGEST_WINDOW)  # the initial window of each stream
        self.socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(_SETTINGS, 0, 0, settings)
            + frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST_WINDOW - 65535))
            + self._more(outstanding)
        )

    def _more(self, count: int) -> bytes:
        now = time.perf_counter()
        parts = []
        for _ in range(count):
            parts.append(self._calls.make(self._next))
            self._began[self._next] = now
            self._next += 2
        return b"".join(parts)

    def receive(self) -> list[float]:
        """Read what has arrived, replace what has ended; returns how long those took, in seconds."""
        data = self._buffer + self.socket.recv(1 << 18)
        now, ended, replies, offset = time.perf_counter(), [], [], 0
        while len(data) >= offset + 9:
            length = int.from_bytes(data[offset : offset + 3])
            kind, flags, stream = struct.unpack_from(">BBI", data, offset + 3)
            if len(data) < offset + 9 + length:
                break
            if kind == _HEADERS and flags & _END_STREAM:
                if stream not in self._answered:
                    raise SystemExit(f"a call was refused: {data[offset + 9 : offset + 9 + length]!r}")
                self._answered.remove(stream)
                ended.append(now - self._began.pop(stream))
            elif kind == _DATA:
                self._answered.add(stream)
            elif kind == _SETTINGS and not flags & _ACK:
                replies.append(frame(_SETTINGS, _ACK, 0, b""))
            elif kind == _PING and not flags & _ACK:
                replies.append(frame(_PING, _ACK, 0, data[offset + 9 : offset + 17]))
            elif kind == _GOAWAY:
                raise SystemExit(f"the server has ended the connection: {data[offset + 9 :]!r}")
            offset += 9 + length
        self._buffer = data[offset:]
        self.socket.sendall(b"".join(replies) + self._more(len(ended)))
        return ended


def main(port: int, operation: str, connections: int, outstanding: int, keys: int, seconds: float) -> None:
    """Load the server, and print what was seen after the warm-up."""
    calls = Calls(operation, keys)
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        connection = Connection(port, calls, outstanding)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    begin = time.perf_counter() + WARM_UP_S
    took: list[float] = []
    while (now := time.perf_counter()) < begin + seconds:
        for key, _ in selector.select(begin + seconds - now):
            ended = key.data.receive()
            if now >= begin:
                took += ended
    took.sort()
    rate = len(took) / seconds
    print(json.dumps({"rate_per_s": rate, "p50_ms": 1000 * took[len(took) // 2], "calls": len(took)}))


if __name__ == "__main__":
    _, port, operation, *numbers, seconds = sys.argv
    main(int(port), operation, *map(int, numbers), float(seconds))  # type: ignore[call-arg]
