"""`raftkv-trio status`: every member as it sees itself, as far as members answer.

The endpoints name the other members and the URLs at which clients reach them. Those are asked in turn, until
no answer names a new URL. An answer is not trusted: its form is checked before it is used, and no control
character reaches the terminal.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import trio

from raftkv_trio.addresses import ClientAddress, PeerAddress
from raftkv_trio.client.login import Login
from raftkv_trio.client.members import is_member, trouble_with
from raftkv_trio.client.rest import (
    NobodyDid,
    NotANode,
    RequestRefused,
    RestClient,
    RestError,
    answers_within,
    open_rest_client,
)
from raftkv_trio.client.text import aligned
from raftkv_trio.errors import ConfigError
from raftkv_trio.foreign_text import MAX_SENTENCE_CHARACTERS, printable
from raftkv_trio.tls.clients import Trust

_COLUMNS = ("ID", "ROLE", "TERM", "LEADER", "LAST", "COMMIT", "APPLIED", "LAG")
_LAST_COLUMNS = ("HEALTH", "CLIENT URL")
#: The longest health that stands in its column; of a longer one the whole stands below the table.
MAX_HEALTH_CHARACTERS = 80
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_NUMBERS = ("term", "last_index", "commit_index", "applied_index")
_LEVELS = ("feature_level", "highest_feature_level")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One member. The fields that only the member itself can tell are None if it does not answer.

    Attributes:
        url: at which its peers reach it; None if it does not tell.
        client_url: at which clients reach it; None if no member that answers knows.
        role: as `NodeStatus.role`, or `learner`.
        lag: committed entries that it has not applied, by the highest commit index that any member reports.
        health: `ok`, or a sentence.
        cluster_id: as certificates of nodes name the cluster.
        certificates: when its certificates end, as RFC 3339, by the setting that names the file; empty if it
            has none, or does not tell.
        feature_level: of the cluster, as of what the member has applied; None if it does not tell.
        highest_feature_level: the highest one that its program knows; None if it does not tell.
        withheld: why it does not tell who the other members are; None if it does.
    """

    id: int
    url: str | None
    client_url: str | None
    role: str | None = None
    term: int | None = None
    leader_id: int | None = None
    last_index: int | None = None
    commit_index: int | None = None
    applied_index: int | None = None
    lag: int | None = None
    health: str
    cluster_id: str | None = None
    certificates: Mapping[str, str] = field(default_factory=dict)
    feature_level: int | None = None
    highest_feature_level: int | None = None
    withheld: str | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    url: str
    status: Mapping[str, Any]
    members: Sequence[Mapping[str, Any]]
    withheld: str | None = None  # why it tells of no member but itself


async def survey(
    endpoints: Iterable[PeerAddress],
    timeout_s: float,
    trust: Trust | None = None,
    login: Login | None = None,
) -> list[Report]:
    """Ask the endpoints, and all members that they name, each for at most `timeout_s`; reports by member id.

    Raises RaftKVError if no member answers, ConfigError if the endpoints belong to several clusters.
    Cancellation leaves nothing behind.
    """
    answers: dict[int, _Answer] = {}
    failures: dict[str, RestError | ConfigError] = {}
    client_urls: dict[int, str] = {}

    async def ask(rest: RestClient, url: str) -> None:
        try:
            address = ClientAddress.parse(url, "client URL")
        except ConfigError as error:  # a member told a malformed URL
            failures[url] = error
            return
        try:
            answer = await _ask(rest, address)
        except RestError as error:
            failures[url] = error
            return
        answers.setdefault(answer.status["id"], answer)
        for member in answer.members:
            if member["client_url"] is not None:
                client_urls.setdefault(member["id"], member["client_url"])

    asked: set[str] = set()
    to_ask = {address.url for address in endpoints}
    async with open_rest_client(timeout_s, trust, login) as rest:
        while to_ask:
            async with trio.open_nursery() as nursery:
                for url in to_ask:
                    nursery.start_soon(ask, rest, url)
            asked |= to_ask
            to_ask = {url for node_id, url in client_urls.items() if node_id not in answers} - asked
    if not answers:
        raise NobodyDid([failures[url] for url in sorted(failures)])
    clusters = {answer.status["cluster_id"]: answer.url for answer in answers.values()}
    if len(clusters) > 1:
        raise ConfigError(f"{' and '.join(sorted(clusters.values()))} are of different clusters")
    return _reports(answers, client_urls, failures)


def table(reports: Sequence[Report]) -> str:
    """The reports as lines of columns, with a header; below it each health that is too long for a column.

    Below that stands the cluster's feature level if a member's program knows a higher one. If a member has
    certificates, there is a column with the day on which the first one of each ends.
    """
    has_ends = any(report.certificates for report in reports)
    ends = ("CERTS END",) if has_ends else ()
    rows = [(*_COLUMNS, *ends, *_LAST_COLUMNS)]
    for report in reports:
        values = (
            report.id,
            report.role,
            report.term,
            report.leader_id,
            report.last_index,
            report.commit_index,
            report.applied_index,
            report.lag,
            *((_first_end(report),) if has_ends else ()),
            printable(report.health, MAX_HEALTH_CHARACTERS),
            report.client_url,
        )
        rows.append(tuple("-" if value is None else str(value) for value in values))
    wholes = [
        f"node {report.id}: {printable(report.health, MAX_SENTENCE_CHARACTERS)}"
        for report in reports
        if printable(report.health, MAX_HEALTH_CHARACTERS) != printable(report.health)
    ]
    withheld = [f"other members may be missing: {r.withheld}" for r in reports if r.withheld is not None]
    return "\n".join([aligned(rows), *wholes, *withheld[:1], *_level_to_come(reports)])


