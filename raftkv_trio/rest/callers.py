"""Who asks: what a request shows of that, and the user that it proves."""

from collections.abc import Iterable

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.credentials import Authenticator, Credentials
from raftkv_trio.addresses import host_of
from raftkv_trio.errors import MalformedRequest, NoLeader
from raftkv_trio.http import Request
from raftkv_trio.kv import Actor
from raftkv_trio.tcp_stream import Peer


class Callers:
    """Finds out on whose behalf requests come; all routes of the REST API share one."""

    def __init__(self, replicated: ReplicatedStore, authenticator: Authenticator) -> None:
        self._replicated = replicated
        self._authenticator = authenticator

    async def wait_newest(self) -> None:
        """Wait until this node knows the users as of now: it may lag behind, and know none yet.

        Raises NoLeader. Cancellation leaves nothing behind.
        """
        try:
            await self._replicated.wait_readable()
        except NoLeader as error:
            raise NoLeader(f"{error}; certainly nothing was changed") from error

    async def actor(self, request: Request) -> Actor | None:
        """Whom a request is from; None if it shows nothing, or authentication is disabled here.

        When this returns, no restore is under way, so that what the user may do can be looked up.

        Raises NotAuthenticated, MalformedRequest, Overloaded, ProposalError. Cancellation leaves nothing
        behind.
        """
        if not self._authenticator.is_needed:
            return None
        return await self._proved(request.fields, request.peer)

    async def actor_of(self, fields: Iterable[tuple[bytes, bytes]], peer: Peer) -> Actor | None:
        """The same, of a request with these fields from this client."""
        if not self._authenticator.is_needed:
            return None
        return await self._proved(fields, peer)

    async def _proved(self, fields: Iterable[tuple[bytes, bytes]], peer: Peer) -> Actor | None:
        shown = [value.decode("latin-1") for name, value in fields if name == b"authorization"]
        if len(shown) > 1:
            raise MalformedRequest("Authorization comes in one line")
        credentials = Credentials(
            authorization=shown[0] if shown else None, certified=peer.name, host=host_of(peer.address)
        )
        return await self._authenticator.actor(credentials)
