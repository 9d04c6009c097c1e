"""What commands ask of running members over REST."""

from collections.abc import Sequence
from typing import Any

import httpx

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.status import NO_REST_API, NOT_A_NODE
from raftkv_trio.errors import RaftKVError
from raftkv_trio.world import reason_of


async def take_snapshots(endpoints: Sequence[PeerAddress], timeout_s: float) -> list[str]:
    """Have each of these take a snapshot; a line each on what is newest there then.

    Raises RaftKVError for the first that does not. Cancellation leaves the members to it.
    """
    lines = []
    async with httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
        for endpoint in endpoints:
            taken = await _post(client, endpoint, "/-/snapshot")
            lines.append(
                f"{endpoint.url}: snapshot at index {taken.get('index')} of term {taken.get('term')}"
            )
    return lines


async def _post(client: httpx.AsyncClient, endpoint: PeerAddress, path: str) -> dict[str, Any]:
    try:
        answer = await client.post(endpoint.url + path)
        said = answer.json()
    except httpx.HTTPError as error:
        raise RaftKVError(unanswered(endpoint.url, error)) from error
    except ValueError as error:
        raise RaftKVError(f"{endpoint.url}: {NOT_A_NODE}") from error
    if not isinstance(said, dict):
        raise RaftKVError(f"{endpoint.url}: {NOT_A_NODE}")
    if answer.is_error:
        raise RaftKVError(f"{endpoint.url}: {said.get('detail') or said.get('title')}")
    return said


def unanswered(url: str, error: httpx.HTTPError) -> str:
    """Why nothing of use came from there, in the words of `raftkv-trio status`."""
    if isinstance(error, httpx.TimeoutException):
        return f"{url} does not answer in time"
    if isinstance(error, httpx.RemoteProtocolError):
        return f"{url} does not answer: {NO_REST_API}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__  # what the system said, wrapped twice
    return f"{url} does not answer: {reason_of(cause or error)}"
