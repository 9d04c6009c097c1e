"""Which members get the load: the leader, whoever that is by now, or all members."""

from collections.abc import Mapping, Sequence

import trio

from raftkv_trio.addresses import ClientAddress, PeerAddress
from raftkv_trio.client.login import Login
from raftkv_trio.client.members import open_cluster, why_no_leader
from raftkv_trio.client.rest import RestClient, open_rest_client
from raftkv_trio.client.status import survey
from raftkv_trio.errors import ConfigError, RaftKVError
from raftkv_trio.tls.clients import Trust

#: How often the leader is asked whether it still leads: a leader that was deposed goes on answering, since it
#: forwards requests to the new one.
_LOOK_S = 1.0
#: Between two looks while clients have doubts.
_DOUBT_S = 0.1
#: The longest that a look waits for a member: the others know a new leader meanwhile.
_ANSWER_S = 1.0


class Targets:
    """The servers that clients load. Clients that meet trouble say so by `doubt`.

    Args:
        servers: the leader, or that and the other members; at least one.
        known: where members may be asked who leads.
        follows_leader: whether all clients go to another server when that leads.
        trust: which members are trusted that speak TLS.
        login: who asks.
        left_out: why a member gets no load though all members should, by its id.

    Attributes:
        follows_leader: whether the load goes to the leader alone.
        loaded: all servers that have got load, in the order of their turns; a former leader may come again.
    """

    def __init__(
        self,
        servers: Sequence[PeerAddress],
        known: Sequence[PeerAddress] = (),
        *,
        follows_leader: bool = False,
        trust: Trust | None = None,
        login: Login | None = None,
        left_out: Mapping[int, str] | None = None,
    ) -> None:
        self._servers = list(servers)
        self._known = [*known]
        self.follows_leader = follows_leader
        self._trust = trust
        self._login = login
        self._doubted = trio.Event()
        self.left_out = dict(left_out or {})
        self.loaded = list(servers)

    @property
    def leader(self) -> PeerAddress:
        """The server that leads, as far as it is known."""
        return self._servers[0]

    @property
    def leader_changes(self) -> int:
        """How often the load has gone to another server."""
        return len(self.loaded) - 1 if self.follows_leader else 0

    def server_of(self, client: int) -> PeerAddress:
        """The server of a client, by the number of the client."""
        return self._servers[client % len(self._servers)]

    def doubt(self) -> None:
        """Have it looked up now who leads: a server is away, or does not do what it is asked."""
        self._doubted.set()

    async def follow_leader(self) -> None:
        """Until it is cancelled, turn to each new leader. Returns at once if the load goes to all members.

        A leader that nobody knows is looked for again and again. Cancellation leaves nothing behind.
        """
        if not self.follows_leader:
            return
        async with open_rest_client(_ANSWER_S, self._trust, self._login) as rest:
            while True:
                with trio.move_on_after(_LOOK_S):
                    await self._doubted.wait()
                if not await self._still_leads(rest):
                    await self._turn_to_new_leader()
                if self._doubted.is_set():
                    self._doubted = trio.Event()
                    await trio.sleep(_DOUBT_S)

    async def _still_leads(self, rest: RestClient) -> bool:
        try:
            status = await rest.ask("GET", self.leader, "/-/status")
        except RaftKVError:
            return False
        return isinstance(status, dict) and status.get("role") == "leader"

    async def _turn_to_new_leader(self) -> None:
        try:
            reports = await survey(self._known, _ANSWER_S, self._trust, self._login)
        except RaftKVError:
            return  # nobody answers now; the next look may find one
        # A leader that is cut off goes on as one for a while: that of the highest term is the one.
        leaders = [r for r in reports if r.role == "leader" and r.client_url is not None]
        for report in sorted(leaders, key=lambda report: report.term or 0, reverse=True)[:1]:
            found = _parsed(report.client_url)
            if found is not None and found != self.leader:
                self._servers[0] = found
                self.loaded.append(found)


async def find_targets(
    endpoints: Sequence[PeerAddress],
    timeout_s: float,
    trust: Trust | None = None,
    login: Login | None = None,
    *,
    all_members: bool,
) -> Targets:
    """The leader, or every member that answers the leader; the leader comes first.

    Raises RaftKVError if no endpoint answers, or no member knows where the leader is.
    """
    async with open_cluster(endpoints, timeout_s, trust, login) as cluster:
        seen = await cluster.members()
    if seen.leader is None:
        raise RaftKVError(why_no_leader(seen))
    others, left_out = [], {}
    for member in seen.members:
        if member["client_url"] is None:
            left_out[member["id"]] = "no member has met it since they started; is it running?"
        elif (address := _parsed(member["client_url"])) is None:
            left_out[member["id"]] = "it announces a malformed client URL"
        elif member["is_active"] is False:  # None if the leader could not be asked
            left_out[member["id"]] = "it does not answer the leader"
        else:
            others.append(address)
    if all_members:
        return Targets(list(dict.fromkeys([seen.leader, *others])), left_out=left_out)
    known = [*dict.fromkeys([*endpoints, *others])]
    return Targets([seen.leader], known, follows_leader=True, trust=trust, login=login)


def _parsed(url: str | None) -> ClientAddress | None:
    try:
        return None if url is None else ClientAddress.parse(url, "client URL")
    except ConfigError:
        return None
