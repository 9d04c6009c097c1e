"""What a gRPC server serves: methods, and the errors that their handlers answer with.

Nothing of HTTP/2 is here, so code that serves other transports may use it too.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, Self

from raftkv_trio.errors import RaftKVError

#: The request metadata of a call: names in lower case, and each name once (see `heads.py`).
Metadata = Mapping[str, str]
#: Names that a transport adds to it, and that no client can send: the address of the client, and the common
#: name of its certificate, if it has shown one that was verified.
PEER_ADDRESS, PEER_NAME = ":peer-address", ":peer-name"


def with_peer(metadata: Metadata, address: str, name: str | None) -> Metadata:
    """Metadata with what the connection knows of the client."""
    named = {**metadata, PEER_ADDRESS: address}
    if name is not None:
        named[PEER_NAME] = name
    return named


class Code(IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(RaftKVError):
    """A call ended with a status other than OK.

    Attributes:
        code: of gRPC. A server may send a number that gRPC does not define, which counts as UNKNOWN.
        text: what the other end says about it, unescaped.
    """

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def too_large_to_send(size: int, largest: int) -> RpcError:
    """The error of a call whose response has more bytes than may be sent, in grpc-go's words."""
    return RpcError(
        Code.RESOURCE_EXHAUSTED, f"grpc: trying to send message larger than max ({size} vs. {largest})"
    )


class CallNotExecuted(RaftKVError):
    """A call certainly did nothing: it was not sent wholly, or the server has refused it unread.

    It may be made again, on another connection too.
    """


class CallLost(RaftKVError):
    """A call was sent, and ended without a status: the server may or may not have executed it."""


class Message(Protocol):
    """A message, as protobuf's classes are."""

    def SerializeToString(self) -> bytes:
        """The message as bytes."""
        ...

    @classmethod
    def FromString(cls, data: bytes, /) -> Self:
        """The message in these bytes. Raises some error if there is none."""
        ...


class Send(Protocol):
    """Sends messages of a streaming call."""

    async def __call__(self, message: Any, *, more: bool = False) -> None:
        """Send one message; wait while too much of the call waits to be read by the client.

        Args:
            more: another message follows at once. They leave together then, which is cheaper.
        """


class Method(NamedTuple):
    """A method and its handler.

    A handler that neither receives nor sends a stream is `async (request, metadata) -> response`. Any other
    one is `async (requests, metadata, send) -> None`: `requests` is an asynchronous iterator of messages,
    which ends where the client's messages end. Handlers raise RpcError to end the call with a status.
    A response may also be bytes, which are sent as they are.

    A handler is cancelled if the client cancels the call or goes away, or if the call's deadline passes.

    Attributes:
        path: as in a request, such as `/etcdserverpb.KV/Put`.
        request: the class of its requests.
        response: the class of its responses.
    """

    path: str
    request: type[Message]
    response: type[Message]
    handler: Callable[..., Awaitable[Any]]
    client_streaming: bool = False
    server_streaming: bool = False

    @property
    def is_unary(self) -> bool:
        """Whether it takes one request and gives one response."""
        return not (self.client_streaming or self.server_streaming)
