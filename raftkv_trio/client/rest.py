"""HTTP to the members of a running cluster, for every command that asks one.

Rules of this module:
- no other module of `client/` makes requests or knows httpx, except `load/`, which measures a server and so
  must cost less than the server;
- every failure becomes a `RestError` here, so that all commands describe it in the same words;
- the server is not trusted: an answer is read up to a limit and within a deadline, and the text of an error
  has no control characters;
- one request a connection: a command asks a node a few times at most, and a connection kept open could be
  closed by the server just when it is used again.
"""

import json
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
import trio

from raftkv_trio.addresses import MAX_URL_CHARACTERS, PeerAddress
from raftkv_trio.client.login import Login
from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.foreign_text import MAX_SENTENCE_CHARACTERS, escaped, in_a_line, printable
from raftkv_trio.tls.clients import Trust
from raftkv_trio.tls.stream import failure_of
from raftkv_trio.world import reason_of

MAX_ANSWER_BYTES = 1024 * 1024  # of a document; a download has no limit
PIECE_BYTES = 1024 * 1024
NO_REST_API = "it does not speak HTTP; is this a peer port instead of a REST port?"
_JSON = {"Content-Type": "application/json"}
NOT_A_NODE = "not a compatible raftkv-trio node"


class RestError(RaftKVError):
    """A request to a member failed.

    Attributes:
        url: of the server.
        reason: why, without the URL, for a table that shows the URL in another column.
    """

    def __init__(self, url: str, reason: str, sentence: str) -> None:
        super().__init__(escaped(sentence)[: MAX_SENTENCE_CHARACTERS + MAX_URL_CHARACTERS])
        self.url = url
        self.reason = reason


class NoAnswer(RestError):
    """No HTTP response came.

    Attributes:
        was_sent: whether the server may have received the request, and may have done what it asks.
    """

    def __init__(self, url: str, reason: str, *, was_sent: bool) -> None:
        super().__init__(url, reason, f"{url} does not answer: {reason}")
        self.was_sent = was_sent


class NotANode(RestError):
    """An HTTP server answers, but not as a node of this version does."""

    def __init__(self, url: str, detail: str = "") -> None:
        reason = f"{NOT_A_NODE}: {detail}" if detail else NOT_A_NODE
        super().__init__(url, reason, f"the server at {url} is {reason}")


class RequestRefused(RestError, ConfigError):
    """The node refuses this request (a 4xx status); the same request would be refused again."""

    fields = ()  # the text is the server's: a word in backticks is no field of this process

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(url, detail, detail)


class RequestFailed(RestError):
    """The node could not do what was asked, at least for now (429, or a 5xx status).

    Attributes:
        status: of the response.
        waits_to_join: whether that is because the node is no member yet.
    """

    def __init__(self, url: str, detail: str, status: int, *, waits_to_join: bool = False) -> None:
        super().__init__(url, detail, f"{url}: {detail}")
        self.status = status
        self.waits_to_join = waits_to_join

    @property
    def lacks_leader(self) -> bool:
        """Whether a member answered, and finds no leader or no quorum."""
        return self.status == HTTPStatus.SERVICE_UNAVAILABLE and not self.waits_to_join


class NobodyDid(RaftKVError):
    """No endpoint did what was asked; the text has a line for each, if they are several."""

    def __init__(self, failures: Sequence[RaftKVError]) -> None:
        lines = [str(failure) for failure in failures]
        if len(lines) > 1:
            did_answer = not all(isinstance(failure, NoAnswer) for failure in failures)
            for position, failure in enumerate(failures):
                if isinstance(failure, RequestRefused):  # whose own sentence does not say who refuses it
                    lines[position] = f"{failure.url}: {failure}"
            lines.insert(0, "no member that was asked did this:" if did_answer else "no member answered:")
        if any(isinstance(failure, RequestFailed) and failure.lacks_leader for failure in failures):
            lines.append('if a majority is lost for good, see "The majority is lost" in docs/operating.md')
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Download:
    """A response that is too large to hold: its size, and its bytes as they arrive."""

    size_bytes: int
    pieces: AsyncIterator[bytes]


@asynccontextmanager
async def open_rest_client(
    timeout_s: float, trust: Trust | None = None, login: Login | None = None
) -> AsyncIterator["RestClient"]:
    """A client whose requests end after `timeout_s`; at the end of the block its connections are closed."""
    async with AsyncExitStack() as stack:
        yield RestClient(stack, timeout_s, trust or Trust(), login)


