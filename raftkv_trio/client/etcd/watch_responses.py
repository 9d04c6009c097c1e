"""What the server tells of one watch, over all the streams that it takes: without a gap or a repeat.

- Each watch has a stream of its own, on the connection in use. If the stream or its connection ends, the
  watch begins again on the next one, from the revision after the last that it was told.
- A member that lags is no problem: it tells nothing before it has reached that revision. A member without a
  leader ends the stream, because the stream's metadata asks for that.
- A silent connection is asked with PINGs (`connections.py`), also while it has only watches.
- A server that refuses the token cancels the watch, or ends the stream: it begins again with the next token.
- What has waited for a watch may come in parts. They are put together, so that the events of one revision
  are all in one response.
- A watch that has no events still goes on: told how far the store is, it would begin again from there. It
  asks raftkv-trio for that every `IDLE_S`. etcd tells it unasked, every ten minutes; its response to a
  request may overtake events (until 3.4.25), so this one counts for nothing.
"""

from contextlib import AbstractAsyncContextManager
from typing import NoReturn

import trio
from google.protobuf.message import DecodeError

from raftkv_trio.client.etcd.calls import FIRST_PAUSE_S, PASSING, Calls, pause
from raftkv_trio.client.etcd.connections import Connection
from raftkv_trio.client.etcd.outcomes import (
    CallError,
    CallRefused,
    Outcome,
    WatchCompacted,
    error_of_reason,
    refusal_of,
    refuses_token,
)
from raftkv_trio.client.etcd.tokens import Showing
from raftkv_trio.grpc import CallLost, CallNotExecuted, ClientStream, Code, Metadata, RpcError
from raftkv_trio.schema import rpc_pb2

PATH = "/etcdserverpb.Watch/Watch"
#: With this a member that has no leader ends the stream.
NEEDS_LEADER: Metadata = {"hasleader": "true"}
#: The id in a response to a progress request, which is about all watches of the stream.
NO_ID = -1
#: After so long without a response, raftkv-trio is asked how far its store is.
IDLE_S = 2.0
_PROGRESS_REQUEST = rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()).SerializeToString()


