"""Watch streams over grpcio, and what they have been told in a form that servers can be compared by."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from raftkv_trio.schema import rpc_pb2

PATIENCE_S = 30.0
#: In headers; they belong to the server.
OWN = ("cluster_id", "member_id", "raft_term")


class WatchStream:
    """One stream of the Watch service. A thread takes what the server sends.

    Attributes:
        responses: all that has come so far.
        error: how the stream has ended; None: it has not.
    """

    def __init__(self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._requests: queue.Queue[rpc_pb2.WatchRequest | None] = queue.Queue()
        call = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc_pb2.WatchRequest.SerializeToString,
            response_deserializer=rpc_pb2.WatchResponse.FromString,
        )
        self.responses: list[rpc_pb2.WatchResponse] = []
        self.error: grpc.RpcError | None = None
        self._changed = threading.Condition()
        self._call = call(iter(self._requests.get, None), metadata=metadata)
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        try:
            for response in self._call:
                with self._changed:
                    self.responses.append(response)
                    self._changed.notify_all()
        except grpc.RpcError as error:
            with self._changed:
                self.error = error
                self._changed.notify_all()

    def send(self, **request: Any) -> None:
        """Send a request: `create_request={...}`, for example."""
        self._requests.put(rpc_pb2.WatchRequest(**request))

    def half_close(self) -> None:
        """Send no more requests."""
        self._requests.put(None)

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Return what `condition` returns as soon as that is true; raise the stream's error if it ends."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            while not (found := condition()):
                if self.error is not None:
                    raise self.error
                assert self._changed.wait(deadline - time.monotonic()), self.responses[-3:]
            return found

    def wait_error(self) -> grpc.RpcError:
        """The error that the server ends the stream with."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.error is not None, PATIENCE_S)
        assert self.error is not None
        return self.error

    def ask(self, **request: Any) -> rpc_pb2.WatchResponse:
        """Send a request that has a response without events, and wait for it."""
        before = len(self.controls())
        self.send(**request)
        found = self.wait(lambda: self.controls()[before:])
        return found[0]  # type: ignore[no-any-return]

    def create(self, key: bytes, **fields: Any) -> int:
        """Begin a watch, and return its id."""
        return self.ask(create_request={"key": key, **fields}).watch_id

    def controls(self) -> list[rpc_pb2.WatchResponse]:
        """The responses without events, but for those that a compaction has caused."""
        return [r for r in self.responses if not r.events and not r.compact_revision]

    def events(self, watch_id: int) -> list[Any]:
        """The events of one watch."""
        return [event for r in self.responses if r.watch_id == watch_id for event in r.events]

    def told(self) -> dict[int, list[Any]]:
        """By watch: controls as they came, and events, without regard to how they were divided.

        What a key was changed to first in a revision that changes it twice is left out: our store has no
        history within a revision.
        """
        told: dict[int, list[Any]] = {}
        with self._changed:
            responses = list(self.responses)
        for response in responses:
            seen = told.setdefault(response.watch_id, [])
            if not response.events:
                control = MessageToDict(response, preserving_proto_field_name=True)
                for name in OWN:
                    control["header"].pop(name)
                seen.append(control)
            assert not response.events or response.header.revision >= response.events[-1].kv.mod_revision
            for event in response.events:
                found = MessageToDict(event, preserving_proto_field_name=True)
                place = event.kv.mod_revision, event.kv.key
                places = [one[0] for one in seen if isinstance(one, tuple)]
                if place in places:
                    at = next(i for i, one in enumerate(seen) if isinstance(one, tuple) and one[0] == place)
                    seen[at] = place, found
                else:
                    seen.append((place, found))
        return told

    def close(self) -> None:
        """Cancel the stream."""
        self._requests.put(None)
        self._call.cancel()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@contextmanager
def open_watch_stream(channel: grpc.Channel, *metadata: tuple[str, str]) -> Iterator[WatchStream]:
    """A stream, closed at the end."""
    stream = WatchStream(channel, metadata)
    try:
        yield stream
    finally:
        stream.close()
