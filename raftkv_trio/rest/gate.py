"""Who asks over REST, and whether they may."""

from collections.abc import Mapping
from http import HTTPStatus

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.credentials import Authenticator, Credentials, WrongPassword
from raftkv_trio.addresses import host_of
from raftkv_trio.http import Request
from raftkv_trio.kv import Access, Actor

#: Under `/-/`, what everybody may see: probes and monitoring have no users.
OPEN_PATHS = frozenset((b"/-/healthy", b"/-/ready", b"/-/metrics", b"/-/status"))


class Gate:
    """Knows the users of one server's REST API. It passes everybody while authentication is disabled."""

    def __init__(self, replicated: ReplicatedStore, authenticator: Authenticator) -> None:
        self._replicated = replicated
        self._authenticator = authenticator

    async def actor(self, request: Request) -> Actor | None:
        """Whom a request is from; None if it does not say so, or nobody is checked.

        Raises NotAuthenticated and ProposalError. Cancellation leaves nothing behind.
        """
        if not self._authenticator.is_needed:
            return None
        await request.will_wait()
        fields = request.lines(b"authorization")
        if len(fields) > 1:
            raise WrongPassword
        peer = request.peer
        credentials = Credentials(None, fields[0] if fields else None, peer.name, host_of(peer.address))
        return await self._authenticator.actor(credentials)

    def check_read(self, actor: Actor | None, key: bytes, range_end: bytes | None = None) -> None:
        """Raise AuthFailed unless the actor may read a range now."""
        self._replicated.store.auth.check_range(actor, Access.READ, key, range_end)

    async def check_root(self, actor: Actor | None) -> None:
        """Raise AuthFailed unless the actor has the role root, as far as this node knows, or a quorum."""
        self._replicated.store.auth.check_root(actor)
        if self._authenticator.is_needed and self._replicated.node.has_leader:
            await self._replicated.wait_readable()  # this node may not know yet that it is root no more
            self._replicated.store.auth.check_root(actor)

    async def check_operator(self, request: Request, path: bytes) -> None:
        """Raise AuthFailed or NotAuthenticated unless a request may do what it asks for under `/-/`."""
        is_open = path in OPEN_PATHS and request.method in ("GET", "HEAD")
        if self._authenticator.is_needed and not is_open and request.method != "OPTIONS":
            await self.check_root(await self.actor(request))


def challenge(status: int) -> Mapping[str, str]:
    """The field that an answer of this status must have: how to say who asks (RFC 9110, section 11.6.1)."""
    if status != HTTPStatus.UNAUTHORIZED:
        return {}
    return {"WWW-Authenticate": 'Basic realm="raftkv-trio", charset="UTF-8"'}
