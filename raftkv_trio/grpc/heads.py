"""What the heads and trailers of gRPC calls say, in both directions (gRPC's "PROTOCOL-HTTP2.md").

A head that breaks HTTP/2's rules of fields (RFC 9113, section 8) is told apart from one that is good HTTP and
no call of gRPC: the first resets its stream, the second is answered. A request of another content type resets
its stream too, with the code that says to send it by HTTP/1.1.
"""

import re
from collections.abc import Iterable, Mapping
from math import inf
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from raftkv_trio.grpc.header_table import Field, encode
from raftkv_trio.grpc.rpc import Code, Metadata, RpcError

#: Fields of a connection, which HTTP/2 does not have.
_OF_CONNECTIONS = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\0\r\n]|^[ \t]|[ \t]$")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_TIMEOUT_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_UNESCAPED = re.compile(rb"[^\x20-\x24\x26-\x7e]")  # all that must be escaped in `grpc-message`
#: The longest text of an error that is sent or kept; a client may have a bound of 8 KiB for all fields.
MAX_TEXT_BYTES = 4096
_NOT_METADATA = frozenset((b"te", b"content-type", b"content-length", b"grpc-timeout", b"grpc-encoding"))


class MalformedHead(Exception):
    """A header list that HTTP/2 does not allow; resets its stream."""


class RequestHead(NamedTuple):
    """The head of a call.

    Attributes:
        path: as it was sent; bytes that are not ASCII are escaped as in Python's `\\xff`.
        metadata: the fields that are not of HTTP or gRPC; of repeated ones the values, joined by commas.
        timeout_s: what the client gives the call; inf if it says nothing.
        encoding: of its messages; empty or `identity` if they are not compressed.
        refusal: why this is no call of gRPC; None if it is one.
        is_grpc: whether the content type is gRPC's; nothing else is known if it is not.
        is_malformed: breaks the rules of HTTP/2; nothing else is known then.
    """

    path: str
    metadata: Metadata = MappingProxyType({})
    timeout_s: float = inf
    encoding: str = ""
    refusal: "HeadRefusal | None" = None
    is_grpc: bool = True
    is_malformed: bool = False


class HeadRefusal(NamedTuple):
    """How a request is answered that is no call of gRPC, or one that cannot be served.

    Attributes:
        block: the header block of the answer, which ends the stream.
    """

    block: bytes


def _http_refusal(status: bytes, code: Code, text: str) -> HeadRefusal:
    return HeadRefusal(
        encode([(b":status", status), (b"content-type", b"application/grpc"), *_status_fields(code, text)])
    )


def _status_fields(code: Code, text: str) -> list[Field]:
    fields = [(b"grpc-status", b"%d" % code)]
    if text:
        fields.append((b"grpc-message", escape_text(text)))
    return fields


def escape_text(text: str) -> bytes:
    """A status's text as it stands in `grpc-message`; cut if it is very long."""
    escaped = _UNESCAPED.sub(lambda match: b"%%%02X" % match[0][0], text.encode(errors="replace"))
    return re.sub(rb"%.?$", b"", escaped[:MAX_TEXT_BYTES]) if len(escaped) > MAX_TEXT_BYTES else escaped


# ---------------------------------------------------------------- a server's side

#: The head of each response that has messages.
RESPONSE_HEAD = encode([(b":status", b"200"), (b"content-type", b"application/grpc")])
#: The trailers of a call that ends well.
TRAILERS_OK = encode([(b"grpc-status", b"0")])
_MALFORMED = RequestHead("", is_malformed=True)
_NOT_GRPC = RequestHead("", is_grpc=False)
_NOT_POST = _http_refusal(b"405", Code.INTERNAL, "a call of gRPC is a POST")
_TOO_LARGE = _http_refusal(b"200", Code.RESOURCE_EXHAUSTED, "the head of the request is too large")
_BAD_TIMEOUT = _http_refusal(b"200", Code.INTERNAL, "malformed grpc-timeout")


def trailers(code: Code, text: str) -> bytes:
    """The trailers of a call that ended with an error after its head."""
    return encode(_status_fields(code, text))


def trailers_only(code: Code, text: str) -> bytes:
    """Head and trailers in one, of a call without any message."""
    return RESPONSE_HEAD + trailers(code, text)


