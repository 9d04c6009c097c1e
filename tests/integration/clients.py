"""Clients of a real cluster that record what they asked and what they were told."""

import random

import httpx

from raftkv_trio.testing import (
    ABSENT,
    History,
    RecordedOperation,
    RegisterAnswer,
    RegisterDelete,
    RegisterGet,
    RegisterPut,
    RegisterRequest,
    Seen,
)
from tests.integration.cluster import Cluster

RegisterHistory = History[RegisterRequest, RegisterAnswer]
RegisterOperation = RecordedOperation[RegisterRequest, RegisterAnswer]

KEYS = [f"/key-{number}" for number in range(8)]
_REFUSED = (429, 503, 507)


class Client:
    """One client: one request at a time, each through a node that it is told.

    `status` is that of the last response, None without a response.
    """

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        http: httpx.AsyncClient,
        history: RegisterHistory,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.status: int | None = None
        self._cluster = cluster
        self._http = http
        self._history = history
        self._rng = rng
        self._number = 0
        self._seen: dict[str, Seen] = {}  # what it last saw of a key, to put conditions on

    async def ask_anything(self, node_id: int) -> RegisterOperation:
        """Read, write or delete a random key that all clients share, at times under a condition."""
        key = self._rng.choice(KEYS)
        condition = self._seen.get(key, ABSENT) if self._rng.random() < 0.3 else None
        choices: list[RegisterRequest] = [
            RegisterGet(),
            RegisterPut(self._new_value(), condition),
            RegisterDelete(condition if condition and condition.present else None),
        ]
        request: RegisterRequest = self._rng.choices(choices, weights=[5, 5, 1])[0]
        return await self.ask(node_id, key, request)

    async def create(self, node_id: int) -> RegisterOperation:
        """Write a key that no other client writes, and this client only once."""
        value = self._new_value()
        return await self.ask(node_id, f"/{value.decode()}", RegisterPut(value))

    async def get(self, node_id: int, key: str) -> RegisterOperation:
        return await self.ask(node_id, key, RegisterGet())

    async def put(self, node_id: int, key: str) -> RegisterOperation:
        """Write a new value."""
        return await self.ask(node_id, key, RegisterPut(self._new_value()))

    async def ask(self, node_id: int, key: str, request: RegisterRequest) -> RegisterOperation:
        """Ask one node, and record how it ended."""
        operation = self._history.invoke(self.name, key, request)
        self.status = None
        try:
            response = await self._send(self._cluster.url(node_id, key), request)
        except httpx.ConnectError:
            self._history.fail(operation)  # it never left
        except httpx.TransportError:
            self._history.give_up(operation)
        else:
            self.status = response.status_code
            self._record(operation, key, response)
        return operation

    def _new_value(self) -> bytes:
        self._number += 1
        return f"{self.name}-{self._number}".encode()

    async def _send(self, url: str, request: RegisterRequest) -> httpx.Response:
        match request:
            case RegisterGet():
                return await self._http.get(url)
            case RegisterPut(value, expects):
                return await self._http.put(url, content=value, headers=_condition(expects))
            case RegisterDelete(expects):
                return await self._http.delete(url, headers=_condition(expects))

    def _record(self, operation: RegisterOperation, key: str, response: httpx.Response) -> None:
        status = response.status_code
        if status == 504:
            self._history.give_up(operation)
        elif status in _REFUSED:
            self._history.fail(operation)
        else:
            answer = _answer(operation.request, response)
            self._history.complete(operation, answer)
            self._seen[key] = _seen_after(operation.request, answer)


def _condition(expects: Seen | None) -> dict[str, str]:
    if expects is None:
        return {}
    return {"If-Match": f'"{expects.revision}"'} if expects.present else {"If-None-Match": "*"}


def _answer(request: RegisterRequest, response: httpx.Response) -> RegisterAnswer:
    revision = int(response.headers["ETag"].strip('"')) if "ETag" in response.headers else None
    match response.status_code, request:
        case 200, RegisterGet():
            return RegisterAnswer(seen=Seen(True, response.content, revision))
        case 404, RegisterGet() | RegisterDelete():
            expected_more = isinstance(request, RegisterDelete) and request.expects is not None
            return RegisterAnswer(applied=not expected_more, seen=ABSENT)
        case 204, RegisterPut():
            return RegisterAnswer(revision=revision)
        case 204, RegisterDelete():
            return RegisterAnswer(seen=Seen(True))
        case 412, RegisterPut() | RegisterDelete():
            return RegisterAnswer(
                applied=False, seen=ABSENT if revision is None else Seen(True, revision=revision)
            )
    raise AssertionError(f"{request} was answered {response.status_code}: {response.text}")


def _seen_after(request: RegisterRequest, answer: RegisterAnswer) -> Seen:
    if isinstance(request, RegisterPut) and answer.applied:
        return Seen(True, revision=answer.revision)
    if isinstance(request, RegisterDelete) and answer.applied:
        return ABSENT
    return ABSENT if answer.seen is None else answer.seen._replace(value=None)
