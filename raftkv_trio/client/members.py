"""`raftkv-trio member`: see and change the members of a running cluster."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

from raftkv_trio.addresses import ClientAddress, PeerAddress
from raftkv_trio.client.login import Login
from raftkv_trio.client.rest import (
    NoAnswer,
    NobodyDid,
    NotANode,
    RequestFailed,
    RestClient,
    RestError,
    open_rest_client,
)
from raftkv_trio.client.text import aligned
from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.foreign_text import MAX_SENTENCE_CHARACTERS, printable
from raftkv_trio.tls.clients import Trust

_COLUMNS = ("ID", "KIND", "LEADS", "PROMOTE", "ANSWERS", "MATCH", "STATE", "PEER URL", "CLIENT URL")
_FIELDS = ("id", "role", "leads", "promote", "is_active", "match", "state", "url", "client_url")


class Members(NamedTuple):
    """The members as one node sees them: the leader, if the leader could be asked."""

    leader_id: int | None
    members: Sequence[Mapping[str, Any]]

    @property
    def leader(self) -> PeerAddress | None:
        """The address at which clients reach the leader; None if it is not known."""
        url = next((m["client_url"] for m in self.members if m["id"] == self.leader_id), None)
        try:
            return None if url is None else ClientAddress.parse(url, "client URL")
        except ConfigError:
            return None  # the leader announces a malformed URL: nobody can reach it there


class Forgotten(NamedTuple):
    """What became of the request to forget a node.

    Attributes:
        lines: one for each other member.
        failed: how many of these did not forget.
    """

    lines: Sequence[str]
    failed: int


class Cluster:
    """A running cluster, asked through the first of `endpoints` that answers."""

    def __init__(self, rest: RestClient, endpoints: Sequence[PeerAddress]) -> None:
        self._rest = rest
        self._endpoints = list(endpoints)

    async def members(self) -> Members:
        """The members, asked of the leader if possible: only the leader knows which members answer.

        Raises RaftKVError.
        """
        server, status = await self._ask("GET", "/-/status")
        leader_id = _leader_id(status)
        server, members = await self._ask("GET", "/-/members")
        seen = Members(leader_id, _checked(server, members))
        if seen.leader is None:
            return seen
        try:
            members = await self._rest.ask("GET", seen.leader, "/-/members")
        except RestError:
            return seen  # the view of another member: it lacks only what a leader knows of the others
        return Members(leader_id, _checked(seen.leader, members))

    async def why_inactive(self, seen: Members) -> Sequence[str]:
        """A line for each member that the leader finds inactive: what that member itself says is wrong.

        Members that nobody has met since they were added are left out.
        """
        lines = []
        for member in seen.members:
            if member["is_active"] is False and member["client_url"] is not None:
                try:
                    server = ClientAddress.parse(member["client_url"], "client URL")
                    status = await self._rest.ask("GET", server, "/-/status")
                except (RestError, ConfigError) as error:
                    lines.append(f"node {member['id']}: {error}")
                else:
                    health = status.get("health") if isinstance(status, dict) else None
                    lines.append(f"node {member['id']}: {health or 'acknowledges no new entries now'}")
        return [printable(line, MAX_SENTENCE_CHARACTERS) for line in lines]

    async def change(self, changes: Sequence[Mapping[str, Any]], *, is_forced: bool) -> None:
        """Make these changes together.

        Raises ConfigError if the cluster refuses them, RaftKVError for anything else. After cancellation the
        changes may still be made.
        """
        await self._ask("POST", f"/-/members{_query(is_forced)}", {"changes": list(changes)})

    async def dry_run(self, changes: Sequence[Mapping[str, Any]], *, is_forced: bool) -> str:
        """What these changes would do to the quorum. Changes nothing; raises as `change` would."""
        seen = await self._turn_to_leader()
        path = f"/-/members/dry-run{_query(is_forced)}"
        server, answer = await self._ask("POST", path, {"changes": list(changes)})
        if not isinstance(answer, dict) or "waits_for" not in answer:
            raise NotANode(server.url)
        waits_for = answer["waits_for"]
        return forecast(seen, changes) + (f"\nfirst     {printable(str(waits_for))}" if waits_for else "")

    async def forget(self, node_id: int) -> Forgotten:
        """Have all other members forget by which data directory they know a node.

        Raises ConfigError if the leader refuses it, which alone knows what that node has acknowledged; then
        nobody is asked to forget. RaftKVError if the leader cannot be asked.
        """
        seen, lines, failed = await self._turn_to_leader(), [], 0
        _, leaders_answer = await self._ask("POST", f"/-/members/{node_id}/forget")
        for member in seen.members:
            if member["id"] == node_id:
                continue
            name = f"node {member['id']}"
            if member["id"] == seen.leader_id:
                lines.append(f"{name}: {_forgot(leaders_answer, node_id)}")
                continue
            if member["client_url"] is None:
                lines.append(f"{name}: not asked, no member knows its client URL")
                failed += 1
                continue
            try:
                server = ClientAddress.parse(member["client_url"], "client URL")
                answer = await self._rest.ask("POST", server, f"/-/members/{node_id}/forget")
            except (RestError, ConfigError) as error:
                lines.append(f"{name}: {error}")
                failed += 1
            else:
                lines.append(f"{name}: {_forgot(answer, node_id)}")
        return Forgotten([printable(line) for line in lines], failed)

    async def transfer(self, to: int | None) -> int | None:
        """Transfer leadership to node `to`, or to another voter if None; raises as `change` does.

        Returns the node that leads then; None if by now an election is under way again.
        """
        await self._turn_to_leader()
        await self._ask("POST", "/-/leader", None if to is None else {"to": to})
        _, status = await self._ask("GET", "/-/status")
        return _leader_id(status)

    async def _turn_to_leader(self) -> Members:
        """Send all further requests to the leader; the members as it sees them. Raises RaftKVError."""
        seen = await self.members()
        if seen.leader is None:
            raise RaftKVError(why_no_leader(seen))
        self._endpoints = [seen.leader]
        return seen

    async def _ask(self, method: str, path: str, content: object = None) -> tuple[PeerAddress, Any]:
        """The first endpoint that answers, and its answer.

        The next endpoint is asked only if the one before certainly did nothing: otherwise a change could be
        made twice.
        """
        failures: list[RaftKVError] = []
        for endpoint in self._endpoints:
            try:
                return endpoint, await self._rest.ask(method, endpoint, path, content)
            except NoAnswer as error:
                if error.was_sent:
                    raise
                failures.append(error)
            except RequestFailed as error:
                if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                failures.append(error)
        raise NobodyDid(failures)


@asynccontextmanager
async def open_cluster(
    endpoints: Sequence[PeerAddress],
    timeout_s: float,
    trust: Trust | None = None,
    login: Login | None = None,
) -> AsyncIterator[Cluster]:
    """A cluster to ask inside the block; each request takes at most `timeout_s`."""
    async with open_rest_client(timeout_s, trust, login) as rest:
        yield Cluster(rest, endpoints)


def why_no_leader(seen: Members) -> str:
    """What to tell a user where `seen.leader` is None."""
    if seen.leader_id is None:
        return "no leader is known; see `raftkv-trio status` for the members that answer"
    leads = f"node {seen.leader_id} leads"
    url = next((m["client_url"] for m in seen.members if m["id"] == seen.leader_id), None)
    if url is None:
        return f"{leads}, but the member that was asked does not know its client URL; try again"
    return f"{leads}, and announces a malformed client URL: {printable(url)}"


def _leader_id(status: Any) -> int | None:
    leader_id = status.get("leader_id") if isinstance(status, dict) else None
    return leader_id if type(leader_id) is int else None


def _forgot(answer: Any, node_id: int) -> str:
    was_known = isinstance(answer, dict) and answer.get("was_known") is True
    return f"{'forgot' if was_known else 'did not know'} node {node_id}"


def _query(is_forced: bool) -> str:
    return "?force=true" if is_forced else ""


def is_member(value: Any) -> bool:
    """Whether this is an element of `/-/members`, by the fields that every command reads."""
    return (
        isinstance(value, dict)
        and type(value.get("id")) is int
        and all(isinstance(value.get(name), str) for name in ("url", "role"))
        and isinstance(value.get("client_url"), str | None)
    )


def trouble_with(member: Mapping[str, Any]) -> str | None:
    """Why the node that was asked has no connection to this member; None if it has one, or says nothing."""
    trouble = member.get("trouble")
    return trouble if isinstance(trouble, str) else None


def _checked(server: PeerAddress, members: Any) -> list[dict[str, Any]]:
    if not isinstance(members, list) or not all(
        is_member(m) and m.keys() >= {*_FIELDS} - {"leads"} for m in members
    ):
        raise NotANode(server.url)
    return members


# ---------------------------------------------------------------- what is shown


def table(seen: Members) -> str:
    """The members as lines of aligned columns; `-` if the leader alone knows it and could not be asked."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for member in seen.members:
        leads = None if seen.leader_id is None else member["id"] == seen.leader_id
        cells = {**member, "leads": leads}
        if member["role"] != "learner":
            cells["promote"] = None
        rows.append(tuple(_cell(cells[name]) for name in _FIELDS))
    return aligned(rows)


