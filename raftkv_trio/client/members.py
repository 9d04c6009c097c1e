"""`raftkv-trio member`: the members of a running cluster, asked and changed over REST."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.rest import unanswered
from raftkv_trio.client.status import NOT_A_NODE, aligned, is_member
from raftkv_trio.errors import ConfigError, RaftKVError

_COLUMNS = ("ID", "ROLE", "PROMOTE", "ANSWERS", "MATCH", "STATE", "PEER URL", "CLIENT URL")
_FIELDS = ("id", "role", "promote", "is_active", "match", "state", "url", "client_url")


class Members(NamedTuple):
    """The members as one node sees them, the leader where it could be asked."""

    leader_id: int | None
    members: Sequence[Mapping[str, Any]]

    @property
    def leader_url(self) -> str | None:
        """Where clients reach the leader, as far as anybody knows."""
        return next((m["client_url"] for m in self.members if m["id"] == self.leader_id), None)


class Cluster:
    """A cluster, through whichever of these endpoints answers."""

    def __init__(self, client: httpx.AsyncClient, endpoints: Sequence[PeerAddress]) -> None:
        self._client = client
        self._endpoints = [endpoint.url for endpoint in endpoints]

    async def members(self) -> Members:
        """Who is a member, told by the leader if possible: it alone knows who answers. Raises RaftKVError."""
        status = await self._ask("GET", "/-/status")
        leader_id = status.get("leader_id") if isinstance(status, dict) else None
        seen = Members(leader_id, _checked(await self._ask("GET", "/-/members")))
        if seen.leader_url:
            try:
                told = (await self._client.get(f"{seen.leader_url}/-/members")).json()
            except (httpx.HTTPError, ValueError):
                return seen  # which is less, and still true
            return Members(leader_id, _checked(told))
        return seen

    async def change(self, changes: Sequence[Mapping[str, Any]], *, is_forced: bool) -> None:
        """Make these changes together; raises ConfigError where they are refused, RaftKVError otherwise."""
        force = "?force=true" if is_forced else ""
        await self._ask("POST", f"/-/members{force}", {"changes": list(changes)})

    async def dry_run(self, changes: Sequence[Mapping[str, Any]], *, is_forced: bool) -> str:
        """What these changes would do to the quorum; raises as `change` would, and makes none."""
        seen = await self._turn_to_leader()
        force = "?force=true" if is_forced else ""
        told = await self._ask("POST", f"/-/members/dry-run{force}", {"changes": list(changes)})
        if not isinstance(told, dict) or "waits_for" not in told:
            raise RaftKVError(NOT_A_NODE)
        waits_for = told["waits_for"]
        return forecast(seen, changes) + (f"\nfirst     {waits_for}" if waits_for else "")

    async def transfer(self, to: int | None) -> None:
        """Have another voter lead, or this one; raises as `change` does."""
        await self._turn_to_leader()
        await self._ask("POST", "/-/leader", None if to is None else {"to": to})

    async def _turn_to_leader(self) -> Members:
        """Ask the leader alone from here on; the members as it sees them. Raises RaftKVError."""
        seen = await self.members()
        if not seen.leader_url:
            raise RaftKVError("no leader is known, or nobody knows where clients reach it; try again later")
        self._endpoints = [seen.leader_url]
        return seen

    async def _ask(self, method: str, path: str, content: object = None) -> Any:
        """The first answer; what one node may have done is not sent to another, which could do it twice."""
        troubles = []
        for endpoint in self._endpoints:
            try:
                answer = await self._client.request(method, endpoint + path, json=content)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                troubles.append(unanswered(endpoint, error))
            except httpx.HTTPError as error:
                raise RaftKVError(unanswered(endpoint, error)) from error
            else:
                if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                    return _said(endpoint, answer)
                troubles.append(_detail(answer))
        raise RaftKVError("; ".join(troubles))


@asynccontextmanager
async def open_cluster(endpoints: Sequence[PeerAddress], timeout_s: float) -> AsyncIterator[Cluster]:
    """A cluster for as long as the context lasts."""
    async with httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
        yield Cluster(client, endpoints)


def _said(endpoint: str, answer: httpx.Response) -> Any:
    if answer.status_code == HTTPStatus.NO_CONTENT:
        return None
    try:
        said = answer.json()
    except ValueError as error:
        raise RaftKVError(f"{endpoint}: {NOT_A_NODE}") from error
    if answer.is_error:
        is_refusal = answer.is_client_error and answer.status_code != HTTPStatus.TOO_MANY_REQUESTS
        raise (ConfigError if is_refusal else RaftKVError)(_detail(answer))
    return said


def _detail(answer: httpx.Response) -> str:
    """What an error says of itself."""
    try:
        said = answer.json()
    except ValueError:
        said = None
    detail = said.get("detail") if isinstance(said, dict) else None
    return str(detail or answer.reason_phrase or answer.status_code)


def _checked(seen: Any) -> list[dict[str, Any]]:
    if not isinstance(seen, list) or not all(is_member(m) and m.keys() >= set(_FIELDS) for m in seen):
        raise RaftKVError(NOT_A_NODE)
    return seen


# ---------------------------------------------------------------- what is shown


def table(seen: Members) -> str:
    """The members as lines of columns; what only a leader could tell, and nobody did, is `-`."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for member in seen.members:
        cells = {**member, "role": "leader" if member["id"] == seen.leader_id else member["role"]}
        if member["role"] != "learner":
            cells["promote"] = None
        rows.append(tuple(_cell(cells[name]) for name in _FIELDS))
    return aligned(rows)


def as_json(seen: Members) -> str:
    return json.dumps([dict(member) for member in seen.members], indent=2)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def forecast(seen: Members, changes: Sequence[Mapping[str, Any]]) -> str:
    """What changes that are not refused do to the quorum, by those who answer the leader now."""
    voters = {m["id"] for m in seen.members if m["role"] != "learner"}
    active = {m["id"] for m in seen.members if m["is_active"]}
    after, lines = set(voters), []
    for change in changes:
        node_id = change["id"]
        match change["action"]:
            case "add":
                lines.append(f"node {node_id} becomes a learner, which counts in no quorum")
                if change.get("promote") != "manual":
                    after.add(node_id)
                    active.add(node_id)  # it does not become a voter before it answers
                    lines.append("when it has caught up it becomes a voter:")
            case "promote":
                after.add(node_id)
            case "remove":
                after.discard(node_id)
    lines.append(f"voters    {_names(voters)} -> {_names(after)}")
    lines.append(f"quorum    {_quorum(voters)} of {len(voters)} -> {_quorum(after)} of {len(after)}")
    lines.append(f"failures  {_tolerated(voters)} -> {_tolerated(after)} that it stands")
    answering = after & active
    is_quorum = len(answering) >= _quorum(after)
    return "\n".join([*lines, f"answers   {_names(answering)}, which is {'a' if is_quorum else 'no'} quorum"])


def _names(ids: set[int]) -> str:
    return ", ".join(map(str, sorted(ids))) or "none"


def _quorum(voters: set[int]) -> int:
    return len(voters) // 2 + 1


def _tolerated(voters: set[int]) -> int:
    return len(voters) - _quorum(voters)
