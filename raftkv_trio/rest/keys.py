"""Keys, at the root as raftexample has them: the request target as sent is the key, so options are fields.

A GET waits for a quorum and then reads the store; a PUT or DELETE is one txn in the
log, with its preconditions as compares, and is answered when it is applied on this node.
"""

import logging
import re
from http import HTTPStatus

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.replicated_store import MAX_KEY_BYTES
from raftkv_trio.addresses import PeerAddress, parse_node_id
from raftkv_trio.config import RestConfig
from raftkv_trio.errors import CommandRefused, ConfigError, MalformedRequest, RaftKVError
from raftkv_trio.foreign_text import printable
from raftkv_trio.http import BUG, NO_TARGET, ContentReceiver, Request, Response, plain
from raftkv_trio.kv import (
    MAX_REQUEST_ID_BYTES,
    Access,
    Actor,
    AuthFailed,
    Delete,
    DeleteResult,
    Failed,
    Failure,
    GetResult,
    KeyValue,
    OperationResult,
    Put,
    PutResult,
    Txn,
    TxnResult,
    encode_command,
)
from raftkv_trio.node.proposals import Applied, Proposal
from raftkv_trio.payload.levels import HISTORY
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.rest.callers import Callers
from raftkv_trio.rest.preconditions import Preconditions, etag, parse_preconditions, weak_hint
from raftkv_trio.rest.responses import ALLOW, METHODS, empty, octets
from raftkv_trio.rest.server_timing import trace_if_asked, with_timing
from raftkv_trio.rest.status_codes import challenge, sentence_of, status_of
from raftkv_trio.rest.watch import wait_for_change, wait_s_of

logger = logging.getLogger(__name__)

# The first words of these three are raftexample's, which its clients may look for.
NO_KEY_TO_GET = "Failed to GET: there is no such key"
NO_KEY_TO_DELETE = "Failed to DELETE: there is no such key"
NO_POST = (
    "Failed on POST: it only adds node ID, as POST /ID with the node's peer URL; to write a key, use PUT"
)
#: Of a write, when it is applied.
AUTH_FAILURES = (Failure.USER_EMPTY, Failure.AUTH_OLD_REVISION, Failure.PERMISSION_DENIED)
_NAMES_OF_METHODS = f"{', '.join(METHODS[:-1])} or {METHODS[-1]}"
_WAITED = {"Preference-Applied": "wait"}
_MEMBER_PATH = re.compile(rb"/[1-9][0-9]*")
_MAX_STALE = re.compile(r"(?:^|,)[ \t]*max-stale(?:=\"?([0-9]{1,9})\"?)?[ \t]*(?=,|$)", re.IGNORECASE)


