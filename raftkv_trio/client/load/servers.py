"""Which members get the load."""

from collections.abc import Sequence

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.members import open_cluster
from raftkv_trio.errors import ConfigError, RaftKVError


async def find_servers(
    endpoints: Sequence[PeerAddress], timeout_s: float, *, all_members: bool
) -> list[PeerAddress]:
    """Where clients reach the leader, or every member that answers it; the leader comes first.

    Raises RaftKVError if no endpoint answers, or no member knows where the leader is.
    """
    async with open_cluster(endpoints, timeout_s) as cluster:
        seen = await cluster.members()
    if seen.leader is None:
        raise RaftKVError("no leader is known, or no member knows its client URL; try again later")
    others = []
    if all_members:
        for member in seen.members:
            # `is_active` is None if the leader could not be asked.
            if member["is_active"] is not False and member["client_url"] is not None:
                try:
                    others.append(PeerAddress.parse(member["client_url"], "client URL"))
                except ConfigError:
                    continue  # it announces a malformed URL: nobody can reach it there
    return list(dict.fromkeys([seen.leader, *others]))
