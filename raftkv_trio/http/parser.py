"""Bytes to requests: llhttp, the parser of Node.js, by way of httptools; strict, without a leniency flag.

llhttp refuses what two readers, such as a proxy and we, may read in two ways: bare CR and LF, folded lines,
spaces before a colon, and content that is framed twice (RFC 9112, sections 5 and 11.2). It skips CR and LF
between requests, where they are part of nothing (section 2.2). What it leaves to its caller is here: the
bounds of a head, the fields that HTTP/1.1 demands, and codings that nobody supports.
"""

from collections import deque
from http import HTTPStatus

import httptools

from raftkv_trio.http.messages import Fields, Refusal, Request, Source

MALFORMED = Refusal(HTTPStatus.BAD_REQUEST, "The request is malformed: it is not valid HTTP/1.1")
NO_TARGET = Refusal(
    HTTPStatus.BAD_REQUEST,
    "The request target must be a path or an absolute URL with http, in visible ASCII characters",
)
_OTHER_VERSION = Refusal(
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "This server speaks only HTTP/1.0 and HTTP/1.1"
)
_UNKNOWN_METHOD = Refusal(
    HTTPStatus.NOT_IMPLEMENTED,
    "The request does not begin with a method that HTTP knows, such as GET; methods are in capitals",
)
_OTHER_CODING = Refusal(
    HTTPStatus.NOT_IMPLEMENTED,
    "The request's transfer coding is not supported; send the content chunked",
)


