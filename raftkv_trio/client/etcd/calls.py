"""One call of a client, made again where that is safe.

- A read is made again, on another connection too, until it is answered or refused, or its caller gives up.
- A write is made again if it was certainly not executed. After an error that leaves this open it is made
  again only under an idempotency key: on servers that know keys, at most `RETRIES_S` later, and only if the
  store has not gone on by so many revisions that the key might be forgotten.
- A call whose token is refused is made again, once, with the next one (`tokens.py`).
- Between two attempts are growing random pauses, so that many clients do not come back all at once.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from uuid import uuid4

import trio
from google.protobuf.message import DecodeError

from raftkv_trio.client.etcd.connections import KEY_FIELD, Connection, Connections
from raftkv_trio.client.etcd.messages import AUTHENTICATE, READ_ONLY_TXN, RequestT, ResponseT, UnaryMethod
from raftkv_trio.client.etcd.outcomes import (
    NOT_ENABLED,
    CallError,
    CallRefused,
    Outcome,
    not_executed,
    outcome_of,
    refusal_of,
    sentence_of,
    unknown,
)
from raftkv_trio.client.etcd.tokens import TOKEN_FIELD, Showing, Tokens
from raftkv_trio.client.login import Login
from raftkv_trio.errors import ProposalError
from raftkv_trio.grpc import CallLost, CallNotExecuted, Code, Metadata, RpcError
from raftkv_trio.schema import rpc_pb2

#: How long after its first attempt a write under an idempotency key is made again.
RETRIES_S = 10.0
#: raftkv-trio remembers the last 10,000 keys, and nearly every write that has one makes a revision.
_SAFE_REVISIONS = 5000
FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
#: Codes that a later read, or another member, may not answer with.
PASSING = {
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
    Code.CANCELLED,
    Code.ABORTED,
}


class Doubt:
    """What is known of writes that are given up.

    Attributes:
        was_sent: whether one was sent, and may have been executed.
    """

    __slots__ = ("was_sent",)

    def __init__(self) -> None:
        self.was_sent = False


_doubt_of_block: ContextVar[Doubt | None] = ContextVar("doubt_of_block", default=None)


@contextmanager
def fail_after(seconds: float, failures: dict[str, str]) -> Iterator[None]:
    """Give up the calls of the block after a time, and raise what is known of them then.

    Args:
        failures: why endpoints failed, for the sentence.
    """
    doubt = Doubt()
    token = _doubt_of_block.set(doubt)
    try:
        with trio.move_on_after(seconds) as scope:
            yield
    finally:
        _doubt_of_block.reset(token)
    if scope.cancelled_caught:
        reason = f"no answer within {seconds:g} s"
        if failures:
            reason += "".join(f"\n{url}: {why}" for url, why in failures.items())
        raise unknown(None, reason) if doubt.was_sent else not_executed(None, reason)


def note_given_up(doubt: Doubt) -> None:
    """Tell the block around that a write of it was given up."""
    of_block = _doubt_of_block.get()
    if of_block is not None and doubt.was_sent:
        of_block.was_sent = True


class Calls:
    """Makes calls on a client's connections.

    Attributes:
        revision: the highest that an answer has told.
        connections: on which they are made.
        tokens: that they show.

    Args:
        nursery: of the client.
        login: the client's user.
    """

    def __init__(self, connections: Connections, nursery: trio.Nursery, login: Login | None = None) -> None:
        self.revision = 0
        self.connections = connections
        authenticate = None if login is None else partial(self._authenticate, login)
        self.tokens = Tokens(authenticate, connections, nursery)

    async def make(
        self, method: UnaryMethod[RequestT, ResponseT], request: RequestT, doubt: Doubt | None = None
    ) -> ResponseT:
        """Make a call; its response. Raises, and leaves behind, what `read` does, or else `write`."""
        content = request.SerializeToString()
        if method.changes:
            answer = await self.write(method.path, content, doubt or Doubt())
        else:
            answer = await self.read(method.path, content)
        try:
            response = method.response.FromString(answer)
        except DecodeError as error:
            lost = CallLost("the server's answer is no message of etcd's")
            raise (unknown(lost) if method.changes else not_executed(lost)) from error
        self.revision = max(self.revision, response.header.revision)
        return response

    async def read(self, path: str, request: bytes) -> bytes:
        """Make a call that changes nothing; its response.

        Raises CallRefused or TooLarge if it is refused, and ClosedResourceError if the client is closed.
        """
        return await self._read(path, request, Showing(self.tokens))

    async def _read(self, path: str, request: bytes, showing: Showing) -> bytes:
        pause_s = FIRST_PAUSE_S
        while True:
            shown = await showing.get()
            connection = await self.connections.get()
            try:
                return await connection.channel.call(path, request, shown)
            except (RpcError, CallLost, CallNotExecuted) as error:
                if showing.is_renewed(error):
                    continue
                outcome = self.look_at(error, connection)
                if outcome is Outcome.REFUSED:
                    raise refusal_of(error) from error
                if isinstance(error, RpcError) and outcome is Outcome.UNKNOWN and error.code not in PASSING:
                    raise CallRefused(int(error.code), error.text) from error
                pause_s = await pause(error, pause_s)

    async def write(self, path: str, request: bytes, doubt: Doubt) -> bytes:
        """Make a call that changes something; its response.

        Args:
            doubt: told while the write may have been executed without being known.

        Raises:
            CallRefused, StoreFull, TooLarge: certainly not executed.
            OutcomeUnknown: it may have been executed.
            ClosedResourceError: the client is closed; certainly not executed.

        Cancelled, it may have been executed; `doubt` says whether it was sent at all.
        """
        attempts = _Write(self, path, request, doubt)
        try:
            return await attempts.make()
        except trio.Cancelled:
            note_given_up(attempts.doubt)
            raise

    def look_at(self, error: CallError, connection: Connection) -> Outcome:
        """What the error of a call on this connection says; the connection is left if it says that, too."""
        if isinstance(error, CallLost | CallNotExecuted) or error.code in (
            Code.UNAVAILABLE,
            Code.DEADLINE_EXCEEDED,
        ):
            self.connections.leave(connection, sentence_of(error))
        return outcome_of(error, is_ours=connection.knows_keys)

    async def _authenticate(self, login: Login) -> Metadata:
        """What calls are to show; nothing if the server does not check users, or is of before it had any.

        Raises as `read` does. The errors have no part of the password.
        """
        request = rpc_pb2.AuthenticateRequest(name=login.user, password=login.password)
        try:
            answer = await self._read(AUTHENTICATE.path, request.SerializeToString(), Showing(None))
            token = rpc_pb2.AuthenticateResponse.FromString(answer).token
        except CallRefused as refused:
            if refused.text == NOT_ENABLED or refused.code == Code.UNIMPLEMENTED:
                return {}
            raise
        except DecodeError as error:
            raise not_executed(CallLost("the server's answer is no message of etcd's")) from error
        if not (token.isascii() and token.isprintable()):
            raise not_executed(CallLost("the server's token is no text that a call can carry"))
        return {TOKEN_FIELD: token}

    async def present_revision(self) -> int:
        """The store's revision, at least that of all writes that were acknowledged before."""
        # Of no key, since there may be none that the user may read.
        answer = await self.make(READ_ONLY_TXN, rpc_pb2.TxnRequest())
        return answer.header.revision


