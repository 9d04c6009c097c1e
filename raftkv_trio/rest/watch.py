"""`GET /-/watch`: what happens to a key, a range or a prefix, as Server-Sent Events; and a wait for one key.

An event of the stream is a revision: its id is the revision, and its data has all changes of that revision.
So who comes again with `Last-Event-ID` misses nothing and is told nothing twice.

The app under `/-/` does not see these requests: a stream costs its connection's task, and nothing else.
"""

import base64
import json
import logging
import re
from http import HTTPStatus
from urllib.parse import parse_qsl

import trio

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.watching import (
    Change,
    Compacted,
    Denied,
    Events,
    TooManyWatchers,
    Watcher,
    WatchStream,
)
from raftkv_trio.config import RestConfig, WatchConfig
from raftkv_trio.errors import CommandRefused, MalformedRequest, NoLeader, Overloaded, RaftKVError
from raftkv_trio.http import (
    BUG,
    ContentReceiver,
    Request,
    Response,
    SendPart,
    StreamedResponse,
    may_be_of_another_site,
    retry_after,
    with_content,
)
from raftkv_trio.kv import TO_THE_LAST, Access, Actor, AuthFailed, KeyValue, prefix_end
from raftkv_trio.payload.levels import HISTORY
from raftkv_trio.rest.callers import Callers
from raftkv_trio.rest.operators.documents import PROBLEM_TYPE, problem_content
from raftkv_trio.rest.status_codes import challenge, sentence_of, status_of
from raftkv_trio.sync import cancelled_when

logger = logging.getLogger(__name__)

PATH = b"/-/watch"
#: How long a request may wait for a change of its key, whatever it asks for.
MAX_WAIT_S = 300
_PARAMETERS = ("key", "prefix", "range_end", "rev", "prev_kv")
_REVISION = re.compile(r"[0-9]{1,18}")
_WAIT = re.compile(r'(?:^|[,;])[ \t]*wait[ \t]*=[ \t]*"?([0-9]{1,9})"?[ \t]*(?=$|[,;])', re.IGNORECASE)


