"""gRPC on Trio: HTTP/2 frames, HPACK heads and length-prefixed messages, as server and as client.

Whatever speaks gRPC stands on this room; it knows no service.

- `rpc.py`: a method and its handler, the status codes.
- `client.py`, `client_end.py`: the other role, with and without I/O.
- `server.py`: a client's connection, served on Trio.
- `server_end.py`: the same without I/O: requests out of frames, responses into frames.
- `endpoint.py`: what both ends of a connection share: flow control, settings, bounds on the other end.
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
