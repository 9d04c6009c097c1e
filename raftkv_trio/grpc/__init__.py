"""gRPC on Trio: HTTP/2 frames, HPACK heads and length-prefixed messages, as server and as client.

Whatever speaks gRPC stands on this room; it knows no service.

- `rpc.py`: a method and its handler, the status codes.
- `client.py`, `client_end.py`: the other role, with and without I/O.
- `server.py`: a client's connection, served on Trio.
- `server_calls.py`: the tasks of its calls.
- `room.py`, `patience.py`: how much may wait for a client to read it, and how long a client is waited for.
- `server_end.py`: the server without I/O: requests out of frames, responses into frames.
- `endpoint.py`: what both ends of a connection share: settings, bounds on the other end.
- `streams.py`: flow control.
- `frames.py`, `header_table.py`, `heads.py`, `messages.py`: bytes to frames, header lists, heads of calls and
  messages, and back.
- `limits.py`: what one connection may cost.
"""

from raftkv_trio.grpc.client import Channel, ClientStream, open_channel
from raftkv_trio.grpc.frames import PREFACE
from raftkv_trio.grpc.limits import CLIENT_LIMITS, Limits
from raftkv_trio.grpc.rpc import (
    CallLost,
    CallNotExecuted,
    Code,
    Message,
    Metadata,
    Method,
    RpcError,
    Send,
    too_large_to_send,
)
from raftkv_trio.grpc.server import GrpcConnection
from raftkv_trio.grpc.server_end import Load

__all__ = [
    "CLIENT_LIMITS",
    "PREFACE",
    "CallLost",
    "CallNotExecuted",
    "Channel",
    "ClientStream",
    "Code",
    "GrpcConnection",
    "Limits",
    "Load",
    "Message",
    "Metadata",
    "Method",
    "RpcError",
    "Send",
    "open_channel",
    "too_large_to_send",
]