class WatchRoute:
    """Answers requests for `/-/watch`."""

    def __init__(
        self, replicated: ReplicatedStore, config: RestConfig, watch: WatchConfig, callers: Callers
    ) -> None:
        self._replicated = replicated
        self._callers = callers
        self._contents = ContentReceiver(config)
        self._keep_alive_s = watch.keep_alive_s

    async def answer(self, request: Request) -> Response | StreamedResponse:
        """Answer a request; every error becomes a response. Cancellation leaves nothing behind."""
        try:
            await self._contents.skip(request)
            if request.method != "GET":
                return _problem(405, "This path supports GET alone", {"Allow": "GET"})
            if may_be_of_another_site(request.fields):
                return _problem(403, "A page of another site may have sent this; ask from a page of this one")
            await request.will_wait()
            return await self._begin(request)
        except RaftKVError as error:
            status = status_of(error)
            if status is not None:
                return _problem(status, sentence_of(error))
            logger.error("unexpected error in a watch", exc_info=error)
        except Exception:
            logger.exception("unexpected error in a watch")
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, BUG)

    async def _begin(self, request: Request) -> Response | StreamedResponse:
        wanted = _Wanted.of(request)
        replicated = self._replicated
        await replicated.wait_readable()  # refuses where there is no leader
        actor = await self._callers.actor(request)
        wanted.check(replicated, actor)
        if replicated.node.feature_level < HISTORY:
            raise CommandRefused("The members do not all know watches; upgrade them")
        store = replicated.store
        if wanted.first_revision is not None and wanted.first_revision < store.first_change:
            return _problem(
                HTTPStatus.GONE,
                f"Revision {wanted.first_revision} has been compacted; read the keys, and watch from there",
                compacted_revision=store.compacted_revision,
            )
        fields = {"Content-Type": "text/event-stream"}
        return StreamedResponse(HTTPStatus.OK, fields, lambda send: self._write(request, wanted, actor, send))

    async def _write(
        self, request: Request, wanted: "_Wanted", actor: Actor | None, send: SendPart
    ) -> Response | None:
        replicated = self._replicated
        hub = replicated.watches
        try:
            await replicated.node.wait_restored()
            wanted.check(replicated, actor)
        except NoLeader as error:  # the node stops
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except AuthFailed as error:
            return _problem(status_of(error) or HTTPStatus.FORBIDDEN, sentence_of(error))
        first = wanted.first_revision
        if first is None:
            first = replicated.store.revision + 1
        stream = hub.open_stream(_encode, needs_leader=True)
        try:
            try:
                hub.add(
                    Watcher(
                        stream,
                        0,
                        wanted.key,
                        wanted.range_end,
                        first,
                        wants_previous=wanted.wants_previous,
                        reader=actor,
                    )
                )
            except TooManyWatchers as error:
                return _problem(HTTPStatus.TOO_MANY_REQUESTS, str(error))
            # Whoever comes again before anything has happened begins here too.
            await send(b"id: %d\n\n" % (first - 1))
            async with cancelled_when(request.wait_gone):
                while await self._send_next(stream, send):
                    pass
        finally:
            hub.close_stream(stream)
        return None

    async def _send_next(self, stream: WatchStream, send: SendPart) -> bool:
        """Send what is queued, or that nothing is; returns whether the stream goes on."""
        items = stream.take()
        if stream.end_reason is not None:
            await send(_error({"reason": stream.end_reason}))
            return False
        if not items:
            with trio.move_on_after(self._keep_alive_s) as scope:
                await stream.wait()
            if scope.cancelled_caught:
                await send(self._keep_alive(stream))
        for item in items:
            if isinstance(item, Compacted):
                await send(_error({"reason": "compacted", "compacted_revision": item.compacted_revision}))
                return False
            if isinstance(item, Denied):
                await send(_error({"reason": "denied", "detail": sentence_of(item.error)}))
                return False
            if isinstance(item, Events):
                changes = b",".join(item.events)
                await send(
                    b'id: %d\ndata: {"revision":%d,"changes":[%b]}\n\n'
                    % (item.revision, item.revision, changes)
                )
        return True

    def _keep_alive(self, stream: WatchStream) -> bytes:
        """What shows that the connection works: up to which revision there was nothing, if it is known."""
        [watcher] = stream.watchers.values()
        told = self._replicated.watches.told_revision
        is_synced = watcher not in stream.unsynced and stream.is_empty
        if is_synced and not self._replicated.node.is_restoring and told >= watcher.next_revision:
            return b"id: %d\n\n" % told
        return b":\n\n"


class _Wanted:
    """What a request asks for.

    Attributes:
        key, range_end: as in `kv/txn.py`.
        first_revision: the first one that it wants to be told of; None: the next one.
    """

    def __init__(
        self, key: bytes, range_end: bytes | None, first_revision: int | None, *, wants_previous: bool
    ) -> None:
        self.key = key
        self.range_end = range_end
        self.first_revision = first_revision
        self.wants_previous = wants_previous

    def check(self, replicated: ReplicatedStore, actor: Actor | None) -> None:
        """Raise AuthFailed if the actor may not read it. No restore must be under way."""
        replicated.store.auth.check_range(actor, Access.READ, self.key, self.range_end)

    @classmethod
    def of(cls, request: Request) -> "_Wanted":
        """Read the query and `Last-Event-ID`. Raises MalformedRequest."""
        query = (request.origin_form() or b"").partition(b"?")[2].decode("latin-1")
        given: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True, encoding="latin-1"):
            if name not in _PARAMETERS or name in given:
                raise MalformedRequest(f"The query has {', '.join(_PARAMETERS)}, each once at most")
            given[name] = value
        if ("key" in given) == ("prefix" in given) or ("range_end" in given and "key" not in given):
            raise MalformedRequest("Name a `key`, with or without a `range_end`, or a `prefix`")
        key = given.get("key", given.get("prefix", "")).encode("latin-1")
        range_end: bytes | None = None
        if "prefix" in given:
            range_end = prefix_end(key)
        elif "range_end" in given:
            range_end = given["range_end"].encode("latin-1")
            if range_end != TO_THE_LAST and key >= range_end:
                raise MalformedRequest("The range is empty: its end must come after its key")
        if given.get("prev_kv", "true") not in ("true", "false"):
            raise MalformedRequest("`prev_kv` is true or false")
        return cls(
            key, range_end, _first_revision(request, given), wants_previous=given.get("prev_kv") == "true"
        )