class WatchResponses:
    """The responses to one watch.

    Args:
        calls: of the client.
        request: of the watch. `fragment` and `progress_notify` are set here.

    Attributes:
        next_revision: whose events have not been returned yet, nor any later ones; 0 before `begin`, if the
            request leaves the beginning to the server.
        canceled: the response with which the server has refused or cancelled the watch.
    """

    def __init__(self, calls: Calls, request: rpc_pb2.WatchCreateRequest) -> None:
        self.next_revision = request.start_revision
        self.canceled: rpc_pb2.WatchResponse | None = None
        self._calls = calls
        self._request = rpc_pb2.WatchCreateRequest()
        self._request.CopyFrom(request)
        self._request.fragment = self._request.progress_notify = True
        self._connection: Connection | None = None
        self._manager: AbstractAsyncContextManager[ClientStream] | None = None
        self._stream: ClientStream | None = None
        self._parts: rpc_pb2.WatchResponse | None = None
        self._is_begun = False
        self._is_asked = False  # how far the store is, on this stream
        self._is_told = False  # whoever uses this wants to know how far the store is
        self._pause_s = FIRST_PAUSE_S
        self._showing = Showing(calls.tokens)

    async def begin(self) -> None:
        """Return when a server has begun the watch: from now on no event is missed.

        Raises what `receive` does. Cancelled, it may be called again.
        """
        while not self._is_begun:
            await self._receive_one()

    async def receive(self) -> rpc_pb2.WatchResponse:
        """The next response that has events, or is one to `request_progress`.

        Raises:
            WatchCompacted: events between the last response and now may be lost to compaction.
            CallRefused: the server refuses the watch.
            ClosedResourceError: the client is closed.

        Cancellation loses nothing.
        """
        while True:
            response = await self._receive_one()
            if response is not None:
                return response

    async def request_progress(self) -> None:
        """Have `receive` return a response without events, which says how far the store is.

        If the stream ends before the response comes, the next one is asked. Of several requests one may be
        answered. Cancelled, it may have been requested or not.
        """
        self._is_told = True
        if self._stream is not None:
            await self._ask_for_progress(self._stream)

    async def close(self) -> None:
        """End the watch, also if cancelled. There is no checkpoint in it."""
        self._stream = self._parts = None
        manager, self._manager = self._manager, None
        if manager is not None:
            await manager.__aexit__(None, None, None)

    # ------------------------------------------------------------ streams

    async def _receive_one(self) -> rpc_pb2.WatchResponse | None:
        """Take what comes next; the response, if it is for whoever uses this."""
        try:
            stream = self._stream or await self._open()
            content = await self._next_message(stream)
            if content is None:
                return None
            response = self._take(rpc_pb2.WatchResponse.FromString(content))
        except StopAsyncIteration:
            await self._go_on_after(RpcError(Code.UNAVAILABLE, "the server has ended the watch"))
        except DecodeError:
            await self._go_on_after(CallLost("the server's answer is no message of etcd's"))
        except (RpcError, CallLost, CallNotExecuted) as error:
            await self._go_on_after(error)
        else:
            self._pause_s = FIRST_PAUSE_S
            return response
        return None

    async def _open(self) -> ClientStream:
        """Begin the watch on a new stream. Cancellation leaves none."""
        shown = await self._showing.get()
        connection = await self._calls.connections.get()
        manager = connection.channel.stream(PATH, {**NEEDS_LEADER, **shown}, is_lasting=True)
        stream = await manager.__aenter__()
        self._connection, self._manager, self._is_asked = connection, manager, False
        self._request.start_revision = self.next_revision
        try:
            await stream.send(rpc_pb2.WatchRequest(create_request=self._request).SerializeToString())
            if self._is_told:
                await self._ask_for_progress(stream)
        except BaseException:
            await self.close()
            raise
        self._stream = stream
        return stream

    async def _next_message(self, stream: ClientStream) -> bytes | None:
        """The next message; None after a while without one, in which the server was asked for progress."""
        if self._is_asked or self._connection is None or not self._connection.knows_keys:
            return await anext(stream)
        with trio.move_on_after(IDLE_S):
            return await anext(stream)
        await self._ask_for_progress(stream)
        return None

    async def _ask_for_progress(self, stream: ClientStream) -> None:
        self._is_asked = True
        await stream.send(_PROGRESS_REQUEST)

    async def _go_on_after(self, error: CallError) -> None:
        """Leave the stream that has ended so, and wait for a moment. Raises what ends the watch."""
        connection, self._connection = self._connection, None
        await self.close()
        if self._showing.is_renewed(error):
            self.canceled = None
            return
        if connection is not None:  # else it was lost between `get` and the beginning of the stream
            outcome = self._calls.look_at(error, connection)
            if outcome is Outcome.REFUSED:
                raise refusal_of(error) from error
        if isinstance(error, RpcError) and error.code not in PASSING | {Code.INTERNAL}:
            raise CallRefused(int(error.code), error.text) from error
        self._pause_s = await pause(error, self._pause_s)

    # ------------------------------------------------------------ responses

    def _take(self, response: rpc_pb2.WatchResponse) -> rpc_pb2.WatchResponse | None:
        """Note what a response says; the response, if it is for whoever uses this. Raises CallRefused."""
        if response.canceled:
            self._end(response)
        revision = response.header.revision
        if response.created:
            self.next_revision = self.next_revision or revision + 1
            self._is_begun = True
            self._showing = Showing(self._calls.tokens)
            return None
        if not response.events:
            return self._take_progress(response)
        if self._parts is not None:
            self._parts.events.extend(response.events)
            self._parts.header.CopyFrom(response.header)
            self._parts.fragment = response.fragment
            response = self._parts
        self._parts = response if response.fragment else None
        if response.fragment:
            return None
        if response.events[0].kv.mod_revision < self.next_revision:  # some versions of etcd repeat events
            fresh = [each for each in response.events if each.kv.mod_revision >= self.next_revision]
            del response.events[:]
            response.events.extend(fresh)
            if not fresh:
                return None
        self.next_revision = response.events[-1].kv.mod_revision + 1
        return response

    def _take_progress(self, response: rpc_pb2.WatchResponse) -> rpc_pb2.WatchResponse | None:
        is_for_all = response.watch_id == NO_ID
        is_in_order = not is_for_all or (self._connection is not None and self._connection.knows_keys)
        if is_in_order and self._parts is None:
            self.next_revision = max(self.next_revision, response.header.revision + 1)
        if not is_for_all:
            return None
        self._is_asked = False
        is_told, self._is_told = self._is_told, False
        return response if is_told else None

    def _end(self, response: rpc_pb2.WatchResponse) -> NoReturn:
        reason = response.cancel_reason or "the server has cancelled the watch"
        self.canceled = response
        if response.compact_revision:
            raise WatchCompacted(response.compact_revision)
        error = error_of_reason(reason)
        if error is not None:
            raise error if refuses_token(error) else refusal_of(error)
        raise CallRefused(int(Code.FAILED_PRECONDITION), reason)