class RequestParser:
    """The requests of one connection.

    A request appears in `requests` when its head is complete; its content follows as more bytes are fed.
    After a `failure` nothing more is parsed: the requests before it are to be answered, and then it.

    Args:
        max_head_bytes: the most that a head has; a trailer section and what else frames content, too.
        source: of the bytes; a request that wants more of its content asks it.

    Attributes:
        requests: those whose heads are complete; the caller takes them out.
        failure: why what was fed last is no request, or none of ours.
        is_failure_of_head: whether the failed request has the method HEAD, so that no content may answer it.
        is_in_head: whether a part of a head has arrived.
    """

    def __init__(self, max_head_bytes: int, source: Source) -> None:
        self._max_head_bytes = max_head_bytes
        self._source = source
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._fields: Fields = []
        self._head_bytes = 0
        self._silent_bytes = 0  # fed since a head has begun or content has come; what llhttp holds for itself
        self._receiving: Request | None = None  # whose content is not complete
        self._is_resuming = False  # the head that is parsed is one of our own
        self.requests: deque[Request] = deque()
        self.failure: Refusal | None = None
        self.is_failure_of_head = False
        self.is_in_head = False

    @property
    def is_in_request(self) -> bool:
        """Whether a part of a request has arrived, and not all of it."""
        return self.is_in_head or self._receiving is not None

    def feed(self, data: bytes) -> None:
        """Parse what was received next; does nothing after a failure."""
        if self.failure is not None:
            return
        self._silent_bytes += len(data)
        self._parse(data)
        if self._silent_bytes > self._max_head_bytes and self.is_in_request:
            self._fail(self._too_large())

    def end(self) -> None:
        """Take note that the client sends no more."""
        if self.is_in_request and self.failure is None:
            self._fail(MALFORMED)

    def _parse(self, data: bytes) -> None:
        unread = memoryview(data)
        try:
            while (offer_end := self._parse_until_offer(unread)) is not None:
                unread = unread[offer_end:]
        except httptools.HttpParserCallbackError:
            if self.failure is None:
                raise
        except httptools.HttpParserInvalidMethodError:
            self._fail(_UNKNOWN_METHOD)
        except httptools.HttpParserInvalidURLError:
            self._fail(NO_TARGET)
        except httptools.HttpParserError:
            # HTTP/2 without being asked begins with a request that is made to be refused.
            is_http_2 = self.is_in_head and self._parser.get_method() == b"PRI"
            self._fail(_OTHER_VERSION if is_http_2 else MALFORMED)

    def _parse_until_offer(self, data: memoryview) -> int | None:
        """Returns where the head of a request ends that offers an upgrade; None if all of it is parsed.

        An upgrade may be ignored (RFC 9110, section 7.8), but llhttp parses nothing after an offer.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)
            self._resume()
            return int(upgrade.args[0])
        return None

    def _resume(self) -> None:
        """Have the new parser read the content of a request whose head the parser before it has read."""
        request = self._receiving
        if request is None:
            return
        framing = b"Transfer-Encoding: chunked" if request.is_chunked else b"Content-Length: %d"
        if not request.is_chunked:
            framing %= request.content_length
        self._is_resuming = True
        self._parser.feed_data(b"PUT / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self._is_resuming = False

    def _fail(self, failure: Refusal) -> None:
        self.failure = failure
        request = self._receiving
        if request is not None:
            request.has_flaw = True
            self.is_failure_of_head = request.method == "HEAD"
        else:  # before the target the method may still be that of the request before
            self.is_failure_of_head = bool(self._target) and self._parser.get_method() == b"HEAD"

    def _too_large(self) -> Refusal:
        return Refusal(  # of a head; chunk extensions and trailer fields that are as long are told the same
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "The head of the request, which includes the key, is larger than"
            f" {self._max_head_bytes} bytes (--max-header-size)",
        )

    # ------------------------------------------------------------ called by httptools; it chose the names

    def on_message_begin(self) -> None:
        """A request begins."""
        if not self._is_resuming:
            self.is_in_head = True
            self._target = b""
            self._fields = []
            self._head_bytes = self._silent_bytes = 0

    def on_url(self, part: bytes) -> None:
        """A part of the request target has arrived."""
        if not self._is_resuming:
            self._target += part
            self._count(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailer section, is complete."""
        if self.is_in_head:  # no field of a trailer section has a meaning here
            self._fields.append((name.lower(), value.rstrip(b" \t")))
            self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        """A head is complete."""
        if self._is_resuming:
            return
        version = self._parser.get_http_version()
        method = self._parser.get_method().decode()
        request = Request(method, self._target, self._fields, version, self._source)
        refusal = _read_framing(request)
        if refusal is not None:
            self._stop(refusal)
        self.is_in_head = False
        request.keeps_alive = version == "1.1" and self._parser.should_keep_alive()
        self._receiving = request
        self.requests.append(request)

    def on_body(self, part: bytes) -> None:
        """A part of the content has arrived."""
        self._silent_bytes = 0
        if self._receiving is not None:
            self._receiving.arrived.append(part)

    def on_message_complete(self) -> None:
        """A request is complete, unless it offers an upgrade: then only its head is, for llhttp."""
        request = self._receiving
        if request is not None and not (request.has_content and self._parser.should_upgrade()):
            request.is_complete = True
            self._receiving = None

    def _count(self, length: int) -> None:
        self._head_bytes += length
        if self._head_bytes > self._max_head_bytes:
            self._stop(self._too_large())

    def _stop(self, refusal: Refusal) -> None:
        self._fail(refusal)
        raise _StoppedError


class _StoppedError(Exception):
    """Ends a call of llhttp, after the reason was noted; httptools makes an error of its own of it."""


def _read_framing(request: Request) -> Refusal | None:
    """Set what the fields of a request say about its content; returns why they cannot be obeyed."""
    if request.version not in ("1.0", "1.1"):
        return _OTHER_VERSION
    hosts = 0
    for name, value in request.fields:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            request.content_length = int(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                return _OTHER_CODING
            request.is_chunked = True
        elif name == b"expect" and value.lower() == b"100-continue" and request.version == "1.1":
            request.awaits_100 = True
    # One Host, and before HTTP/1.1 perhaps none (RFC 9112, section 3.2); before it no chunks either (6.1).
    is_new = request.version == "1.1"
    if hosts > 1 or (is_new and hosts == 0) or (request.is_chunked and not is_new):
        return MALFORMED
    return None
