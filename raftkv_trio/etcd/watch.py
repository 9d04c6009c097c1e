"""The Watch service: many watches on one stream.

Two tasks serve a stream: one does what the client asks for, the other one sends what is queued for it. All
that the client is told is queued, so it is told in order.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from random import random

import trio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.credentials import Authenticator, NotAuthenticated
from raftkv_trio.access.watching import (
    Change,
    Compacted,
    Denied,
    Events,
    Item,
    Note,
    Progress,
    TooManyWatchers,
    Watcher,
    WatchStream,
)
from raftkv_trio.config import WatchConfig
from raftkv_trio.errors import ProposalError, RaftKVError
from raftkv_trio.etcd.answers import key_value
from raftkv_trio.etcd.calls import Call, credentials_in
from raftkv_trio.etcd.capability import check_level
from raftkv_trio.etcd.errors import Fault, error_of_failure, rpc_error_of
from raftkv_trio.etcd.headers import EncodedHeaders, header_of
from raftkv_trio.etcd.kv import MAX_REQUEST_BYTES
from raftkv_trio.etcd.protobuf import field, varint
from raftkv_trio.grpc import Code, RpcError, Send
from raftkv_trio.kv import TO_THE_LAST, Access, Actor, AuthFailed, KeyValue
from raftkv_trio.payload.levels import HISTORY
from raftkv_trio.schema import kv_pb2, rpc_pb2

#: The id of a response that is about no watch, or about one that was not created.
NO_ID = -1
#: With this in its metadata a stream ends when there is no leader.
NEEDS_LEADER = "hasleader", "true"
EMPTY_RANGE = "mvcc: watcher range is empty"
DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
#: A response is divided from this size on, if the client wants that; as in etcd.
FRAGMENT_BYTES = MAX_REQUEST_BYTES + 512 * 1024
#: The connection takes no larger one.
MAX_RESPONSE_BYTES = 48 * 1024 * 1024
#: Thousands may arrive together; after so many the other tasks have their turn.
REQUESTS_A_TURN = 32
_EVENT = b"\x5a"  # field 11 of WatchResponse
_WATCH_ID = b"\x10"  # field 2
_IS_FRAGMENT = b"\x38\x01"  # field 7


def encode_event(change: Change, previous: KeyValue | None) -> bytes:
    """A change as a field of `WatchResponse`, so that events in a row make a message."""
    if change.key_value is None:
        event = kv_pb2.Event(
            type=kv_pb2.Event.DELETE,
            kv=kv_pb2.KeyValue(key=change.key, mod_revision=change.revision),
        )
    else:
        event = kv_pb2.Event(kv=key_value(change.key_value))
    if previous is not None:
        event.prev_kv.CopyFrom(key_value(previous))
    return field(_EVENT, event.SerializeToString())


class WatchHandlers:
    """Answers the calls of the Watch service."""

    def __init__(
        self, replicated: ReplicatedStore, config: WatchConfig, authenticator: Authenticator
    ) -> None:
        self._replicated = replicated
        self._config = config
        self._authenticator = authenticator
        self._headers = EncodedHeaders(replicated)

    async def watch(self, requests: AsyncIterator[rpc_pb2.WatchRequest], call: Call, send: Send) -> None:
        """Serve a stream of watches until the client ends it; the end of its requests does not.

        Raises RpcError. Cancellation ends all watches of the stream.
        """
        name, value = NEEDS_LEADER
        needs_leader = call.metadata.get(name) == value
        node = self._replicated.node
        if needs_leader and not node.has_leader:
            raise Fault.NO_LEADER.error()
        check_level(node, HISTORY)
        hub = self._replicated.watches
        stream = hub.open_stream(encode_event, needs_leader=needs_leader)
        try:
            find_actor = partial(self._authenticator.actor, credentials_in(call.metadata))
            await _Call(self._replicated, self._config, self._headers, stream, find_actor, send).run(requests)
        finally:
            hub.close_stream(stream)


class _Call:
    """One stream.

    The three sets of ids are of watches that want to hear of progress (True: nothing was sent to it since the
    last time), and whose responses may be divided.
    """

    def __init__(
        self,
        replicated: ReplicatedStore,
        config: WatchConfig,
        headers: EncodedHeaders,
        stream: WatchStream,
        find_actor: Callable[[], Awaitable[Actor | None]],
        send: Send,
    ) -> None:
        self._replicated = replicated
        self._node, self._store, self._hub = replicated.node, replicated.store, replicated.watches
        self._interval_s = config.progress_interval_s
        self._stream = stream
        self._find_actor = find_actor
        self._actor: Actor | None = None
        self._send = send
        self._next_id = 0
        self._progress: dict[int, bool] = {}
        self._fragment: set[int] = set()
        # As in etcd, the members of a cluster do not all do it at the same time.
        self._progress_at = trio.current_time() + self._interval_s * (1 + random() / 10)
        self._headers = headers

    async def run(self, requests: AsyncIterator[rpc_pb2.WatchRequest]) -> None:
        """Serve the stream. Raises RaftKVError. Cancellation leaves the stream to be closed."""
        errors: list[RaftKVError] = []
        async with trio.open_nursery() as nursery:

            async def until_error(work: Callable[[], Awaitable[None]]) -> None:
                try:
                    await work()
                except RaftKVError as error:
                    errors.append(error)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(until_error, self._send_all)
            await until_error(partial(self._receive_all, requests))
        if errors:
            raise errors[0]

    # ------------------------------------------------------------ what the client asks for

    async def _receive_all(self, requests: AsyncIterator[rpc_pb2.WatchRequest]) -> None:
        taken = 0
        async for request in requests:
            taken += 1
            if taken % REQUESTS_A_TURN == 0:
                await trio.lowlevel.checkpoint()
            await self._stream.wait_room()  # what is asked for makes the queue longer
            await self._node.wait_restored()
            if request.HasField("create_request"):
                refusal = await self._refusal()
                await self._node.wait_restored()  # nothing is awaited from here on
                self._create(request.create_request, refusal)
            elif request.HasField("cancel_request"):
                self._cancel(request.cancel_request.watch_id)
            elif request.HasField("progress_request"):
                self._hub.request_progress(self._stream)

    async def _refusal(self) -> str:
        """Why it is not known whom the stream is from, for the response that cancels a watch; empty if it is.

        As in etcd this ends a watch, and not the stream: its clients get another token then.
        """
        if self._actor is None:
            try:
                self._actor = await self._find_actor()
            except (NotAuthenticated, ProposalError) as error:
                refused = rpc_error_of(error)
                assert refused is not None
                return _reason_of(refused)
        return ""

    def _create(self, request: rpc_pb2.WatchCreateRequest, refusal: str) -> None:
        revision = self._store.revision
        response = rpc_pb2.WatchResponse(
            header=header_of(self._replicated, revision), watch_id=NO_ID, created=True
        )
        key, range_end = request.key or b"\0", request.range_end or None
        if range_end is not None and range_end != TO_THE_LAST and key >= range_end:
            reason = EMPTY_RANGE
        elif request.watch_id in self._stream.watchers and request.watch_id:
            reason = DUPLICATE_ID
        elif denied := refusal or self._denied(key, range_end):
            reason = denied
        else:
            watcher = Watcher(
                self._stream,
                request.watch_id or self._free_id(),
                key,
                range_end,
                request.start_revision or revision + 1,
                wants_puts=rpc_pb2.WatchCreateRequest.NOPUT not in request.filters,
                wants_deletes=rpc_pb2.WatchCreateRequest.NODELETE not in request.filters,
                wants_previous=request.prev_kv,
                reader=self._actor,
            )
            response.watch_id = watcher.id
            reason = self._begin(watcher, response, request)
        if reason:
            response.watch_id, response.canceled, response.cancel_reason = NO_ID, True, reason
            self._note(response)

    def _denied(self, key: bytes, range_end: bytes | None) -> str:
        """Why the client may not watch a range, in the words of etcd's clients; empty if it may."""
        try:
            self._store.auth.check_range(self._actor, Access.READ, key, range_end)
        except AuthFailed as error:
            return _reason_of(error_of_failure(error.failure))
        return ""

    def _free_id(self) -> int:
        while self._next_id in self._stream.watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _begin(
        self, watcher: Watcher, response: rpc_pb2.WatchResponse, request: rpc_pb2.WatchCreateRequest
    ) -> str:
        """Add a watcher, and say so; or why not."""
        try:
            self._hub.add(watcher)
        except TooManyWatchers as error:
            return f"etcdserver: {error}"
        if request.progress_notify:
            self._progress[watcher.id] = True
        if request.fragment:
            self._fragment.add(watcher.id)
        self._note(response)  # before any of its events: those are queued by another task
        return ""

    def _cancel(self, watch_id: int) -> None:
        watcher = self._stream.watchers.get(watch_id)
        if watcher is None:
            return
        self._hub.remove(watcher)
        self._forget(watch_id)
        self._note(
            rpc_pb2.WatchResponse(
                header=header_of(self._replicated, self._store.revision), watch_id=watch_id, canceled=True
            )
        )

    def _forget(self, watch_id: int) -> None:
        self._progress.pop(watch_id, None)
        self._fragment.discard(watch_id)

    def _note(self, response: rpc_pb2.WatchResponse) -> None:
        self._stream.put(Note(response.SerializeToString()))

    # ------------------------------------------------------------ what the client is told

    async def _send_all(self) -> None:
        stream = self._stream
        while True:
            items = stream.take()
            if stream.end_reason is not None:
                raise RpcError(Code.UNAVAILABLE, f"etcdserver: {stream.end_reason}")
            if self._progress and trio.current_time() >= self._progress_at:
                self._tell_progress()
            if not items:
                await self._wait()
                continue
            last: bytes | None = None
            for message in self._messages(items):
                if last is not None:
                    await self._send(last, more=True)
                last = message
            if last is not None:
                await self._send(last)
            if not stream.is_empty:  # the connection may take a megabyte without a wait
                await trio.lowlevel.checkpoint()

    async def _wait(self) -> None:
        """Return when something is queued, or progress is to be told."""
        if not self._progress:
            await self._stream.wait()  # without a cancel scope, which costs more than all the rest
            return
        with trio.CancelScope(deadline=self._progress_at):
            await self._stream.wait()

    def _messages(self, items: Sequence[Item]) -> Iterable[bytes]:
        """Messages for what was taken; events of one watch in a row make one."""
        gathered: dict[Watcher, list[Events]] = {}
        for item in items:
            if isinstance(item, Events):
                gathered.setdefault(item.watcher, []).append(item)
                continue
            yield from self._messages_of(gathered)
            gathered = {}
            match item:
                case Note(content):
                    yield content
                case Progress(revision):
                    yield self._response(revision, NO_ID)
                case Denied(watcher, error):
                    yield rpc_pb2.WatchResponse(
                        header=header_of(self._replicated),
                        watch_id=watcher.id,
                        canceled=True,
                        cancel_reason=_reason_of(error_of_failure(error.failure)),
                    ).SerializeToString()
                case Compacted(watcher, compacted_revision):
                    yield rpc_pb2.WatchResponse(
                        header=header_of(self._replicated),
                        watch_id=watcher.id,
                        canceled=True,
                        compact_revision=compacted_revision,
                    ).SerializeToString()
        yield from self._messages_of(gathered)

    def _messages_of(self, gathered: Mapping[Watcher, Sequence[Events]]) -> Iterable[bytes]:
        for watcher, items in gathered.items():
            if self._stream.watchers.get(watcher.id) is not watcher:
                continue  # nothing comes after the response to its cancellation
            if watcher.id in self._progress:
                self._progress[watcher.id] = False
            revision = items[-1].store_revision
            if len(items) == 1:
                events, size_bytes = items[0].events, items[0].size_bytes
            else:
                events = [one for item in items for one in item.events]
                size_bytes = sum([item.size_bytes for item in items])
            if size_bytes < FRAGMENT_BYTES or len(events) < 2:
                yield self._response(revision, watcher.id, events)
            elif watcher.id in self._fragment:
                yield from self._fragments(revision, watcher.id, events)
            elif size_bytes <= MAX_RESPONSE_BYTES:
                yield self._response(revision, watcher.id, events)
            else:
                yield self._too_large(watcher, items[-1].revision)

    def _fragments(self, revision: int, watch_id: int, events: Sequence[bytes]) -> Iterable[bytes]:
        start = 0
        while start < len(events):
            end, size_bytes = start + 1, len(events[start])
            while end < len(events) and size_bytes + len(events[end]) < FRAGMENT_BYTES:
                size_bytes += len(events[end])
                end += 1
            yield self._response(revision, watch_id, events[start:end], is_fragment=end < len(events))
            start = end

    def _too_large(self, watcher: Watcher, revision: int) -> bytes:
        self._hub.remove(watcher)
        self._forget(watcher.id)
        return rpc_pb2.WatchResponse(
            header=header_of(self._replicated, revision),
            watch_id=watcher.id,
            canceled=True,
            cancel_reason=f"etcdserver: the events of revision {revision} are too large for one response;"
            " watch with fragments",
        ).SerializeToString()

    def _tell_progress(self) -> None:
        """Queue what watches are told of which there was nothing else to tell."""
        self._progress_at = trio.current_time() + self._interval_s
        if self._node.is_restoring:
            return
        for watch_id, is_quiet in self._progress.items():
            watcher = self._stream.watchers[watch_id]
            if is_quiet and watcher.is_open and watcher not in self._stream.unsynced:
                self._stream.put(Note(self._response(self._hub.told_revision, watch_id)))
            self._progress[watch_id] = True

    def _response(
        self, revision: int, watch_id: int, events: Sequence[bytes] = (), *, is_fragment: bool = False
    ) -> bytes:
        """A `WatchResponse` with encoded events."""
        parts = [self._headers.of(revision)]
        if watch_id:
            parts += (_WATCH_ID, varint(watch_id))
        if is_fragment:
            parts.append(_IS_FRAGMENT)
        parts += events
        return b"".join(parts)


def _reason_of(error: RpcError) -> str:
    """An error as Go writes it, which etcd's clients look for in the reason of a cancellation."""
    code = error.code.name.title().replace("_", "")
    return f"rpc error: code = {code} desc = {error.text}"
