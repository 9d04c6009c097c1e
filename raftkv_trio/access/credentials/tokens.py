"""Tokens: who was authenticated, until when. JSON web tokens (RFC 7519), signed with HMAC-SHA256.

The key of a user's tokens is derived from the record of the password and the cluster's id. So every member
can check them, after a restart too, and nothing needs to be replicated for it. Another password, or another
user of the same name, ends them.
"""

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import jwt

from raftkv_trio.access.credentials.errors import TokenRefused
from raftkv_trio.kv import Actor, Auth

_ALGORITHM = "HS256"
#: Longer ones are not looked at.
MAX_TOKEN_BYTES = 4096
#: So many tokens are known to be good.
MAX_KNOWN = 4096


class _Known(NamedTuple):
    actor: Actor
    record: bytes
    until_s: float  # of the wall clock


class Tokens:
    """Makes and checks the tokens of one cluster.

    Args:
        ttl_s: how long a token is good.
        wall: the time of day, in seconds.
    """

    def __init__(self, cluster_id: int, ttl_s: float, wall: Callable[[], float] = time.time) -> None:
        self._cluster = f"{cluster_id:x}"
        self._ttl_s = ttl_s
        self._wall = wall
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def make(self, actor: Actor, record: bytes) -> str:
        """A token of a user with this record of a password."""
        claims = {
            "sub": actor.user,
            "rev": actor.revision,
            "aud": self._cluster,
            "exp": int(self._wall() + self._ttl_s),
        }
        return jwt.encode(claims, self._key(record), _ALGORITHM)

    def actor_of(self, token: str, auth: Auth) -> Actor:
        """Whom a token is of. Raises TokenRefused."""
        known = self._known.get(token)
        if known is None:
            known = self._check(token, auth)
            self._known[token] = known
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        user = auth.users.get(known.actor.user)
        if user is None or user.password != known.record or self._wall() >= known.until_s:
            del self._known[token]
            raise TokenRefused
        return known.actor

    def _check(self, token: str, auth: Auth) -> _Known:
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise TokenRefused
        try:
            # Only to find out whose key it is signed with; what it says counts after that is checked.
            named = jwt.decode(token, options={"verify_signature": False}).get("sub")
            user = auth.users.get(named) if isinstance(named, str) else None
            if user is None or user.password is None:
                raise TokenRefused
            claims = jwt.decode(
                token,
                self._key(user.password),
                algorithms=[_ALGORITHM],
                audience=self._cluster,
                options={"require": ["sub", "rev", "aud", "exp"], "verify_exp": False},
            )
        except (jwt.PyJWTError, RecursionError) as error:  # the second: PyJWT before 2.14, of lists in lists
            raise TokenRefused from error
        match claims:
            case {"sub": str(name), "rev": int(revision), "exp": int(until_s)}:
                return _Known(Actor(name, revision), user.password, until_s)
        raise TokenRefused

    def _key(self, record: bytes) -> bytes:
        return hmac.digest(record, f"raftkv-trio token {self._cluster}".encode(), "sha256")