class _Write:
    """A write, over all its attempts."""

    __slots__ = (
        "_calls",
        "_first_at",
        "_first_error",
        "_first_revision",
        "_key",
        "_path",
        "_request",
        "_showing",
        "doubt",
    )

    def __init__(self, calls: Calls, path: str, request: bytes, doubt: Doubt) -> None:
        self.doubt = doubt
        self._calls = calls
        self._path = path
        self._request = request
        self._showing = Showing(calls.tokens)
        self._key = ""
        self._first_at = 0.0  # of the attempt that may have been executed
        self._first_revision = 0
        self._first_error: CallError | None = None

    async def make(self) -> bytes:
        """Make it, until it is answered, refused, or in doubt."""
        pause_s, calls = FIRST_PAUSE_S, self._calls
        while True:
            try:
                metadata = await self._showing.get()
                connection = await calls.connections.get()
            except (ProposalError, trio.ClosedResourceError):
                if self._first_error is None:
                    raise
                raise unknown(self._first_error) from self._first_error
            if self._first_error is not None and not await self._is_safe_again(connection):
                raise unknown(self._first_error) from self._first_error
            if connection.knows_keys:
                self._key = self._key or uuid4().hex
                metadata = {KEY_FIELD: self._key, **metadata}
            sent_at = trio.current_time()
            sent_revision = max(calls.revision, connection.status.header.revision)
            was_sent, self.doubt.was_sent = self.doubt.was_sent, True
            try:
                return await connection.channel.call(self._path, self._request, metadata)
            except (RpcError, CallLost, CallNotExecuted) as error:
                if self._showing.is_renewed(error):
                    self.doubt.was_sent = was_sent
                    continue
                outcome = calls.look_at(error, connection)
                if outcome is Outcome.REFUSED and self._first_error is None:
                    self.doubt.was_sent = False
                    raise refusal_of(error) from error
                if outcome is Outcome.NOT_EXECUTED:
                    self.doubt.was_sent = was_sent
                elif self._first_error is None:
                    self._first_error, self._first_at, self._first_revision = error, sent_at, sent_revision
                    if not connection.knows_keys:
                        raise unknown(error) from error
                elif outcome is Outcome.REFUSED:
                    # Of this attempt; an earlier one may still be on its way to the log.
                    raise unknown(self._first_error) from error
                pause_s = await pause(error, pause_s)

    async def _is_safe_again(self, connection: Connection) -> bool:
        """Whether a write that may have been executed is not executed twice if it is made once more."""
        if not connection.knows_keys or trio.current_time() > self._first_at + RETRIES_S:
            return False
        with trio.move_on_after(self._first_at + RETRIES_S - trio.current_time()):
            try:
                return await self._calls.present_revision() <= self._first_revision + _SAFE_REVISIONS
            except (ProposalError, trio.ClosedResourceError):
                return False  # nothing is known: not of this write either
        return False


async def pause(error: CallError, pause_s: float) -> float:
    """Wait before another attempt; how long to wait at most the next time.

    If the connection has gone, there is nothing to wait for: making another one takes the pauses.
    """
    if isinstance(error, RpcError):
        await trio.sleep(random.uniform(0, pause_s))
        return min(2 * pause_s, _LONGEST_PAUSE_S)
    if pause_s > FIRST_PAUSE_S:
        await trio.sleep(random.uniform(0, pause_s))
    return min(2 * pause_s, _LONGEST_PAUSE_S)
