"""`/-/members`: the cluster's members, and how to change them; `POST /4` and `DELETE /3` do the same."""

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from functools import partial

from quart import request
from quart_trio import QuartTrio

from raftkv_trio.access.waiting import wait_applied
from raftkv_trio.addresses import PeerAddress, parse_node_id
from raftkv_trio.config import RestConfig
from raftkv_trio.errors import ConfigError, MalformedRequest
from raftkv_trio.foreign_text import printable
from raftkv_trio.node.node import Node
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.rest.operators.documents import Response, document, read_json

_PROMOTIONS = {"auto": False, "manual": True}
_FORCE = {"": True, "1": True, "true": True, "0": False, "false": False}
_FIELDS = {
    Action.ADD: ("url", "promote"),
    Action.UPDATE: ("url",),
    Action.PROMOTE: (),
    Action.REMOVE: (),
}
_FORM = (
    'Name the changes as {"changes": [{"action": "add", "id": 4, "url": "http://host:port"}, ...]}; actions'
    " are add, remove, promote and update, and ids are numbers"
)
_OPTIONS = "; the query may be ?force=true, and POST /-/members/dry-run changes nothing"


def add_member_routes(app: QuartTrio, node: Node, config: RestConfig) -> None:
    """Add the routes under `/-/members` to `app`; a change is answered when it is applied."""

    @app.get("/-/members")
    async def members() -> Response:
        """List the members; what only a leader knows is null on other nodes."""
        return document([asdict(member) for member in node.members()])

    async def change(make: Callable[[], Awaitable[ChangeRequest]]) -> Response:
        applied = await wait_applied(node, node.change_members(await make()), config)
        seen = [asdict(member) for member in node.members()]
        return document({"index": applied.index, "term": applied.term, "members": seen})

    @app.post("/-/members")
    async def add() -> Response:
        """Add a learner, or make the named change, or several changes at once by joint consensus."""
        return await change(_request)

    @app.post("/-/members/dry-run")
    async def dry_run() -> Response:
        """Change nothing; say whether the leader would refuse the change, and what it would wait for."""
        return document({"waits_for": node.dry_run_change(await _request())})

    @app.delete("/-/members/<member_id>")
    async def remove(member_id: str) -> Response:
        """Remove a member; its process learns of the removal and ends."""
        return await change(partial(_request_about, member_id, "remove"))

    @app.post("/-/members/<member_id>/promote")
    async def promote(member_id: str) -> Response:
        """Make a learner that has caught up a voter."""
        return await change(partial(_request_about, member_id, "promote"))

    @app.post("/-/members/<member_id>/forget")
    async def forget(member_id: str) -> Response:
        """Forget by which data directory this node alone knows a member."""
        if request.args or await read_json("The content is no JSON object") is not None:
            raise MalformedRequest("Forgetting takes no query and no content")
        return document({"was_known": await node.forget_directory(_node_id(member_id))})

    @app.put("/-/members/<member_id>")
    async def update(member_id: str) -> Response:
        """Change the URL at which a member's peers reach it."""
        return await change(partial(_request_about, member_id, "update"))


async def _request() -> ChangeRequest:
    """The request in query and content: one change, or a list of changes. Raises MalformedRequest."""
    body = await read_json(otherwise := f"The content is no JSON object. {_FORM}")
    match body:
        case {"changes": listed, **more}:
            if more:
                raise MalformedRequest(f"The only field is changes, not {_quoted(more)}{_OPTIONS}")
            if not isinstance(listed, list) or not listed:
                raise MalformedRequest(_FORM)
        case dict():
            listed = [{"action": "add", **body}]
        case _:
            raise MalformedRequest(otherwise)
    return ChangeRequest(tuple([_change(item) for item in listed]), _is_forced())


async def _request_about(member_id: str, action: str) -> ChangeRequest:
    """One change, of the member in the path. Raises MalformedRequest."""
    node_id = _node_id(member_id)
    fields = await read_json(otherwise := "The content is no JSON object")
    if not isinstance(fields, dict | None):
        raise MalformedRequest(otherwise)
    if named := (fields or {}).keys() & {"action", "id"}:
        raise MalformedRequest(f"Method and path say it already; leave out {_quoted(named)}")
    return ChangeRequest((_change({**(fields or {}), "action": action, "id": node_id}),), _is_forced())


def _node_id(member_id: str) -> int:
    """The id in the path. Raises MalformedRequest."""
    try:
        return parse_node_id(member_id)
    except ConfigError as error:
        raise MalformedRequest(str(error)) from error


def _is_forced() -> bool:
    """Whether the query has `force`. Raises MalformedRequest if it has anything else."""
    asked = request.args.to_dict(flat=False)
    values = asked.pop("force", ["false"])
    if asked:
        raise MalformedRequest(f"Unknown query parameter {_quoted(asked)}{_OPTIONS}")
    if len(values) > 1 or (force := values[0].lower()) not in _FORCE:
        raise MalformedRequest("force is true or false")
    return _FORCE[force]


def _change(value: object) -> MemberChange:
    """One change, from its JSON. Raises MalformedRequest."""
    match value:
        case {"action": str(name), "id": int(node_id), **more} if (
            name.upper() in Action.__members__ and type(node_id) is int
        ):
            action = Action[name.upper()]
        case _:
            raise MalformedRequest(_FORM)
    fields = _FIELDS[action]
    if unknown := more.keys() - fields:
        takes = " and ".join(("id", *fields))
        raise MalformedRequest(f"To {name} a member takes {takes}, and no {_quoted(unknown)}{_OPTIONS}")
    promote = more.get("promote", "auto")
    if not isinstance(promote, str) or promote not in _PROMOTIONS:
        raise MalformedRequest("promote is auto or manual")
    url = more.get("url")
    if "url" in fields and not isinstance(url, str):
        raise MalformedRequest(f'To {name} a member takes its peer URL: "url": "http://host:port"')
    try:
        address = PeerAddress.parse(url) if isinstance(url, str) else None
        return MemberChange(action, parse_node_id(str(node_id)), address, _PROMOTIONS[promote])
    except ConfigError as error:
        raise MalformedRequest(str(error)) from error


def _quoted(names: Iterable[object]) -> str:
    return printable(", ".join(json.dumps(name) for name in sorted(map(str, names))))
