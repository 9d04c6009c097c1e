"""Records of passwords: made and checked with scrypt (RFC 7914).

- One check takes some 60 ms of one core, and 16 MiB. It happens in a thread, one at a time, so that neither
  heartbeats nor other requests wait for it.
- A wrong password costs its host a turn (`pace.py`). A host without turns left is refused at once.
- After a wrong password the thread rests for three times as long as the check has taken: many hosts together
  keep a core busy for a quarter of the time at most.
- A password that was right is known for a while, by a digest with a key that this process has drawn. So a
  client that sends it with each request pays once.
- A user who does not exist, or has no password, takes as long as one who has another password.

A record is `$1$`, the parameters log2(n), r and p as three bytes, 16 bytes of salt, and 32 bytes of hash. So
parameters may be raised later, and old records stay good.
"""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b, scrypt
from typing import NamedTuple, TypeVar

import trio

from raftkv_trio.access.credentials.fair_turns import FairTurns
from raftkv_trio.errors import Overloaded
from raftkv_trio.pace import Paces
from raftkv_trio.world import Clock, TrioClock

T = TypeVar("T")
_MARK = b"$1$"
#: n and r as in RFC 7914's second test vector: 16 MiB, which a node can afford beside its work.
_LOG_N, _R, _P = 14, 8, 1
_SALT_BYTES, _HASH_BYTES = 16, 32
_RECORD_BYTES = len(_MARK) + 3 + _SALT_BYTES + _HASH_BYTES
#: No record asks for more, whoever has written it.
_MAX_MEMORY_BYTES = 64 * 2**20
#: Longer ones are no passwords, and take time to hash.
MAX_PASSWORD_BYTES = 1024
#: Of checks that wait.
MAX_WAITING, MAX_WAITING_IN_ALL = 16, 128
#: Wrong passwords of one host: so many a second, and so many more at once.
WRONG_RATE, WRONG_BURST = 2, 10
#: How long the thread rests after a wrong password, in times of what the check has taken.
REST = 3
#: How long, and how many, passwords are known.
KNOWN_S, MAX_KNOWN = 300.0, 4096


class _Known(NamedTuple):
    record: bytes
    digest: bytes
    until_s: float


class Passwords:
    """Makes and checks records of passwords. All APIs of a server share one."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or TrioClock()
        self._turns = FairTurns(MAX_WAITING, MAX_WAITING_IN_ALL)
        self._thread = trio.CapacityLimiter(1)
        self._paces = Paces(self._clock, WRONG_RATE, WRONG_BURST, max_debt=WRONG_BURST)
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._rests_until_s = 0.0

    async def record_of(self, password: str, host: str) -> bytes:
        """A new record of a password.

        Raises Overloaded. Cancellation leaves nothing behind.
        """
        content = _encoded(password)
        async with self._turns.turn(host):
            return await self._in_thread(lambda: _new_record(content))

    def is_known(self, user: str, password: str, record: bytes | None) -> bool:
        """Whether this password was right a short time ago, and the record is still the same."""
        known = self._known.get(user)
        if known is None or record is None or known.record != record:
            return False
        if self._clock.now() >= known.until_s:
            del self._known[user]
            return False
        return hmac.compare_digest(known.digest, self._digest(password))

    async def is_right(self, user: str, password: str, record: bytes | None, host: str) -> bool:
        """Whether a record is of this password; None is of none.

        Raises Overloaded, and then nothing is known of the password. Cancellation leaves nothing behind.
        """
        if self.is_known(user, password, record):
            return True
        self.check_pace(host)
        content = _encoded(password)
        async with self._turns.turn(host):
            if self._clock.now() < self._rests_until_s:
                await self._clock.sleep_until(self._rests_until_s)
            self.check_pace(host)  # others may have been wrong meanwhile
            if self.is_known(user, password, record):
                return True
            began_s = self._clock.now()
            is_right = await self._in_thread(lambda: _is_of(content, record))
            if not is_right or record is None:
                now_s = self._clock.now()
                self._rests_until_s = now_s + REST * (now_s - began_s)
                self._paces.of(host).charge(1)
                return False
        self._known[user] = _Known(record, self._digest(password), self._clock.now() + KNOWN_S)
        self._known.move_to_end(user)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return True

    def check_pace(self, host: str) -> None:
        """Raise Overloaded if too many wrong passwords have come from a host."""
        if self._paces.of(host).is_spent:
            raise Overloaded("Too many wrong passwords came from this host; retry later")

    def _digest(self, password: str) -> bytes:
        return blake2b(password.encode("utf-8", "surrogateescape"), key=self._key).digest()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._thread)


def _encoded(password: str) -> bytes:
    content = password.encode("utf-8", "surrogateescape")
    # A digest keeps what is too long from taking longer.
    return content if len(content) <= MAX_PASSWORD_BYTES else blake2b(content).digest()


def _new_record(password: bytes) -> bytes:
    salt = secrets.token_bytes(_SALT_BYTES)
    return b"".join((_MARK, bytes((_LOG_N, _R, _P)), salt, _hash(password, salt, _LOG_N, _R, _P)))


def _hash(password: bytes, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    return scrypt(password, salt=salt, n=1 << log_n, r=r, p=p, maxmem=_MAX_MEMORY_BYTES, dklen=_HASH_BYTES)


def _is_of(password: bytes, record: bytes | None) -> bool:
    if record is None or len(record) != _RECORD_BYTES or not record.startswith(_MARK):
        _hash(password, bytes(_SALT_BYTES), _LOG_N, _R, _P)  # takes as long as any other
        return False
    log_n, r, p = record[3:6]
    salt, expected = record[6 : 6 + _SALT_BYTES], record[6 + _SALT_BYTES :]
    try:
        return hmac.compare_digest(_hash(password, salt, log_n, r, p), expected)
    except ValueError:  # parameters that this machine does not take
        return False
