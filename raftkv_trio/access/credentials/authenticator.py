"""Whom a call is from: by a token, by name and password, or by the certificate of the connection."""

import base64
import binascii
import time
from collections.abc import Callable
from typing import NamedTuple

from raftkv_trio.access.credentials.errors import (
    NoSuchCertifiedUser,
    NotAuthenticated,
    SchemeRefused,
    TokenRefused,
    WrongPassword,
)
from raftkv_trio.access.credentials.passwords import Passwords
from raftkv_trio.access.credentials.tokens import Tokens
from raftkv_trio.access.replicated_store import ReplicatedStore
from raftkv_trio.config import DEFAULT_AUTH_TOKEN_TTL_S
from raftkv_trio.kv import ROOT, Actor, AuthFailed, Failure, User
from raftkv_trio.world import Clock


class Credentials(NamedTuple):
    """What a call carries.

    Attributes:
        token: as sent in the place that etcd's clients use for tokens.
        authorization: the field of HTTP: `Basic ...`, `Bearer TOKEN`, or a token alone, as etcd's gateway has
            it.
        certified: the common name of the client's certificate, which was verified.
        host: of the client.
    """

    token: str | None = None
    authorization: str | None = None
    certified: str | None = None
    host: str = ""

    def __repr__(self) -> str:
        """Without what must be in no text."""
        return f"Credentials(certified={self.certified!r}, host={self.host!r})"