def _first_revision(request: Request, given: dict[str, str]) -> int | None:
    last_ids = request.lines(b"last-event-id")
    if last_ids:
        if len(last_ids) > 1 or not _REVISION.fullmatch(last_ids[0]):
            raise MalformedRequest("Last-Event-ID is the id of an event of a watch, in one line")
        return int(last_ids[0]) + 1
    if "rev" not in given:
        return None
    if not _REVISION.fullmatch(given["rev"]) or not int(given["rev"]):
        raise MalformedRequest("`rev` is a revision: 1 or more")
    return int(given["rev"])


def _problem(status: int, detail: str, fields: dict[str, str] | None = None, **members: object) -> Response:
    content = problem_content(status, detail, **members)
    return with_content(
        HTTPStatus(status),
        content,
        PROBLEM_TYPE,
        {**retry_after(status), **challenge(status), **(fields or {})},
    )


def _error(data: dict[str, object]) -> bytes:
    """The last event of a stream that ends otherwise than by the client."""
    return b"event: error\ndata: %b\n\n" % json.dumps(data).encode()


def _encode(change: Change, previous: KeyValue | None) -> bytes:
    """A change as JSON, for the data of an event."""
    record = change.key_value
    value: dict[str, object] = {"type": "delete" if record is None else "put", **_text("key", change.key)}
    if record is not None:
        value |= _of_record(record)
    if previous is not None:
        value["previous"] = _of_record(previous)
    return json.dumps(value, separators=(",", ":")).encode()


def _of_record(record: KeyValue) -> dict[str, object]:
    members: dict[str, object] = _text("value", record.value)
    members |= {
        "create_revision": record.create_revision,
        "mod_revision": record.mod_revision,
        "version": record.version,
    }
    if record.lease:
        members["lease"] = str(record.lease)  # as a number it would be too large for most readers
    return members


def _text(name: str, content: bytes) -> dict[str, object]:
    """Bytes as a string, or in base64 under another name if they are no text."""
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}


# ---------------------------------------------------------------- a wait for one key


def wait_s_of(request: Request) -> int:
    """How long a request wants to wait for a change (`Prefer: wait=N`, RFC 7240, section 4.3); 0: not at all.

    A preference that is malformed is ignored, as that RFC has it.
    """
    found = _WAIT.search(",".join(request.lines(b"prefer")))
    return min(int(found[1]), MAX_WAIT_S) if found is not None else 0


async def wait_for_change(
    request: Request,
    replicated: ReplicatedStore,
    key: bytes,
    revision: int,
    seconds: float,
    actor: Actor | None = None,
) -> bool:
    """Wait until a key changes after a revision, and return whether it has, or that is compacted.

    It also returns if the actor, who could read the key, cannot do so any more, if the server stops or has no
    leader, or the client of the request is gone.

    Raises Overloaded, and NoLeader if the node stops. Cancellation leaves nothing behind.
    """
    await replicated.node.wait_restored()
    hub = replicated.watches
    stream = hub.open_stream(_nothing, needs_leader=True)
    try:
        try:
            hub.add(Watcher(stream, 0, key, None, revision + 1, reader=actor))
        except TooManyWatchers as error:
            raise Overloaded(str(error)) from error
        async with cancelled_when(request.wait_gone) as scope:
            scope.deadline = trio.current_time() + seconds
            while stream.is_empty and stream.end_reason is None:
                await stream.wait()
        has_changed = not stream.is_empty
    finally:
        hub.close_stream(stream)
    await replicated.node.wait_restored()
    return has_changed


def _nothing(change: Change, previous: KeyValue | None) -> bytes:
    """Who waits reads the store."""
    return b""
