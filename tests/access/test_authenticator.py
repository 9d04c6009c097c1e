"""Whom a call is from, on a member that lags behind the users that there are."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.access.credentials import Authenticator, Credentials, NotAuthenticated
from raftkv_trio.config import RestConfig, WatchConfig
from raftkv_trio.kv import ROOT, AddUser, DisableAuth, EnableAuth, GrantRole, Store
from tests.rest.serving import open_server

SHOWN = (Credentials(certified="eve"), Credentials("nonsense"), Credentials(authorization="Basic ZXZlOng="))


class Lagging(ReplicatedStore):
    """Of a member that knows what has changed once it has asked the others."""

    learns: Callable[[Store], object] = staticmethod(bool)

    async def wait_readable(self) -> None:
        await super().wait_readable()
        self.learns(self.store)


@asynccontextmanager
async def open_lagging(directory: Path) -> AsyncIterator[Lagging]:
    """The store of a node that checks users."""
    async with open_server(directory) as served:
        lagging = Lagging(served.node, served.store, RestConfig(port=0), WatchConfig())
        await served.node.wait_readable()
        for command in (AddUser(ROOT, None), GrantRole(ROOT, ROOT), EnableAuth()):
            served.store.run_auth_command(command)
        yield lagging


@pytest.mark.parametrize("shown", SHOWN)
async def test_nobody_is_checked_once_that_is_known(tmp_path: Path, shown: Credentials) -> None:
    """Whatever is shown: it is refused on a member that knows the users, and not after they were disabled."""
    async with open_lagging(tmp_path) as lagging:
        with pytest.raises(NotAuthenticated):
            await Authenticator(lagging).actor(shown)
        lagging.learns = lambda store: store.run_auth_command(DisableAuth())
        assert await Authenticator(lagging).actor(shown) is None


async def test_a_certificate_of_a_new_user(tmp_path: Path) -> None:
    """It is known as soon as the user is."""
    async with open_lagging(tmp_path) as lagging:
        shown = Credentials(certified="eve")
        with pytest.raises(NotAuthenticated, match="that of eve, and there is no user of this name"):
            await Authenticator(lagging).actor(shown)
        lagging.learns = lambda store: store.run_auth_command(AddUser("eve", None))
        actor = await Authenticator(lagging).actor(shown)
        assert actor is not None
        assert actor.user == "eve"