class RestClient:
    """Requests to members; made by `open_rest_client`. Several tasks may use it at the same time.

    Args:
        stack: closes the connections.
        trust: which servers are trusted, if they speak TLS.
        login: who asks; None: nobody whom the cluster would know. Raises ConfigError if it cannot be sent.
    """

    def __init__(
        self, stack: AsyncExitStack, timeout_s: float, trust: Trust, login: Login | None = None
    ) -> None:
        self._login = login
        self._authorization = {} if login is None else {"Authorization": login.basic}
        self._stack = stack
        self.timeout_s = timeout_s
        self._trust = trust
        self._clients: dict[bool, httpx.AsyncClient] = {}  # by whether it speaks TLS

    def _http(self, server: PeerAddress) -> httpx.AsyncClient:
        """The client for this server. Raises ConfigError if files of `trust` cannot be used."""
        if server.is_tls not in self._clients:
            # Without TLS an empty context is made at once, where httpx would load the system's CAs.
            context = self._trust.context() if server.is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client = httpx.AsyncClient(
                timeout=self.timeout_s,
                trust_env=False,
                verify=context,
                headers={"Connection": "close", "Accept-Encoding": "identity"},
            )
            self._stack.push_async_callback(client.aclose)
            self._clients[server.is_tls] = client
        return self._clients[server.is_tls]

    def _who_asks(self, server: PeerAddress) -> dict[str, str]:
        """The field that says who asks, if it may be sent to this server."""
        return {} if self._is_withheld(server) else self._authorization

    def _is_withheld(self, server: PeerAddress) -> bool:
        return self._login is not None and self._login.needs_tls and not server.is_tls

    def _document(self, server: PeerAddress, response: httpx.Response, data: bytes) -> Any:
        """What a response says; raises what it means if that is an error."""
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            sentence = _detail(response, data)[0] or "the server wants to know who asks"
            if self._login is None:
                sentence += "; name a user (on the command line of raftkv-trio with --user)"
            elif self._is_withheld(server):
                sentence += f"; the password was not sent to {server.url}, since that has no TLS"
            raise RequestRefused(server.url, sentence)
        return _document(server.url, response, data)

    async def ask(self, method: str, server: PeerAddress, path: str, content: object = None) -> Any:
        """One request, and the JSON document of the answer; None for a status without content.

        Args:
            content: sent as JSON; None sends nothing, though the type of a change is JSON all the same.

        Raises:
            NoAnswer: no response came within the timeout.
            NotANode: the response is not what a node sends.
            RequestRefused, RequestFailed: the node answered with an error.

        After cancellation the server may still do what was asked.
        """
        progress = _Progress()
        with (
            answers_within(self.timeout_s, server.url, progress),
            self._rest_errors(server.url, progress),
            progress.closing_handshake(),
        ):
            async with self._http(server).stream(
                method,
                server.url + path,
                json=content,
                headers=self._who_asks(server) | ({} if method == "GET" else _JSON),
                timeout=None,  # one for the whole request is set above
                extensions={"trace": progress.note},
            ) as response:
                data = await _read(server.url, response)
        return self._document(server, response, data)

    @asynccontextmanager
    async def download(self, server: PeerAddress, path: str) -> AsyncIterator[Download]:
        """GET a response of any size; the timeout is for each piece of it.

        Raises as `ask` does, also while the pieces are read. Cancellation closes the connection.
        """
        progress = _Progress()
        with self._rest_errors(server.url, progress), progress.closing_handshake():
            async with self._http(server).stream(
                "GET",
                server.url + path,
                headers=self._who_asks(server),
                extensions={"trace": progress.note},
            ) as response:
                if not response.is_success:
                    self._document(server, response, await _read(server.url, response))
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise NotANode(server.url, "a proxy compresses its answer; name the node itself")
                if "Content-Length" not in response.headers:
                    raise NotANode(server.url)
                size_bytes = int(response.headers["Content-Length"])
                pieces = response.aiter_raw(PIECE_BYTES)
                try:
                    yield Download(size_bytes, pieces)
                except httpx.RemoteProtocolError as error:
                    reason = "the connection ended in the middle of the answer"
                    raise NoAnswer(server.url, reason, was_sent=True) from error
                finally:
                    await _abandon(pieces)

    @contextmanager
    def _rest_errors(self, url: str, progress: "_Progress") -> Iterator[None]:
        """Raise the errors of httpx as what they mean."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise NoAnswer(url, _too_late(self.timeout_s), was_sent=progress.was_sent) from error
        except httpx.RemoteProtocolError as error:
            raise NoAnswer(url, NO_REST_API, was_sent=True) from error
        except httpx.HTTPError as error:
            raise NoAnswer(url, _reason_of(error), was_sent=progress.was_sent) from error
        except (httpx.InvalidURL, UnicodeError) as error:  # neither is an httpx.HTTPError
            raise NoAnswer(url, "the URL is malformed", was_sent=False) from error


class _Progress:
    """How far a request has come, as httpcore traces it."""

    def __init__(self) -> None:
        self.was_sent = True  # unless it is known not to be
        self._connected: Any = None  # an httpcore.AsyncNetworkStream
        self._shakes_hands = False

    async def note(self, event: str, info: dict[str, Any]) -> None:
        self.was_sent = not event.startswith(("connection.connect_tcp.", "connection.start_tls."))
        if event == "connection.connect_tcp.complete":
            self._connected = info["return_value"]
        elif event.startswith("connection.start_tls."):
            self._shakes_hands = event != "connection.start_tls.complete"

    @contextmanager
    def closing_handshake(self) -> Iterator[None]:
        """A block of one request. Closes the socket if a cancellation ends the TLS handshake.

        httpcore closes it only after errors, and leaves it to the garbage collector then.
        """
        try:
            yield
        finally:
            if self._shakes_hands and self._connected is not None:
                self._connected.get_extra_info("socket").close()


@contextmanager
def answers_within(timeout_s: float, url: str, progress: _Progress | None = None) -> Iterator[None]:
    """A block of requests to one server that ends after `timeout_s`; raises NoAnswer then."""
    with trio.move_on_after(timeout_s) as scope:
        yield
    if scope.cancelled_caught:
        raise NoAnswer(url, _too_late(timeout_s), was_sent=progress is None or progress.was_sent)


def _too_late(timeout_s: float) -> str:
    return f"nothing within {timeout_s:g} s"


def _reason_of(error: httpx.HTTPError) -> str:
    """The reason of the system's error, which httpx and httpcore have wrapped."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return str(failure_of(cause)) if isinstance(cause, ssl.SSLError) else reason_of(cause or error)


