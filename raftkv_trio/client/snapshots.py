"""`raftkv-trio snapshot`: running members take a snapshot now."""

from collections.abc import Sequence

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.rest import NotANode, open_rest_client


async def take_snapshots(endpoints: Sequence[PeerAddress], timeout_s: float) -> list[str]:
    """Make each of these members take a snapshot, one after another; a line for each of its newest snapshot.

    Raises RestError for the first member that fails. A member goes on with its snapshot after cancellation.
    """
    lines = []
    async with open_rest_client(timeout_s) as rest:
        for endpoint in endpoints:
            match await rest.ask("POST", endpoint, "/-/snapshot"):
                case {"index": int(index), "term": int(term)}:
                    lines.append(f"{endpoint.url}: snapshot at index {index} of term {term}")
                case _:
                    raise NotANode(endpoint.url)
    return lines
