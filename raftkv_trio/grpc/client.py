"""A connection to a gRPC server, on Trio: many calls at once on one stream.

- `Channel.run` reads and writes; calls are made meanwhile, by any tasks. What they send leaves together.
- Deadlines are the callers' cancel scopes: a call that is cancelled is reset, and the server is told how long
  the caller would have waited (`grpc-timeout`).
- A channel never connects again. When the server says that it takes no more calls (GOAWAY), `takes_calls` is
  False, and the calls in progress end as usual.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from types import MappingProxyType
from typing import NoReturn, Self

import outcome
import trio

from raftkv_trio.grpc.client_end import ClientCall, ClientEnd
from raftkv_trio.grpc.heads import request_block, timeout_block
from raftkv_trio.grpc.limits import CLIENT_LIMITS, Limits
from raftkv_trio.grpc.rpc import CallLost, CallNotExecuted, Metadata
from raftkv_trio.sync import Wakeup
from raftkv_trio.tcp_stream import GONE, TcpStream

READ_BYTES = 64 * 1024
SEND_CHUNK_BYTES = 64 * 1024
#: How much of a stream may wait to be sent before its sender waits too.
SEND_AHEAD_BYTES = 64 * 1024
NO_METADATA: Metadata = MappingProxyType({})
_KNOWN_BLOCKS = 256
_SAID_NOTHING = (
    "the server closed it, and said nothing; name a port of etcd's API, with https:// if it speaks TLS"
)


class Channel:
    """A connection on which calls are made.

    Args:
        stream: connected to the server, and closed at the end of `run`.
        authority: the server's name, as the client calls it.
        scheme: `https` with TLS.
        limits: what the server may do.

    Attributes:
        ended: set when the connection has ended.
        heard: how often something has arrived.
    """

    def __init__(
        self, stream: TcpStream, authority: str, *, scheme: str = "http", limits: Limits = CLIENT_LIMITS
    ) -> None:
        self._stream = stream
        self._authority = authority
        self._scheme = scheme
        self._end = ClientEnd(limits, trio.current_time)
        self._to_write = Wakeup()
        self._is_writing = False
        self._is_over = False
        self._places = trio.lowlevel.ParkingLot()  # calls that wait until the server takes them
        self._room = trio.lowlevel.ParkingLot()  # streams that have too much to be sent
        self._blocks: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}
        self.ended = trio.Event()
        self.heard = 0

    @property
    def takes_calls(self) -> bool:
        """Whether calls may be made; if not, it will never be so again."""
        return not self._is_over and self._end.takes_calls

    @property
    def calls(self) -> int:
        """How many are in progress."""
        return len(self._end.streams)

    async def run(self) -> None:
        """Read and write until the connection ends.

        Calls in progress then raise CallLost, or CallNotExecuted if they have not been sent. Cancellation
        ends the connection too.
        """
        reason = "this end closed it"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                reason = await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self._is_over = True
            self._end.lose_all(reason)
            self._places.unpark_all()
            self._room.unpark_all()
            self._say_last()
            self._stream.close()
            self.ended.set()

    async def _read(self) -> str:
        """Take what arrives until nothing more will; returns why."""
        end = self._end
        self._flush()
        while end.fault is None:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except GONE as error:
                return str(error)
            if not data:
                return "the server closed it" if self.heard else _SAID_NOTHING
            self.heard += 1
            end.feed(data)
            if end.output:
                self._flush()
            if self._places and len(end.streams) < end.max_open:
                self._places.unpark(count=end.max_open - len(end.streams))
            if end.told_to_go is not None and not end.streams:
                return "the server takes no more calls"
        return str(end.fault)

    def _say_last(self) -> None:
        try:
            if self._end.output and not self._is_writing:
                self._stream.send_now(self._end.take_output())
        except GONE:
            pass  # whom there is nothing more to tell

    def ping(self) -> None:
        """Have the server say something: if `heard` does not grow then, the connection is dead.

        Servers take few of these for a call: etcd one in 5 s, and only while calls are in progress.
        """
        self._end.ping()
        self._flush()

    # ------------------------------------------------------------ writing

    def _flush(self) -> None:
        """Have the output sent: at once if nothing else is under way, else with what comes meanwhile."""
        end = self._end
        if self._is_writing or self._to_write.is_set or len(end.streams) > 1 or self._is_over:
            self._to_write.set()
            return
        try:
            self._send_now()
        except GONE:
            return  # which the reader notices too
        if end.output:
            self._to_write.set()

    def _send_now(self) -> None:
        """Send of the output what the system takes at once. Raises GONE if the connection is broken."""
        end = self._end
        data = end.take_output()
        try:
            sent = self._stream.send_now(data if len(data) <= SEND_CHUNK_BYTES else data[:SEND_CHUNK_BYTES])
        except GONE:
            if type(self._stream) is TcpStream:  # with TLS some of it may have left
                end.note_not_taken(len(data))
            raise
        end.note_sent(sent, data[sent:])

    async def _write(self) -> NoReturn:
        end = self._end
        while True:
            await self._to_write.wait()
            self._is_writing = True
            try:
                while end.output:
                    self._send_now()
                    if end.output:
                        await self._stream.wait_send_all_might_not_block()
            except GONE:
                await trio.sleep_forever()  # until the reader has noticed it too
            self._is_writing = False
            self._room.unpark_all()

    # ------------------------------------------------------------ calls

    async def call(self, path: str, request: bytes, metadata: Metadata = NO_METADATA) -> bytes:
        """Make a unary call, and return the response.

        Raises:
            RpcError: the server answered with a status that is not OK.
            CallNotExecuted: the call certainly did nothing.
            CallLost: the connection ended, or the call was reset; it may or may not have been executed.

        Cancellation resets the call: then it may or may not have been executed either.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        block = await self._begin(path, metadata, trio.current_effective_deadline())
        end, task = self._end, trio.lowlevel.current_task()

        def wake() -> None:
            trio.lowlevel.reschedule(task, _result(call))

        def abort(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            self._cancel(call)
            return trio.lowlevel.Abort.SUCCEEDED

        call = end.open_unary(block, request, wake)
        self._flush()
        response: bytes = await trio.lowlevel.wait_task_rescheduled(abort)
        return response

    @asynccontextmanager
    async def stream(
        self, path: str, metadata: Metadata = NO_METADATA, *, is_lasting: bool = False
    ) -> AsyncIterator["ClientStream"]:
        """Make a call with a stream of messages, for the block. At its end it is reset if it goes on.

        Args:
            is_lasting: whether it may outlast the deadline of whoever begins it; the server is told of none.

        Raises CallNotExecuted if it cannot be begun. Cancellation resets it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        block = await self._begin(path, metadata, inf if is_lasting else trio.current_effective_deadline())
        changed = Wakeup()
        call = self._end.open(block, is_unary=False, on_change=changed.set)
        self._flush()
        try:
            yield ClientStream(self, call, changed)
        finally:
            self._cancel(call)

    async def _begin(self, path: str, metadata: Metadata, deadline: float) -> bytes:
        """Wait until the server takes one more call; the call's head. The call must be opened at once."""
        end = self._end
        while self.takes_calls and len(end.streams) >= end.max_open:
            await self._places.park()
        if not self.takes_calls:
            raise CallNotExecuted("the connection takes no more calls; make another one")
        key = path, tuple(metadata.items())
        block = self._blocks.get(key)
        if block is None:
            if len(self._blocks) >= _KNOWN_BLOCKS:
                self._blocks.clear()
            block = self._blocks[key] = request_block(path, self._scheme, self._authority, metadata)
        return block if deadline == inf else block + timeout_block(deadline - trio.current_time())

    def _cancel(self, call: ClientCall) -> None:
        self._end.cancel(call)
        if self._end.output and not self._is_over:
            self._flush()
        self._places.unpark()

    async def _send(self, call: ClientCall, message: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        call.on_room = self._room.unpark_all
        while call.unsent_bytes >= SEND_AHEAD_BYTES or self._end.output_bytes >= SEND_AHEAD_BYTES:
            if call.has_ended or self._is_over:
                return
            if self._end.output:
                self._flush()
            await self._room.park()
        self._end.send_message(call, message)
        self._flush()

    def _end_of_request(self, call: ClientCall) -> None:
        self._end.end(call)
        self._flush()

    def _take_message(self, call: ClientCall) -> bytes | None:
        message = self._end.take_message(call)
        if self._end.output:  # more window for the server
            self._flush()
        return message


class ClientStream:
    """A call with streams of messages; from `Channel.stream`. One task may send and another one receive."""

    def __init__(self, channel: Channel, call: ClientCall, changed: Wakeup) -> None:
        self._channel = channel
        self._call = call
        self._changed = changed

    async def send(self, message: bytes) -> None:
        """Send a message, once the server has taken enough of those before.

        Does nothing if the call has ended: receiving says how. Cancellation sends nothing.
        """
        await self._channel._send(self._call, message)

    def end(self) -> None:
        """Send no more messages, which the server is told."""
        self._channel._end_of_request(self._call)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next message; the iteration ends if the call ends well.

        Raises RpcError, CallNotExecuted or CallLost as `Channel.call` does. Cancellation loses nothing.
        """
        call = self._call
        await trio.lowlevel.checkpoint_if_cancelled()
        while (message := self._channel._take_message(call)) is None:
            if call.error is not None:
                raise call.error
            if call.has_ended:
                raise StopAsyncIteration
            await self._changed.wait()
        return message


def _result(call: ClientCall) -> outcome.Outcome[bytes]:
    if call.error is not None:
        return outcome.Error(call.error)
    if not call.messages:
        return outcome.Error(CallLost("the call has no response"))
    return outcome.Value(call.messages[0])


@asynccontextmanager
async def open_channel(
    stream: TcpStream, authority: str, *, scheme: str = "http", limits: Limits = CLIENT_LIMITS
) -> AsyncIterator[Channel]:
    """Run a channel for the block, and close the connection at its end.

    Errors of the block leave in a group.
    """
    channel = Channel(stream, authority, scheme=scheme, limits=limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.run)
        yield channel
        nursery.cancel_scope.cancel()