def read_request_head(fields: list[Field] | None) -> RequestHead:
    """The head of a request; `fields` None: they were too large. Raises nothing."""
    if fields is None:
        return RequestHead("", refusal=_TOO_LARGE)
    pseudo: dict[bytes, bytes] = {}
    rest: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if name not in _REQUEST_PSEUDO or name in pseudo or rest or _BAD_VALUE.search(value):
                return _MALFORMED
            pseudo[name] = value
        elif not _is_field(name, value) or (name == b"te" and value != b"trailers"):
            return _MALFORMED
        else:
            rest[name] = rest[name] + b"," + value if name in rest else value
    if not pseudo.get(b":path") or b":method" not in pseudo or b":scheme" not in pseudo:
        return _MALFORMED
    return _call_head(pseudo, rest)


def _is_field(name: bytes, value: bytes) -> bool:
    return (
        _NAME.fullmatch(name) is not None and name not in _OF_CONNECTIONS and _BAD_VALUE.search(value) is None
    )


def _call_head(pseudo: Mapping[bytes, bytes], fields: Mapping[bytes, bytes]) -> RequestHead:
    if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
        return _NOT_GRPC
    path = pseudo[b":path"].decode(errors="replace")
    if pseudo[b":method"] != b"POST":
        return RequestHead(path, refusal=_NOT_POST)
    timeout_s = inf
    if (text := fields.get(b"grpc-timeout")) is not None:
        match = _TIMEOUT.fullmatch(text)
        if match is None:
            return RequestHead(path, refusal=_BAD_TIMEOUT)
        timeout_s = int(match[1]) * _TIMEOUT_UNITS_S[match[2]]
    return RequestHead(
        path,
        _metadata(fields.items()),
        timeout_s,
        fields.get(b"grpc-encoding", b"").decode("ascii", "replace"),
    )


def _metadata(fields: Iterable[Field]) -> Metadata:
    return MappingProxyType(
        {
            name.decode("ascii"): value.decode(errors="replace")
            for name, value in fields
            if name not in _NOT_METADATA
        }
    )


# ---------------------------------------------------------------- a client's side


class ResponseHead(NamedTuple):
    """A head or trailers of a response.

    Attributes:
        status: of HTTP; None in trailers.
        error: with which the call ends; its code is OK if it ends well. None if the fields say nothing of it.
        is_grpc: whether the content type is gRPC's.
        encoding: of the messages.
        is_malformed: breaks the rules of HTTP/2.
    """

    status: bytes | None
    error: RpcError | None
    is_grpc: bool = False
    encoding: str = ""
    is_malformed: bool = False


def read_response_head(fields: list[Field] | None) -> ResponseHead:
    """The head or the trailers of a response; `fields` None: they were too large. Raises nothing."""
    if fields is None:
        return ResponseHead(None, RpcError(Code.RESOURCE_EXHAUSTED, "the head of the response is too large"))
    known: dict[bytes, bytes] = {}
    for name, value in fields:
        if name != b":status" and not _is_field(name, value):
            return ResponseHead(None, None, is_malformed=True)
        known.setdefault(name, value)
    error = None
    if (number := known.get(b"grpc-status")) is not None:
        text = unquote_to_bytes(known.get(b"grpc-message", b"")).decode(errors="replace")
        error = RpcError(_code(number), text)
    return ResponseHead(
        known.get(b":status"),
        error,
        known.get(b"content-type", b"").startswith(b"application/grpc"),
        known.get(b"grpc-encoding", b"").decode("ascii", "replace"),
    )


def _code(number: bytes) -> Code:
    try:
        return Code(int(number))
    except ValueError:
        return Code.UNKNOWN


def request_block(path: str, scheme: str, authority: str, metadata: Metadata) -> bytes:
    """The head of a call without its timeout, which `timeout_block` appends."""
    return encode(
        [
            (b":method", b"POST"),
            (b":scheme", scheme.encode()),
            (b":path", path.encode()),
            (b":authority", authority.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *((name.encode(), value.encode()) for name, value in metadata.items()),
        ]
    )


def timeout_block(timeout_s: float) -> bytes:
    """The field that tells a server how long a call may take.

    It is rounded up to two digits, so that the same head comes again and again, and the server knows it.
    """
    if timeout_s == inf:
        return b""
    microseconds = max(1, int(timeout_s * 1e6) + 1)
    step = 10 ** max(0, len(str(microseconds)) - 2)
    rounded = -(-microseconds // step) * step
    for divisor, unit in ((1, b"u"), (1000, b"m"), (10**6, b"S"), (3600 * 10**6, b"H")):
        if rounded // divisor < 10**8:
            return encode([(b"grpc-timeout", b"%d%b" % (-(-rounded // divisor), unit))])
    return b""  # 11,000 years