def as_json(seen: Members) -> str:
    """The members as a JSON array of objects, with all fields that the node sent."""
    return json.dumps([dict(member) for member in seen.members], indent=2)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def forecast(seen: Members, changes: Sequence[Mapping[str, Any]]) -> str:
    """What these changes would do to the quorum, counting the members that answer the leader now."""
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
                    active.add(node_id)  # only a learner that answers becomes a voter
                    lines.append("when it has caught up it becomes a voter:")
            case "promote":
                after.add(node_id)
            case "remove":
                after.discard(node_id)
    lines.append(f"voters    {_names(voters)} -> {_names(after)}")
    lines.append(f"quorum    {_quorum(voters)} of {len(voters)} -> {_quorum(after)} of {len(after)}")
    lines.append(f"failures  {_tolerated(voters)} -> {_tolerated(after)} tolerated")
    answering = after & active
    is_quorum = len(answering) >= _quorum(after)
    return "\n".join([*lines, f"answers   {_names(answering)}, which is {'a' if is_quorum else 'no'} quorum"])


def _names(ids: set[int]) -> str:
    return ", ".join(map(str, sorted(ids))) or "none"


def _quorum(voters: set[int]) -> int:
    return len(voters) // 2 + 1


def _tolerated(voters: set[int]) -> int:
    return len(voters) - _quorum(voters)