class KeyHandlers:
    """Answers requests on keys, from one replicated store."""

    def __init__(self, replicated: ReplicatedStore, config: RestConfig, callers: Callers) -> None:
        self._callers = callers
        self._replicated = replicated
        self._node = replicated.node
        self._store = replicated.store
        self._config = config
        self._contents = ContentReceiver(config)

    async def handle(self, request: Request, key: bytes | None) -> Response:
        """Answer any request outside `/-/`; every error becomes a response.

        Args:
            key: the request target in origin form; None if it has no such form.

        Cancellation gives up the write in progress, which may or may not be applied.
        """
        try:
            return await self._dispatch(request, key)
        except RaftKVError as error:
            status = status_of(error)
            if status is not None:
                return plain(status, sentence_of(error), challenge(status))
            logger.error("unexpected error in a request on a key", exc_info=error)
        except Exception:
            logger.exception("unexpected error in %s of a key", printable(request.method))
        return plain(HTTPStatus.INTERNAL_SERVER_ERROR, BUG)

    async def _dispatch(self, request: Request, key: bytes | None) -> Response:
        method = request.method
        if method not in METHODS:
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, f"Method not allowed; use {_NAMES_OF_METHODS}", ALLOW)
        if method == "OPTIONS":  # also of `*` (RFC 9110, section 9.3.7); load balancers probe with it
            await self._contents.skip(request)
            return empty(HTTPStatus.NO_CONTENT, ALLOW)
        if key is None:
            raise MalformedRequest(NO_TARGET.sentence)
        if len(key) > MAX_KEY_BYTES:
            return plain(HTTPStatus.REQUEST_URI_TOO_LONG, f"A key has at most {MAX_KEY_BYTES} bytes")
        if method == "PUT":
            return await self._put(request, key)
        if method == "POST" and _MEMBER_PATH.fullmatch(key):
            return await self._add_member(request, key)
        await self._contents.skip(request)
        match method:
            case "DELETE":
                return await self._delete(request, key)
            case "POST":
                return plain(HTTPStatus.BAD_REQUEST, NO_POST)
            case _:
                return await self._get(request, key)

    # ------------------------------------------------------------ reads

    async def _get(self, request: Request, key: bytes) -> Response:
        preconditions = parse_preconditions(request.lines)
        if not self._may_be_stale(request):
            await request.will_wait()
            await self._replicated.wait_readable()
        actor = await self._callers.actor(request)
        # Before anything is told of the key, whether it exists too.
        self._store.auth.check_range(actor, Access.READ, key)
        record = self._store.get(key)
        if record is None:
            return plain(HTTPStatus.NOT_FOUND, NO_KEY_TO_GET, self._position())
        if preconditions.if_match and not preconditions.if_match.match(record):
            return self._precondition_failed(request, record)
        headers = {"ETag": etag(record), **self._position()}
        if preconditions.if_none_match and preconditions.if_none_match.match(record):
            wait_s = wait_s_of(request)
            if not wait_s or self._store.level < HISTORY:
                return empty(HTTPStatus.NOT_MODIFIED, headers)
            revision = self._store.revision
            await request.will_wait()
            has_changed = await wait_for_change(request, self._replicated, key, revision, wait_s, actor)
            self._store.auth.check_range(actor, Access.READ, key)
            if not has_changed:
                return empty(HTTPStatus.NOT_MODIFIED, {**headers, **_WAITED})
            record = self._store.get(key)
            if record is None:
                return plain(HTTPStatus.NOT_FOUND, NO_KEY_TO_GET, {**self._position(), **_WAITED})
            headers = {"ETag": etag(record), **self._position(), **_WAITED}
        return octets(record.value, headers)

    def _may_be_stale(self, request: Request) -> bool:
        """Whether `max-stale` (RFC 9111, section 5.2.1.2) allows an answer from what is applied here.

        `max-stale=N` allows it if that holds all that was acknowledged until N seconds before the request.
        `max-stale=0` allows nothing: only a quorum knows what is acknowledged at this moment.
        """
        allowed = _MAX_STALE.search(",".join(request.lines(b"cache-control")))
        if allowed is None:
            return False
        if allowed[1] is None:
            return not self._node.is_restoring
        # Now instead of when the request arrived: the answer holds at least as much.
        return int(allowed[1]) > 0 and self._node.is_fresh_within(int(allowed[1]))

    def _position(self) -> dict[str, str]:
        """The fields that say how far this node has applied the log, for the answer to a read."""
        return {"X-Raft-Index": str(self._node.applied_index), "X-Raft-Term": str(self._node.term)}

    # ------------------------------------------------------------ writes

    async def _put(self, request: Request, key: bytes) -> Response:
        trace = trace_if_asked(request, self._node)
        await request.will_wait()
        preconditions = parse_preconditions(request.lines)
        actor = await self._writer(request, preconditions.guard(key, Put(key, b"")))
        request_id = self._request_id(request, preconditions)
        preconditions = await self._without_lost_tags(preconditions, key)
        value = await self._contents.receive(request)
        # The quota travels with the command, whatever this node's store holds: it may be far behind.
        txn = preconditions.guard(key, Put(key, value), self._replicated.quota_bytes)
        proposal = self._node.submit(encode_command(txn, actor, request_id=request_id))
        if trace is not None:
            trace.follow(proposal)
        del value  # from here on the command waits, and the node bounds commands
        applied, result = await self._outcome(proposal, actor)
        if isinstance(result, GetResult):
            return self._precondition_failed(request, *result.key_values)
        return with_timing(self._written(applied, result), trace)

    async def _delete(self, request: Request, key: bytes) -> Response:
        await request.will_wait()
        preconditions = parse_preconditions(request.lines)
        is_member = self._config.root_members and _MEMBER_PATH.fullmatch(key)
        if is_member and preconditions.if_match is None:
            return await self._remove_member(request, key)
        actor = await self._writer(request, preconditions.guard(key, Delete(key)))
        request_id = self._request_id(request, preconditions)
        preconditions = await self._without_lost_tags(preconditions, key)
        txn = preconditions.guard(key, Delete(key))
        proposal = self._node.submit(encode_command(txn, actor, request_id=request_id))
        applied, result = await self._outcome(proposal, actor)
        if isinstance(result, GetResult) and result.key_values:
            return self._precondition_failed(request, *result.key_values)
        if isinstance(result, DeleteResult) and result.deleted:
            return self._written(applied, result)
        # A missing key is 404 whatever the preconditions say (RFC 9110, section 13.2.1).
        return plain(HTTPStatus.NOT_FOUND, NO_KEY_TO_DELETE)

    def _request_id(self, request: Request, preconditions: Preconditions) -> bytes | None:
        """The id by which a retry of a write is known; None if the request has none.

        Raises MalformedRequest, and CommandRefused while a member could not remember it.
        """
        lines = request.lines(b"idempotency-key")
        if not lines:
            return None
        request_id = lines[0].encode("latin-1")
        if len(lines) > 1 or not 1 <= len(request_id) <= MAX_REQUEST_ID_BYTES:
            raise MalformedRequest(f"Idempotency-Key has 1 to {MAX_REQUEST_ID_BYTES} bytes, in one line")
        if preconditions.tag_count > 1:
            # Which of them matter depends on the state, so that a retry would be another command.
            raise MalformedRequest("With Idempotency-Key, name one entity tag at most")
        if self._node.feature_level < HISTORY:
            raise CommandRefused(
                "Idempotency-Key is not known by all members; upgrade them, or leave it out;"
                " the write is certainly not applied"
            )
        return request_id

    async def _without_lost_tags(self, preconditions: Preconditions, key: bytes) -> Preconditions:
        """The preconditions with one tag or none, so that the command has the key in a compare once."""
        if preconditions.tag_count > 1 and not self._node.is_restoring:
            preconditions = preconditions.without_lost_tags(self._store, key, is_linearizable=False)
        if preconditions.tag_count > 1:  # this node may lag behind the one that gave the tags
            await self._replicated.wait_readable()
            preconditions = preconditions.without_lost_tags(self._store, key, is_linearizable=True)
        return preconditions

    async def _add_member(self, request: Request, path: bytes) -> Response:
        """raftexample's `POST /4` with the node's peer URL; 204 when the node is a learner."""
        if not self._config.root_members:
            await self._contents.skip(request)
            return plain(HTTPStatus.FORBIDDEN, "Members are not changed at the root; use POST /-/members")
        await request.will_wait()
        actor = await self._root(request)
        change = added(path[1:], await self._contents.receive(request))
        await self._node.wait_restored()
        self._store.auth.check_root(actor)
        return self._written(await self._replicated.change_members(change))

    async def _remove_member(self, request: Request, path: bytes) -> Response:
        """raftexample's `DELETE /3`; refused if a key has that name, since either may be meant."""
        await self._root(request)
        if self._store.get(path) is None:
            return self._written(await self._replicated.change_members(removed(path[1:])))
        name = path.decode()
        return plain(
            HTTPStatus.CONFLICT,
            f"There is a key {name}; to remove the node, use DELETE /-/members{name}; to delete the key, use "
            f"DELETE {name} with If-Match: *",
        )

    async def _root(self, request: Request) -> Actor | None:
        """Who asks for a change of the members; raises AuthFailed without the role root."""
        await self._callers.wait_newest()
        actor = await self._callers.actor(request)
        self._store.auth.check_root(actor)
        return actor

    async def _writer(self, request: Request, txn: Txn) -> Actor | None:
        """Who asks for a write. Raises AuthFailed if it could only be refused, so that it takes no room.

        What counts is what the user may do when the write is applied, which is checked then.
        """
        actor = await self._callers.actor(request)
        try:
            self._store.auth.check_txn(actor, txn, self._store.leases)
        except AuthFailed:
            # This node may lag behind the one that was told of a new permission.
            await self._callers.wait_newest()
            actor = await self._callers.actor(request)
            self._store.auth.check_txn(actor, txn, self._store.leases)
        return actor

    async def _outcome(self, proposal: Proposal, actor: Actor | None) -> tuple[Applied, OperationResult]:
        """Wait for a guarded write: its result, or the key as it was read if the preconditions fail."""
        applied = await self._replicated.outcome(proposal)
        if isinstance(applied.result, Failed) and applied.result.failure in AUTH_FAILURES:
            if actor is None:
                raise CommandRefused(
                    "Authentication was enabled at this moment; the write is certainly not applied; retry"
                )
            raise AuthFailed(applied.result.failure)
        if not isinstance(applied.result, TxnResult):
            raise TypeError(f"the store refused a command of this app: {applied.result}")
        return applied, applied.result.results[0]

    def _written(self, applied: Applied, result: OperationResult | None = None) -> Response:
        headers = {"X-Raft-Index": str(applied.index), "X-Raft-Term": str(applied.term)}
        if isinstance(result, PutResult):
            headers["ETag"] = etag(result.key_value)
        return empty(HTTPStatus.NO_CONTENT, headers)

    def _precondition_failed(self, request: Request, record: KeyValue | None = None) -> Response:
        if record is None:
            return plain(HTTPStatus.PRECONDITION_FAILED, "The key does not exist")
        sentence = f"The key is at revision {record.mod_revision}{weak_hint(request.lines(b'if-match'))}"
        return plain(HTTPStatus.PRECONDITION_FAILED, sentence, {"ETag": etag(record)})


def added(node_id: bytes, url: bytes) -> ChangeRequest:
    """The change of raftexample's `POST /4 -d http://host:port`; raises MalformedRequest."""
    try:
        address = PeerAddress.parse(url.decode("latin-1").strip())
        return ChangeRequest((MemberChange(Action.ADD, parse_node_id(node_id.decode()), address),))
    except ConfigError as error:
        raise MalformedRequest(f"To add a node, send its peer URL as the content: {error}") from error


def removed(node_id: bytes) -> ChangeRequest:
    """The change of raftexample's `DELETE /3`; raises MalformedRequest."""
    try:
        return ChangeRequest((MemberChange(Action.REMOVE, parse_node_id(node_id.decode())),))
    except ConfigError as error:
        raise MalformedRequest(str(error)) from error
