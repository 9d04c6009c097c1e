"""`/-/members`: the cluster's members, and changes of them; what curl sends to the root does the same."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from quart import request
from quart_trio import QuartTrio

from raftkv_trio.config import PeerAddress, RestConfig, parse_node_id
from raftkv_trio.errors import ConfigError, MalformedRequest, ProposalError
from raftkv_trio.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.node import Node
from raftkv_trio.rest.contents import read_json
from raftkv_trio.rest.problems import status_of
from raftkv_trio.rest.responses import Response, document, problem
from raftkv_trio.rest.waiting import wait_settled

_PROMOTIONS = {"auto": False, "manual": True}
_FIELDS = {
    Action.ADD: ("url", "promote"),
    Action.READDRESS: ("url",),
    Action.PROMOTE: (),
    Action.REMOVE: (),
}
_FORM = (
    'Name the changes as {"changes": [{"action": "add", "id": 4, "url": "http://host:port"}, ...]}; actions'
    " are add, remove, promote and readdress"
)


def added(node_id: bytes, url: bytes) -> ChangeRequest:
    """What raftexample's `POST /4 -d http://host:port` asks for; raises MalformedRequest."""
    try:
        address = PeerAddress.parse(url.decode("latin-1").strip())
        return ChangeRequest((MemberChange(Action.ADD, parse_node_id(node_id.decode()), address),))
    except ConfigError as error:
        raise MalformedRequest(f"To add a node, send its peer URL as the content: {error}") from error


def removed(node_id: bytes) -> ChangeRequest:
    """What raftexample's `DELETE /3` asks for; raises MalformedRequest."""
    try:
        return ChangeRequest((MemberChange(Action.REMOVE, parse_node_id(node_id.decode())),))
    except ConfigError as error:
        raise MalformedRequest(str(error)) from error


def add_member_routes(app: QuartTrio, node: Node, config: RestConfig) -> None:
    """Give `app` the routes under `/-/members`; a change's answer comes when it is applied."""

    @app.get("/-/members")
    async def members() -> Response:
        """The members of the configuration; some of it is null where this node does not lead."""
        return document([asdict(member) for member in node.members()])

    async def change(make: Callable[[], Awaitable[tuple[MemberChange, ...]]], is_forced: bool) -> Response:
        try:
            proposal = node.change_members(ChangeRequest(await make(), is_forced))
            applied = await wait_settled(proposal, config)
        except MalformedRequest as error:
            return problem(400, str(error))
        except ProposalError as error:
            return problem(status_of(error) or 500, str(error))
        seen = [asdict(member) for member in node.members()]
        return document({"index": applied.index, "term": applied.term, "members": seen})

    @app.post("/-/members")
    async def add() -> Response:
        """Add a learner, or make the change that is named; or several at once, by joint consensus."""
        return await change(_changes, _is_forced())

    @app.post("/-/members/dry-run")
    async def foresee() -> Response:
        """Change nothing, and say what the leader would: that it refuses, or what it would wait for."""
        try:
            return document({"waits_for": node.foresee(ChangeRequest(await _changes(), _is_forced()))})
        except MalformedRequest as error:
            return problem(400, str(error))
        except ProposalError as error:
            return problem(status_of(error) or 500, str(error))

    @app.delete("/-/members/<member_id>")
    async def remove(member_id: str) -> Response:
        """Remove a member; it learns it, and ends."""

        async def changes() -> tuple[MemberChange, ...]:
            return (_change({"action": "remove", "id": member_id}),)

        return await change(changes, _is_forced())

    @app.post("/-/members/<member_id>/promote")
    async def promote(member_id: str) -> Response:
        """Make a voter of a learner that has caught up."""

        async def changes() -> tuple[MemberChange, ...]:
            return (_change({"action": "promote", "id": member_id}),)

        return await change(changes, _is_forced())

    @app.put("/-/members/<member_id>")
    async def readdress(member_id: str) -> Response:
        """Change the URL at which a member's peers reach it."""

        async def changes() -> tuple[MemberChange, ...]:
            return (_change({"action": "readdress", "id": member_id, "url": (await _json()).get("url")}),)

        return await change(changes, _is_forced())


def _is_forced() -> bool:
    force = request.args.get("force", "false").lower()
    return force in ("", "1", "true")


async def _json() -> dict[str, Any]:
    otherwise = f"The content is no JSON object. {_FORM}"
    body = await read_json(otherwise)
    if not isinstance(body, dict):
        raise MalformedRequest(otherwise)
    return body


async def _changes() -> tuple[MemberChange, ...]:
    """The change that the content names, or all that it lists; raises MalformedRequest."""
    body = await _json()
    listed = body.get("changes")
    if listed is None:
        return (_change({"action": "add", **body}),)
    if not isinstance(listed, list) or not listed:
        raise MalformedRequest(_FORM)
    return tuple([_change(item) for item in listed])


def _change(value: object) -> MemberChange:
    """One change as JSON has it; raises MalformedRequest."""
    match value:
        case {"action": str(name), "id": (int() | str()) as node_id, **more} if (
            name.upper() in Action.__members__ and not isinstance(node_id, bool)
        ):
            action = Action[name.upper()]
        case _:
            raise MalformedRequest(_FORM)
    if more.keys() - _FIELDS[action]:
        raise MalformedRequest(f"To {name} a member takes {', '.join(('id', *_FIELDS[action]))}. {_FORM}")
    promote = str(more.get("promote", "auto"))
    if promote not in _PROMOTIONS:
        raise MalformedRequest("promote is auto or manual")
    try:
        address = PeerAddress.parse(str(more.get("url", ""))) if "url" in _FIELDS[action] else None
        return MemberChange(action, parse_node_id(str(node_id)), address, _PROMOTIONS[promote])
    except ConfigError as error:
        raise MalformedRequest(str(error)) from error
