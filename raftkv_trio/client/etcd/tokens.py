"""The token that shows who asks, and the next one when it is refused.

- A client with a user authenticates when its first call needs that, and keeps the token for all calls.
- Any number of calls wait for one authentication. It runs in the client's nursery: a call that is given up
  ends it for none of the others, and the last one ends it.
- A call whose token is refused is made again with the next token, once. If the others have fetched that
  meanwhile, it is not fetched again.
- If the cluster does not check users, nothing is shown. When it begins to, a call without a user is refused,
  and shows one the next time.
"""

from collections.abc import Awaitable, Callable

import trio

from raftkv_trio.client.etcd.connections import Connections
from raftkv_trio.client.etcd.outcomes import CallError, CallRefused, refuses_token
from raftkv_trio.errors import ProposalError
from raftkv_trio.grpc import Metadata

#: The name of gRPC's metadata under which etcd looks for a token.
TOKEN_FIELD = "token"
NOTHING: Metadata = {}


class Tokens:
    """The tokens of a client.

    Args:
        authenticate: asks for a token; returns what calls are to show then. None: there is no user.
        connections: are closed with the client.
        nursery: of the client.
    """

    def __init__(
        self,
        authenticate: Callable[[], Awaitable[Metadata]] | None,
        connections: Connections,
        nursery: trio.Nursery,
    ) -> None:
        self._authenticate = authenticate
        self._connections = connections
        self._nursery = nursery
        self._shown: Metadata | None = None if authenticate is not None else NOTHING
        self._round: _Round | None = None

    @property
    def has_user(self) -> bool:
        """Whether there is a user to show."""
        return self._authenticate is not None

    async def get(self) -> Metadata:
        """What a call is to show. Waits for it; has no checkpoint if it is known.

        Raises:
            NotAuthenticated: the server refuses the user.
            ClosedResourceError: the client is closed.
            ProposalError: the server cannot authenticate anybody.

        Cancellation leaves nothing behind.
        """
        while self._shown is None:
            await self._wait()
        return self._shown

    def drop(self, shown: Metadata) -> None:
        """Show this no more: a server has refused it. Of no effect if something else is shown by now."""
        if self._authenticate is not None and self._shown is shown:
            self._shown = None

    def forget(self) -> None:
        """Authenticate before the next call: the cluster may by now know the user, or check users."""
        if self._authenticate is not None:
            self._shown = None

    async def _wait(self) -> None:
        """Wait for the end of an authentication. Raises what it has raised."""
        if self._round is None:
            self._connections.check_open()
            self._round = _Round()
            self._nursery.start_soon(self._run, self._round)
        present = self._round
        present.waiting += 1
        try:
            await present.is_done.wait()
        finally:
            present.waiting -= 1
            if not present.waiting:
                present.scope.cancel()  # of no effect if it is done
                self._end(present)
        if present.error is not None:
            raise _own(present.error) from present.error

    async def _run(self, present: "_Round") -> None:
        assert self._authenticate is not None
        try:
            with present.scope:
                self._shown = await self._authenticate()
        except (ProposalError, trio.ClosedResourceError) as error:
            present.error = error
        finally:
            self._end(present)
            present.is_done.set()

    def _end(self, present: "_Round") -> None:
        if self._round is present:
            self._round = None


class _Round:
    """An authentication that is under way.

    Attributes:
        waiting: how many calls wait for it.
        is_done: set at its end.
        error: with which it has failed.
        scope: of its call.
    """

    __slots__ = ("error", "is_done", "scope", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.is_done = trio.Event()
        self.error: Exception | None = None
        self.scope = trio.CancelScope()


class Showing:
    """What one call shows of its user, over all its attempts."""

    __slots__ = ("_is_renewed", "_shown", "_tokens")

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens
        self._shown = NOTHING
        self._is_renewed = False

    async def get(self) -> Metadata:
        """The metadata for the next attempt. Raises, and leaves behind, what `Tokens.get` does."""
        if self._tokens is not None:
            self._shown = await self._tokens.get()
        return self._shown

    def is_renewed(self, error: CallError) -> bool:
        """Whether the error refuses what was shown, and the call is to be made again, with the next token."""
        if self._tokens is None or not self._tokens.has_user or self._is_renewed or not refuses_token(error):
            return False
        self._is_renewed = True
        self._tokens.drop(self._shown)
        return True


def _own(error: Exception) -> Exception:
    """An error of the same kind, for each task that is to raise it."""
    if isinstance(error, CallRefused):
        return type(error)(error.code, error.text, error.failure)
    return type(error)(*error.args)
