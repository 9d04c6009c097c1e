"""`raftkv-trio snapshot`: running members take a snapshot now."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.login import Login
from raftkv_trio.client.rest import (
    NoAnswer,
    NobodyDid,
    NotANode,
    RequestRefused,
    RestClient,
    RestError,
    open_rest_client,
)
from raftkv_trio.foreign_text import escaped
from raftkv_trio.tls.clients import Trust

#: How long nothing is said. Most snapshots take less; a large one, or a member that is paused, takes longer.
PATIENCE_S = 3.0
NOTHING_APPLIED = "it has applied nothing yet, so there is nothing to take a snapshot of"


class Taken(NamedTuple):
    """What became of the request to one member.

    Attributes:
        line: what is shown of it.
        failure: why the member took no snapshot; None if it did.
    """

    line: str
    failure: RestError | None


async def take_snapshots(
    endpoints: Sequence[PeerAddress],
    timeout_s: float,
    waits: Callable[[Sequence[PeerAddress]], None] = lambda slow: None,
    trust: Trust | None = None,
    login: Login | None = None,
) -> list[Taken]:
    """Make each of these members take a snapshot, all at once; what became of each, in their order.

    One that is down holds up none of the others: it may take all of the timeout to be noticed.

    Args:
        endpoints: the members.
        timeout_s: for each of them.
        waits: told once, after `PATIENCE_S`, which of them have not answered by then.

    Raises NobodyDid if all of them fail, and RequestRefused if all refuse for one reason. After cancellation
    members go on with their snapshots.
    """
    taken: dict[PeerAddress, Taken] = {}

    async def take(rest: RestClient, endpoint: PeerAddress) -> None:
        try:
            line = await _take(rest, endpoint)
        except RestError as error:
            what = "unreachable: " if isinstance(error, NoAnswer) else "failed: "
            taken[endpoint] = Taken(escaped(f"{endpoint.url}: {what}{error.reason}"), error)
        else:
            taken[endpoint] = Taken(line, None)

    async def tell_who_is_slow() -> None:
        await trio.sleep(PATIENCE_S)
        waits([endpoint for endpoint in endpoints if endpoint not in taken])

    async with open_rest_client(timeout_s, trust, login) as rest, trio.open_nursery() as watching:
        watching.start_soon(tell_who_is_slow)
        async with trio.open_nursery() as nursery:
            for endpoint in endpoints:
                nursery.start_soon(partial(take, rest, endpoint))
        watching.cancel_scope.cancel()
    outcomes = [taken[endpoint] for endpoint in endpoints]
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    if len(failures) == len(outcomes):
        if isinstance(failures[0], RequestRefused) and len({failure.reason for failure in failures}) == 1:
            raise failures[0]  # none of them is to blame, but the request
        raise NobodyDid(failures)
    return outcomes


async def _take(rest: RestClient, endpoint: PeerAddress) -> str:
    match await rest.ask("POST", endpoint, "/-/snapshot"):
        case {"index": 0}:
            raise RestError(endpoint.url, NOTHING_APPLIED, f"{endpoint.url}: {NOTHING_APPLIED}")
        case {"index": int(index), "term": int(term)}:
            return f"{endpoint.url}: snapshot at index {index} of term {term}"
    raise NotANode(endpoint.url)
