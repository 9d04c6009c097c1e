"""A watch, as programs use it: an iterator over typed events."""

from collections import deque
from types import TracebackType
from typing import NamedTuple, Self

from raftkv_trio.client.etcd.calls import Calls
from raftkv_trio.client.etcd.messages import check_number, key_value_of
from raftkv_trio.client.etcd.watch_responses import WatchResponses
from raftkv_trio.kv import KeyValue
from raftkv_trio.schema import kv_pb2, rpc_pb2


class WatchEvent(NamedTuple):
    """What one revision did to one key.

    Attributes:
        key: that was put or deleted.
        revision: that did it.
        key_value: what was put; None if the key was deleted.
        previous: what the key had before, if the watch wants that; None if the key did not exist. It may be
            missing, too, if that revision was compacted meanwhile.
        is_last: whether it is the last event of its revision. All events of a revision arrive together.
    """

    key: bytes
    revision: int
    key_value: KeyValue | None
    previous: KeyValue | None
    is_last: bool


class Watch:
    """Iterates over the events of a range of keys, without a gap or a repeat; from `Client.watch`.

    Use it in an `async with` block, at whose beginning the watch begins, and at whose end it ends. One task
    at a time may iterate.
    """

    def __init__(self, calls: Calls, request: rpc_pb2.WatchCreateRequest) -> None:
        check_number("a revision", request.start_revision)
        self._responses = WatchResponses(calls, request)
        self._events: deque[WatchEvent] = deque()

    @property
    def next_revision(self) -> int:
        """From which another watch would have to begin to miss nothing that this one has not given yet.

        It also grows without events, with the store's revision. Inside a revision, it is that one.
        """
        return self._events[0].revision if self._events else self._responses.next_revision

    async def __aenter__(self) -> Self:
        """Begin the watch. Raises what `__anext__` does. Cancelled, there is no watch."""
        try:
            await self._responses.begin()
        except BaseException:
            await self._responses.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the watch."""
        await self._responses.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        """The next event; waits for it, however long, and through whatever failures of members.

        Raises WatchCompacted if events may have been lost, and what calls of `Client` raise. Cancellation
        loses no event.
        """
        while not self._events:
            self._events.extend(_events_of(await self._responses.receive()))
        return self._events.popleft()


def _events_of(response: rpc_pb2.WatchResponse) -> list[WatchEvent]:
    events = response.events
    revisions = [each.kv.mod_revision for each in events]
    return [
        WatchEvent(
            each.kv.key,
            revision,
            None if each.type == kv_pb2.Event.DELETE else key_value_of(each.kv),
            key_value_of(each.prev_kv) if each.HasField("prev_kv") else None,
            revision != following,
        )
        for each, revision, following in zip(events, revisions, [*revisions[1:], 0], strict=True)
    ]