class Authenticator:
    """Knows users by what they carry. All APIs of a server share one.

    Args:
        ttl_s: how long a token is good.
        wall: the time of day, in seconds.
    """

    def __init__(
        self,
        replicated: ReplicatedStore,
        ttl_s: float = DEFAULT_AUTH_TOKEN_TTL_S,
        clock: Clock | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._replicated = replicated
        self._node, self._store = replicated.node, replicated.store
        self.passwords = Passwords(clock)
        self._tokens = Tokens(self._node.cluster_id, ttl_s, wall)

    @property
    def is_needed(self) -> bool:
        """Whether it matters whom a call is from, or that is not known: a snapshot is being restored."""
        return self._node.is_restoring or self._store.auth.is_enabled

    async def actor(self, credentials: Credentials) -> Actor | None:
        """Whom a call is from; None if it is from nobody, or nobody is checked.

        When this returns, no restore is under way, so that what a user may do can be looked up at once.

        Raises NotAuthenticated if it carries something that proves nothing, and ProposalError. Cancellation
        leaves nothing behind.
        """
        await self._node.wait_restored()
        if not self._store.auth.is_enabled:
            return None
        try:
            actor = await self._proved(credentials)
        except NotAuthenticated:
            await self._node.wait_restored()
            if self._store.auth.is_enabled:
                raise
            return None  # users are checked no more, as this node has learnt meanwhile
        await self._node.wait_restored()
        return actor

    async def user(self, credentials: Credentials) -> Actor | None:
        """The same for a call that nobody but a user may make while users are checked.

        Raises AuthFailed too if it is from nobody: so that strangers, whom the store would refuse when their
        commands are applied, do not fill the log with them.
        """
        actor = await self.actor(credentials)
        if actor is None and self.is_needed:
            if self._node.has_leader:
                await self._replicated.wait_readable()  # users may be checked no more
            self._store.auth.check_user(actor)
        return actor

    async def prove_root(self, credentials: Credentials) -> Actor:
        """The same for who asks to enable authentication, and must be root before anybody is checked.

        Raises AuthFailed too: if there is no root, or it is not root who asks.
        """
        await self._replicated.wait_readable()
        auth = self._store.auth
        root = auth.users.get(ROOT)
        if root is None:
            raise AuthFailed(Failure.ROOT_USER_NOT_FOUND)
        if ROOT not in root.roles:
            raise AuthFailed(Failure.ROOT_ROLE_NOT_GRANTED)
        actor = await self._proved(credentials)
        if actor is None:
            raise AuthFailed(Failure.USER_EMPTY)
        user = self._store.auth.users.get(actor.user)
        if user is None or ROOT not in user.roles:
            raise AuthFailed(Failure.PERMISSION_DENIED)
        return actor

    async def token(self, name: str, password: str, host: str) -> str:
        """A token for a user.

        While authentication is disabled, only the user root gets one, and users with the role root: to enable
        it. etcdctl asks for the token before it gives root the role, and for none after that.

        Raises WrongPassword, AuthFailed and ProposalError. Cancellation leaves nothing behind.
        """
        await self._replicated.wait_readable()
        was_enabled = self._store.auth.is_enabled
        user = self._store.auth.users.get(name)
        if not was_enabled and (user is None or (name != ROOT and ROOT not in user.roles)):
            raise AuthFailed(Failure.AUTH_NOT_ENABLED)
        try:
            actor, record = await self._checked(name, password, host)
        except WrongPassword:
            if was_enabled:
                raise
            raise AuthFailed(Failure.AUTH_NOT_ENABLED) from None
        return self._tokens.make(actor, record)

    # ------------------------------------------------------------ proofs

    async def _proved(self, credentials: Credentials) -> Actor | None:
        if credentials.token is not None:
            return await self._by_token(credentials.token)
        if credentials.authorization is not None:
            return await self._by_field(credentials.authorization, credentials.host)
        if credentials.certified is not None:
            return await self._by_certificate(credentials.certified)
        return None

    async def _by_certificate(self, name: str) -> Actor:
        if name not in self._store.auth.users and self._node.has_leader:
            await self._replicated.wait_readable()  # this node may lag behind the one that has added the user
        auth = self._store.auth
        if name not in auth.users:
            raise NoSuchCertifiedUser(name)
        return Actor(name, auth.revision)

    async def _by_field(self, field: str, host: str) -> Actor:
        scheme, _, rest = field.partition(" ")
        match scheme.lower():
            case "basic":
                name, password = _basic(rest)
                return await self._by_password(name, password, host)
            case "bearer":
                return await self._by_token(rest.strip())
        if rest:
            raise SchemeRefused(scheme)
        return await self._by_token(field)

    async def _by_token(self, token: str) -> Actor:
        try:
            return self._tokens.actor_of(token, self._store.auth)
        except TokenRefused:
            if not self._node.has_leader:
                raise
        # This node may lag behind the one that has made the token.
        await self._replicated.wait_readable()
        return self._tokens.actor_of(token, self._store.auth)

    async def _by_password(self, name: str, password: str, host: str) -> Actor:
        auth = self._store.auth
        user = auth.users.get(name)
        if user is not None and self.passwords.is_known(name, password, user.password):
            return Actor(name, auth.revision)
        self.passwords.check_pace(host)  # before anybody else has work with it
        if self._node.has_leader:
            await self._replicated.wait_readable()
        actor, _ = await self._checked(name, password, host)
        return actor

    async def _checked(self, name: str, password: str, host: str) -> tuple[Actor, bytes]:
        """A user, and the record of the password, which was right. Raises WrongPassword and Overloaded."""
        auth = self._store.auth
        revision, user = auth.revision, auth.users.get(name)
        record = None if user is None else user.password
        is_right = await self.passwords.is_right(name, password, record, host)
        now: User | None = self._store.auth.users.get(name)
        if not is_right or record is None or now is None or now.password != record:
            raise WrongPassword
        # The revision is that of before: if the user was added anew meanwhile, it counts for the old one.
        return Actor(name, revision), record


def _basic(content: str) -> tuple[str, str]:
    """Name and password of RFC 7617. Raises WrongPassword if there are none."""
    try:
        decoded = base64.b64decode(content.strip(), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        raise WrongPassword from None
    name, colon, password = decoded.partition(":")
    if not colon:
        raise WrongPassword
    return name, password
