"""What the clients of a load ask, as bytes that are ready to be sent."""

import os
import random
from dataclasses import dataclass, field

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.client.login import Login
from raftkv_trio.config import MAX_MESSAGE_BYTES, RestConfig
from raftkv_trio.errors import ConfigError
from raftkv_trio.tls.clients import Trust

GET, PUT, MIXED = "get", "put", "mixed"
#: Where the keys of a load are; they stay in the store.
KEY_PREFIX = "/bench/"
MAX_DURATION_S = 86_400.0
#: A larger value has a send of its own: copying it behind the head of its request would take longer.
_COPIED_BYTES = 64 * 1024
#: Success, by operation; any other status is an error.
SUCCESS = {GET: 200, PUT: 204}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a run does.

    Attributes:
        operation: `get`, `put`, or `mixed` of both.
        clients: how many ask at the same time, each on a connection of its own.
        read_percent: of the requests of `mixed`, how many are GETs.
        timeout_s: the longest that a client waits for one response.
        trust: which servers are trusted, if they speak TLS.
        login: who asks, if the cluster checks users.

    Raises ConfigError for a load that no node could carry.
    """

    operation: str
    clients: int
    value_bytes: int
    keys: int
    duration_s: float
    read_percent: int
    timeout_s: float
    trust: Trust = field(default_factory=Trust)
    login: Login | None = None

    def __post_init__(self) -> None:
        if not 0 < self.duration_s <= MAX_DURATION_S:
            raise ConfigError(f"`duration_s` must be positive, and at most {MAX_DURATION_S:.0f} s")
        if self.value_bytes > MAX_MESSAGE_BYTES:
            raise ConfigError(
                f"`value_bytes` must be at most {MAX_MESSAGE_BYTES}; a node takes at most "
                f"{RestConfig().max_value_bytes} unless `max_value_bytes` allows more"
            )
        if not 0 <= self.read_percent <= 100:
            raise ConfigError("`read_percent` must be from 0 to 100")

    @property
    def operations(self) -> tuple[str, ...]:
        """The kinds of requests that are made."""
        return (GET, PUT) if self.operation == MIXED else (self.operation,)

    @property
    def reads(self) -> bool:
        """Whether keys are read, so that they must exist."""
        return self.operation != PUT

    def new_value(self) -> bytes:
        """Random bytes, which all requests of a run write: a server cannot tell them apart.

        They take time to make, so they are made before a run begins.
        """
        return os.urandom(self.value_bytes)


class Requests:
    """The requests to one server, each as the pieces that are sent one after the other.

    Args:
        value: what all of them write. A large one is not copied for each.
    """

    def __init__(self, load: Load, server: PeerAddress, value: bytes) -> None:
        fields = f"Host: {server.authority}\r\n"
        if load.login is not None and (server.is_tls or not load.login.needs_tls):
            fields += f"Authorization: {load.login.basic}\r\n"
        prefix, head = KEY_PREFIX.encode(), _doubled(fields.encode())
        self._get = b"GET %b%%d HTTP/1.1\r\n%b\r\n" % (prefix, head)
        self._put = b"PUT %b%%d HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (prefix, head, load.value_bytes)
        self._value = value
        self._keys = load.keys
        self._read_share = {GET: 1.0, PUT: 0.0, MIXED: load.read_percent / 100}[load.operation]

    def draw(self) -> tuple[str, tuple[bytes, ...]]:
        """An operation, and a request for it on a key drawn at random."""
        key = int(random.random() * self._keys)
        if random.random() < self._read_share:
            return GET, (self._get % key,)
        return PUT, self.put(key)

    def put(self, key: int) -> tuple[bytes, ...]:
        """The request that writes one key."""
        head = self._put % key
        return (head + self._value,) if len(self._value) <= _COPIED_BYTES else (head, self._value)


def _doubled(text: bytes) -> bytes:
    """Text for a template: the zone of an IPv6 address has a percent sign."""
    return text.replace(b"%", b"%%")