async def _read(url: str, response: httpx.Response) -> bytes:
    data = bytearray()
    pieces = response.aiter_raw()
    async for piece in pieces:
        data += piece
        if len(data) > MAX_ANSWER_BYTES:
            await _abandon(pieces)
            raise NotANode(url, f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
    return bytes(data)


async def _abandon(pieces: AsyncIterator[bytes]) -> None:
    """End the reading of a response early.

    httpx reads through generators inside generators, and closing the outer one leaves the inner ones to the
    garbage collector. A cancellation at their next await ends all of them.
    """
    with trio.CancelScope() as scope:
        scope.cancel()
        async for _ in pieces:
            pass


def _document(url: str, response: httpx.Response, data: bytes) -> Any:
    """What a response says; raises what it means if that is an error."""
    status = response.status_code
    if not response.is_success:
        detail, waits_to_join = _detail(response, data)
        if detail is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
            # Said by a proxy before the node.
            detail = printable(response.reason_phrase) or "it is unavailable"
        if detail is None:
            hint = (
                "; the REST API has another port (--port) than etcd's (--etcd-port)"
                if status == HTTPStatus.NOT_FOUND
                else ""
            )
            raise NotANode(url, f"it answers with status {status}{hint}")
        if response.is_client_error and status != HTTPStatus.TOO_MANY_REQUESTS:
            raise RequestRefused(url, detail)
        raise RequestFailed(url, detail, status, waits_to_join=waits_to_join)
    if status == HTTPStatus.NO_CONTENT:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotANode(url) from error


def _detail(response: httpx.Response, data: bytes) -> tuple[str | None, bool]:
    """The sentence of a node's error, to stand behind other words, and whether it waits to join.

    It is a problem document, or plain text before the node has read the request: if it takes no more
    connections, or speaks TLS and the request came without.
    """
    try:
        problem = json.loads(data)
    except (ValueError, RecursionError):
        is_unread = response.status_code in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.BAD_REQUEST)
        sentence = in_a_line(printable(data.decode("utf-8", "replace").strip()))
        return (sentence or None if is_unread else None), False
    detail = problem.get("detail") if isinstance(problem, dict) else None
    if not isinstance(detail, str) or not detail:
        return None, False
    return in_a_line(printable(detail, MAX_SENTENCE_CHARACTERS)), problem.get("waits_to_join") is True