def _level_to_come(reports: Sequence[Report]) -> list[str]:
    """A sentence if not all members have the highest feature level that any of them knows."""
    # Of those that answer, if any does: one of another version may tell none.
    level = min([r.feature_level or 1 for r in reports if r.role is not None], default=1)
    highest = max([r.highest_feature_level or 1 for r in reports])
    if level >= highest:
        return []
    waits_for = [str(r.id) for r in reports if (r.highest_feature_level or 1) < highest]
    until = f"; upgrade node {', '.join(waits_for)}, or see that it runs" if waits_for else ""
    return [f"feature level {level}, and {highest} as soon as all members run and know it{until}"]


def _first_end(report: Report) -> str | None:
    """The day on which the first one of a member's certificates ends."""
    return min(report.certificates.values(), default="").partition("T")[0] or None


def as_json(reports: Sequence[Report]) -> str:
    """The reports as a JSON array of objects, whose fields are those of `Report`."""
    return json.dumps([asdict(report) for report in reports], indent=2)


def _reports(
    answers: Mapping[int, _Answer],
    client_urls: Mapping[int, str],
    failures: Mapping[str, RestError | ConfigError],
) -> list[Report]:
    # The member that has applied most knows the newest configuration.
    newest = max(answers.values(), key=lambda answer: answer.status["applied_index"])
    commit = max(answer.status["commit_index"] for answer in answers.values())
    members, reports = newest.members, []
    if newest.withheld is not None:
        members = [own for node_id in sorted(answers) for own in answers[node_id].members[:1]]
    for member in members:
        node_id, url = member["id"], client_urls.get(member["id"])
        answer = answers.get(node_id)
        if answer is not None:
            status = answer.status
            follows_as_learner = member["role"] == "learner" and status["role"] == "follower"
            report = Report(
                id=node_id,
                url=member["url"],
                client_url=url or answer.url,
                role="learner" if follows_as_learner else status["role"],
                leader_id=status["leader_id"],
                lag=max(0, commit - status["applied_index"]),
                health=status["health"] or "ok",
                cluster_id=status["cluster_id"],
                certificates=status.get("certificates", {}),
                feature_level=status.get("feature_level"),
                highest_feature_level=status.get("highest_feature_level"),
                withheld=answer.withheld,
                **{name: status[name] for name in _NUMBERS},
            )
        else:
            health = f"unreachable: {_why_unreachable(url, failures) or _why_not_met(node_id, answers)}"
            report = Report(id=node_id, url=member["url"], client_url=url, health=health)
        reports.append(report)
    return reports


def _why_not_met(node_id: int, answers: Mapping[int, _Answer]) -> str:
    """What keeps members from a member whose client URL none of them knows; the leader's word comes first."""
    leaders_first = sorted(answers.items(), key=lambda answer: answer[1].status["role"] != "leader")
    for teller, answer in leaders_first:
        for member in answer.members:
            if member["id"] == node_id and (trouble := trouble_with(member)) is not None:
                return f"no member that answers has met it; node {teller} says: {trouble}"
    return "no member that answers has met it"


def _why_unreachable(url: str | None, failures: Mapping[str, RestError | ConfigError]) -> str | None:
    if url is None:
        return None
    if url not in failures:
        return "another node answers there"
    failure = failures[url]
    return failure.reason if isinstance(failure, RestError) else str(failure)


async def _ask(rest: RestClient, server: PeerAddress) -> _Answer:
    with answers_within(rest.timeout_s, server.url):
        status = await rest.ask("GET", server, "/-/status")
        try:
            members = await rest.ask("GET", server, "/-/members")
        except RequestRefused as refused:  # to whom it does not know, or who may not know it
            if not _is_status(status):
                raise NotANode(server.url) from refused
            own = {"id": status["id"], "url": None, "client_url": None, "role": "voter"}
            return _Answer(server.url, status, [own], refused.reason)
    if not _is_status(status) or not isinstance(members, list) or not all(map(is_member, members)):
        raise NotANode(server.url)
    return _Answer(server.url, status, members)


def _is_status(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(type(value.get(name)) is int for name in ("id", *_NUMBERS))
        and all(isinstance(value.get(name), str) for name in ("role", "cluster_id"))
        and isinstance(value.get("leader_id"), int | None)
        and isinstance(value.get("health"), str | None)
        and _are_ends(value.get("certificates", {}))  # members before 0.2 do not tell
        and all(type(value.get(name)) in (int, type(None)) for name in _LEVELS)  # nor older ones
    )


def _are_ends(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(time, str) and _TIME.fullmatch(time) for time in value.values()
    )
