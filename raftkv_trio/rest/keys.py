"""The root API, as raftexample has it: the request target as sent is the key, so options are fields only."""

import logging
import re
from typing import cast

import trio
from hypercorn.typing import HTTPScope
from quart.wrappers import Request
from werkzeug.exceptions import RequestEntityTooLarge

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import MalformedRequest, NoLeader, RaftKVError, TooLarge
from raftkv_trio.kv import (
    Delete,
    DeleteResult,
    GetResult,
    KeyValue,
    Operation,
    OperationResult,
    Put,
    PutResult,
    Store,
    TxnResult,
    encode_txn,
)
from raftkv_trio.node import Node
from raftkv_trio.proposals import Applied
from raftkv_trio.rest.preconditions import Preconditions, etag, parse_preconditions
from raftkv_trio.rest.problems import BUG, MEMBERSHIP_IS_FIXED, status_of
from raftkv_trio.rest.responses import Response, empty, octets, plain

logger = logging.getLogger(__name__)

METHODS = "DELETE, GET, HEAD, POST, PUT"
MAX_KEY_BYTES = 8 * 1024
_MEMBER_PATH = re.compile(rb"/[1-9][0-9]*")
_MAX_STALE = re.compile(r"(?:^|,)[ \t]*max-stale(?:=\"?([0-9]{1,9})\"?)?[ \t]*(?=,|$)", re.IGNORECASE)


