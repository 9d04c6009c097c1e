"""`raftkv-trio status`: every member as it sees itself, asked over REST, however many of them answer.

Whoever is asked first names the members and where clients reach them, and then each of those is asked itself,
until nobody names an address that is new. What a member says is shown, not trusted: its form is checked, and
the table has nothing that could drive a terminal.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import h11
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.world import reason_of

MAX_ANSWER_BYTES = 1024 * 1024
NOT_A_NODE = "what answers there is no node of this version"
NO_REST_API = "no REST API of a node is there; is it the peer port?"
_COLUMNS = ("ID", "ROLE", "TERM", "LEADER", "LAST", "COMMIT", "APPLIED", "LAG", "HEALTH", "CLIENT URL")
_NUMBERS = ("term", "last_index", "commit_index", "applied_index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One member. What only it can say of itself is None where it did not answer.

    Attributes:
        url: where its peers reach it.
        client_url: where clients reach it; None where nobody who answered could say.
        role: as `NodeStatus.role`, or `learner`.
        lag: committed entries that it has not applied, by the highest commit index that anybody reports.
        health: `ok`, or a sentence.
    """

    id: int
    url: str
    client_url: str | None
    role: str | None = None
    term: int | None = None
    leader_id: int | None = None
    last_index: int | None = None
    commit_index: int | None = None
    applied_index: int | None = None
    lag: int | None = None
    health: str


class Unanswered(Exception):
    """Nothing of use came from an address; the text says why."""


@dataclass(frozen=True, slots=True)
class _Answer:
    url: str
    status: Mapping[str, Any]
    members: Sequence[Mapping[str, Any]]


async def survey(endpoints: Iterable[PeerAddress], timeout_s: float) -> list[Report]:
    """Ask these, and whoever they name, each for at most `timeout_s`; reports by member id.

    Raises RaftKVError where nobody answers, ConfigError where the endpoints are of several clusters.
    """
    answers: dict[int, _Answer] = {}
    failures: dict[str, str] = {}
    client_urls: dict[int, str] = {}

    async def ask(url: str) -> None:
        try:
            answer = await _ask(url, timeout_s)
        except Unanswered as unanswered:
            failures[url] = str(unanswered)
            return
        answers.setdefault(answer.status["id"], answer)
        for member in answer.members:
            if member["client_url"] is not None:
                client_urls.setdefault(member["id"], member["client_url"])

    asked: set[str] = set()
    to_ask = {address.url for address in endpoints}
    while to_ask:
        async with trio.open_nursery() as nursery:
            for url in to_ask:
                nursery.start_soon(ask, url)
        asked |= to_ask
        to_ask = {url for node_id, url in client_urls.items() if node_id not in answers} - asked
    if not answers:
        raise RaftKVError("; ".join(f"{url} does not answer: {failures[url]}" for url in sorted(failures)))
    clusters = {answer.status["cluster_id"]: answer.url for answer in answers.values()}
    if len(clusters) > 1:
        raise ConfigError(f"{' and '.join(sorted(clusters.values()))} are of different clusters")
    return _reports(answers, client_urls, failures)


def table(reports: Sequence[Report]) -> str:
    """The reports as lines of columns, with a header."""
    rows = [_COLUMNS] + [
        tuple(
            "-" if value is None else str(value)
            for value in (
                report.id,
                report.role,
                report.term,
                report.leader_id,
                report.last_index,
                report.commit_index,
                report.applied_index,
                report.lag,
                report.health,
                report.client_url,
            )
        )
        for report in reports
    ]
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of columns, without anything that could drive a terminal."""
    rows = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def as_json(reports: Sequence[Report]) -> str:
    """The reports as a JSON array of objects, whose fields are those of `Report`."""
    return json.dumps([asdict(report) for report in reports], indent=2)


def _reports(
    answers: Mapping[int, _Answer], client_urls: Mapping[int, str], failures: Mapping[str, str]
) -> list[Report]:
    # Who has applied most knows the newest configuration.
    newest = max(answers.values(), key=lambda answer: answer.status["applied_index"])
    commit = max(answer.status["commit_index"] for answer in answers.values())
    reports = []
    for member in newest.members:
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
                **{name: status[name] for name in _NUMBERS},
            )
        else:
            reason = "no member that answers has met it" if url is None else failures.get(url)
            health = f"unreachable: {reason or 'another node answers there'}"
            report = Report(id=node_id, url=member["url"], client_url=url, health=health)
        reports.append(report)
    return reports


async def _ask(url: str, timeout_s: float) -> _Answer:
    with trio.move_on_after(timeout_s):
        status = await _get(url, "/-/status")
        members = await _get(url, "/-/members")
        if not _is_status(status) or not isinstance(members, list) or not all(map(is_member, members)):
            raise Unanswered(NOT_A_NODE)
        return _Answer(url, status, members)
    raise Unanswered(f"nothing within {timeout_s:g} s")


async def _get(url: str, path: str) -> Any:
    try:
        address = PeerAddress.parse(url, "client URL")
        stream = await trio.open_tcp_stream(address.host, address.port)
        async with stream:
            return json.loads(await _exchange(stream, address, path))
    except ConfigError as error:
        raise Unanswered(str(error)) from error
    except (OSError, trio.BrokenResourceError) as error:
        raise Unanswered(reason_of(error)) from error
    except h11.RemoteProtocolError as error:
        raise Unanswered(NO_REST_API) from error
    except (ValueError, RecursionError) as error:
        raise Unanswered(NOT_A_NODE) from error


async def _exchange(stream: trio.abc.Stream, address: PeerAddress, path: str) -> bytes:
    connection = h11.Connection(h11.CLIENT)
    fields = [("Host", address.url.removeprefix("http://")), ("Connection", "close")]
    head = connection.send(h11.Request(method="GET", target=path, headers=fields))
    await stream.send_all((head or b"") + (connection.send(h11.EndOfMessage()) or b""))
    content = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(64 * 1024)))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            raise Unanswered(f"status {event.status_code}")
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > MAX_ANSWER_BYTES:
                raise Unanswered("an answer without end")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(content)


def _is_status(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(type(value.get(name)) is int for name in ("id", *_NUMBERS))
        and all(isinstance(value.get(name), str) for name in ("role", "cluster_id"))
        and isinstance(value.get("leader_id"), int | None)
        and isinstance(value.get("health"), str | None)
    )


def is_member(value: Any) -> bool:
    """Whether this is one of `/-/members`, as far as anybody here reads it."""
    return (
        isinstance(value, dict)
        and type(value.get("id")) is int
        and all(isinstance(value.get(name), str) for name in ("url", "role"))
        and isinstance(value.get("client_url"), str | None)
    )


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
