"""The root API, as raftexample has it: the request target as sent is the key, options are headers only."""

import re

import trio
from quart import Request
from quart_trio.wrappers import TrioResponse as Response

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import MalformedRequest, NoLeader, RaftKVError, TooLarge
from raftkv_trio.kv import Compare, Delete, KeyValue, Put, Store, Txn, TxnResult, encode_txn
from raftkv_trio.node import Node
from raftkv_trio.proposals import Applied
from raftkv_trio.rest.problems import retry_headers, status_of

_ETAG = re.compile(r'\s*(?:W/)?"([0-9]{1,18})"\s*')
_NODE_PATH = re.compile(rb"/[1-9][0-9]*")
_MAX_STALE = re.compile(r"(?:^|,)\s*max-stale=([0-9]{1,9})\s*(?:,|$)", re.IGNORECASE)
_LATER = "changes of membership come with a later version\n"


def text(body: str, status: int, **headers: str) -> Response:
    return Response(
        body,
        status=status,
        content_type="text/plain; charset=utf-8",
        headers={**retry_headers(status), **headers},
    )


def target_of(request: Request) -> bytes:
    """The request target in origin form, byte for byte (save a lone trailing `?`, which Hypercorn drops)."""
    path: bytes = request.scope["raw_path"]
    if not path.startswith(b"/"):  # absolute form, as to a proxy
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path


class KeyHandlers:
    """Requests on keys, against one node and its store."""

    def __init__(self, node: Node, store: Store, config: RestConfig) -> None:
        self._node = node
        self._store = store
        self._config = config

    async def handle(self, request: Request) -> Response:
        """Answer any request outside `/-/`; every error of ours becomes its status."""
        key = target_of(request)
        try:
            if request.method in ("GET", "HEAD"):
                return await self._get(request, key)
            if request.method == "PUT":
                return await self._put(request, key)
            if request.method == "DELETE":
                return await self._delete(request, key)
        except RaftKVError as error:
            return text(f"{error}\n", status_of(error))
        if request.method == "POST":
            return text(_LATER, 501) if _NODE_PATH.fullmatch(key) else text("Failed on POST\n", 400)
        return text("Method not allowed\n", 405, Allow="GET, HEAD, PUT, POST, DELETE")

    async def _get(self, request: Request, key: bytes) -> Response:
        if not self._may_be_stale(request):
            with trio.move_on_after(self._config.request_timeout_s) as deadline:
                await self._node.wait_readable()
            if deadline.cancelled_caught:
                raise NoLeader(self._node.status().health or "the read was not confirmed by a quorum in time")
        found = self._store.get(key)
        if found is None:
            return text("Failed to GET\n", 404)
        headers = self._headers(found)
        wanted = request.headers.get("If-None-Match")
        if wanted is not None and (wanted.strip() == "*" or found.mod_revision in _revisions(wanted)):
            return Response(status=304, headers=headers)
        return Response(found.value, status=200, content_type="application/octet-stream", headers=headers)

    def _may_be_stale(self, request: Request) -> bool:
        allowed = _MAX_STALE.search(request.headers.get("Cache-Control", ""))
        age_s = self._node.status().leader_contact_age_s
        return allowed is not None and age_s is not None and age_s <= int(allowed[1])

    async def _put(self, request: Request, key: bytes) -> Response:
        if (request.content_length or 0) > self._config.max_value_bytes:
            raise TooLarge(f"a value may have {self._config.max_value_bytes} bytes at most")
        value = await request.body
        applied, result = await self._run(Txn(_conditions(request, key), (Put(key, value),)))
        if not result.succeeded:
            return self._precondition_failed(result)
        return self._written(applied, result)

    async def _delete(self, request: Request, key: bytes) -> Response:
        conditions = _conditions(request, key)
        exists = Compare(key, "version", ">", 0)
        applied, result = await self._run(Txn((*conditions, exists), (Delete(key),)))
        if result.deleted:
            return self._written(applied, result)
        if conditions:
            return self._precondition_failed(result)
        if _NODE_PATH.fullmatch(key):
            return text(_LATER, 501)
        return text("Failed to DELETE\n", 404)

    async def _run(self, txn: Txn) -> tuple[Applied, TxnResult]:
        proposal = self._node.submit(encode_txn(txn))
        with trio.move_on_after(self._config.request_timeout_s):
            applied = await proposal.wait()
            if not isinstance(applied.result, TxnResult):
                raise TypeError(f"the store answered {type(applied.result).__name__}")
            return applied, applied.result
        raise proposal.give_up()

    def _precondition_failed(self, result: TxnResult) -> Response:
        headers = {"ETag": f'"{result.current.mod_revision}"'} if result.current else {}
        return text("Precondition failed\n", 412, **headers)

    def _written(self, applied: Applied, result: TxnResult) -> Response:
        headers = {"X-Raft-Index": str(applied.index), "X-Raft-Term": str(applied.term)}
        if result.current is not None:
            headers["ETag"] = f'"{result.current.mod_revision}"'
        return Response(status=204, headers=headers)

    def _headers(self, found: KeyValue) -> dict[str, str]:
        status = self._node.status()
        return {
            "ETag": f'"{found.mod_revision}"',
            "X-Raft-Index": str(status.applied_index),
            "X-Raft-Term": str(status.term),
        }


def _conditions(request: Request, key: bytes) -> tuple[Compare, ...]:
    """If-Match and If-None-Match (RFC 9110, section 13.1) as compares of the log entry."""
    compares: list[Compare] = []
    if (match := request.headers.get("If-Match")) is not None:
        if match.strip() == "*":
            compares.append(Compare(key, "version", ">", 0))
        else:
            revisions = _revisions(match)
            if len(revisions) != 1:
                raise MalformedRequest("If-Match takes * or one entity tag here")
            compares.append(Compare(key, "mod", "=", revisions[0]))
    if (none_match := request.headers.get("If-None-Match")) is not None:
        if none_match.strip() == "*":
            compares.append(Compare(key, "version", "=", 0))
        else:
            compares.extend(Compare(key, "mod", "!", revision) for revision in _revisions(none_match))
    return tuple(compares)


def _revisions(header: str) -> list[int]:
    matches = [_ETAG.fullmatch(tag) for tag in header.split(",")]
    if not all(matches):
        raise MalformedRequest(f'{header[:60]!r} is no list of entity tags such as "17"')
    return [int(m[1]) for m in matches if m]