class KeyHandlers:
    """Answers requests on keys, with one node and its store."""

    def __init__(self, node: Node, store: Store, config: RestConfig) -> None:
        self._node = node
        self._store = store
        self._config = config

    async def handle(self, request: Request, key: bytes | None) -> Response:
        """Answer any request outside `/-/`; `key` is None where the target is no origin or absolute form.

        Raises nothing of ours. Cancelled while a write is on its way, it gives the write up.
        """
        try:
            return await self._dispatch(request, key)
        except RequestEntityTooLarge:  # what `request.body` raises over MAX_CONTENT_LENGTH
            too_large = TooLarge(f"A value has at most {self._config.max_value_bytes} bytes")
            return self._refuse(too_large)
        except RaftKVError as error:
            return self._refuse(error)
        except Exception:
            logger.exception("%s of a key failed in a way that it should not", request.method)
            return plain(500, BUG)

    def _refuse(self, error: RaftKVError) -> Response:
        status = status_of(error)
        if status is None:
            logger.error("a request failed with an error that should not get here", exc_info=error)
            return plain(500, BUG)
        return plain(status, str(error))

    async def _dispatch(self, request: Request, key: bytes | None) -> Response:
        method = cast(HTTPScope, request.scope)[
            "method"
        ]  # as sent; Quart's is in upper case, whatever it was
        if method not in METHODS.split(", "):
            return plain(405, f"Keys know no {method[:20]}", {"Allow": METHODS})
        if key is None:
            raise MalformedRequest("The request target is neither a path nor an absolute URL with http")
        if len(key) > MAX_KEY_BYTES:
            return plain(414, f"A key has at most {MAX_KEY_BYTES} bytes")
        match method:
            case "PUT":
                return await self._put(request, key)
            case "DELETE":
                return await self._delete(request, key)
            case "POST" if _MEMBER_PATH.fullmatch(key):
                return plain(409, MEMBERSHIP_IS_FIXED)
            case "POST":
                return plain(400, "Failed on POST")
            case _:
                return await self._get(request, key)

    # ------------------------------------------------------------ reads

    async def _get(self, request: Request, key: bytes) -> Response:
        preconditions = parse_preconditions(request.headers.getlist)
        if not self._may_be_stale(request):
            await self._wait_readable()
        record = self._store.get(key)
        if record is None:
            return plain(404, "Failed to GET")
        if preconditions.if_match and not preconditions.if_match.match(record):
            return self._precondition_failed(record)
        headers = self._read_headers(record)
        if preconditions.if_none_match and preconditions.if_none_match.match(record):
            return empty(304, headers)
        return octets(record.value, headers)

    def _may_be_stale(self, request: Request) -> bool:
        """Whether `max-stale` (RFC 9111, section 5.2.1.2) allows to answer from what is applied here."""
        allowed = _MAX_STALE.search(request.headers.get("Cache-Control", ""))
        if allowed is None:
            return False
        age_s = self._node.status().leader_contact_age_s
        return allowed[1] is None or (age_s is not None and age_s <= int(allowed[1]))

    async def _wait_readable(self) -> None:
        with trio.move_on_after(self._config.request_timeout_s):
            await self._node.wait_readable()
            return
        raise NoLeader(self._node.status().health or "No quorum confirmed the read in time")

    def _read_headers(self, record: KeyValue) -> dict[str, str]:
        status = self._node.status()
        return {
            "ETag": etag(record),
            "X-Raft-Index": str(status.applied_index),
            "X-Raft-Term": str(status.term),
        }

    # ------------------------------------------------------------ writes

    async def _put(self, request: Request, key: bytes) -> Response:
        preconditions = parse_preconditions(request.headers.getlist)
        with trio.move_on_after(self._config.body_timeout_s) as body_deadline:
            value = await request.body
        if body_deadline.cancelled_caught:
            return plain(408, f"The value did not arrive within {self._config.body_timeout_s:g} s")
        applied, result = await self._write(preconditions, key, Put(key, value))
        if isinstance(result, GetResult):
            return self._precondition_failed(*result.key_values)
        return self._written(applied, result)

    async def _delete(self, request: Request, key: bytes) -> Response:
        preconditions = parse_preconditions(request.headers.getlist)
        if _MEMBER_PATH.fullmatch(key) and preconditions.if_match is None:
            return await self._remove_member(key)
        applied, result = await self._write(preconditions, key, Delete(key))
        if isinstance(result, GetResult) and result.key_values:
            return self._precondition_failed(*result.key_values)
        if isinstance(result, DeleteResult) and result.deleted:
            return self._written(applied, result)
        return plain(404, "Failed to DELETE")  # whatever the preconditions (RFC 9110, section 13.2.1)

    async def _remove_member(self, path: bytes) -> Response:
        """raftexample's `DELETE /3`; where there is a key of that name, it is not for us to guess."""
        await self._wait_readable()
        if self._store.get(path) is None:
            return plain(409, MEMBERSHIP_IS_FIXED)
        name = path.decode()
        return plain(
            409,
            f"There is a key {name}: DELETE /-/members{name} removes the node, and DELETE {name} with "
            "If-Match: * the key",
        )

    async def _write(
        self, preconditions: Preconditions, key: bytes, operation: Operation
    ) -> tuple[Applied, OperationResult]:
        """Propose `operation` under preconditions; its result, or what was read where they do not hold."""
        applied = await self._propose(encode_txn(preconditions.guard(key, operation)))
        if not isinstance(applied.result, TxnResult):
            raise TypeError(f"the store refused a command of this app: {applied.result}")
        return applied, applied.result.results[0]

    async def _propose(self, command: bytes) -> Applied:
        proposal = self._node.submit(command)
        try:
            with trio.move_on_after(self._config.request_timeout_s):
                return await proposal.wait()
        except trio.Cancelled:  # the client is gone, or we stop
            proposal.give_up()
            raise
        raise proposal.give_up()

    def _written(self, applied: Applied, result: OperationResult) -> Response:
        headers = {"X-Raft-Index": str(applied.index), "X-Raft-Term": str(applied.term)}
        if isinstance(result, PutResult):
            headers["ETag"] = etag(result.key_value)
        return empty(204, headers)

    def _precondition_failed(self, record: KeyValue | None = None) -> Response:
        if record is None:
            return plain(412, "The key does not exist")
        return plain(412, f"The key is at revision {record.mod_revision}", {"ETag": etag(record)})
