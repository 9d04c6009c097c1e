"""When the certificates in use end: told to operators, and said in the log in time."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from raftkv_trio.logs import NAMES_FIELDS
from raftkv_trio.tls.contexts import Life
from raftkv_trio.tls.credentials import Credentials
from raftkv_trio.world import Clock

logger = logging.getLogger(__name__)

_DAY_S = 86400.0
WARNED_BEFORE_S = 30 * _DAY_S
#: The part of a certificate's life that is left when it is warned of, if that is less than the time above:
#: some are made for a day, and are renewed each day.
WARNED_PART = 1 / 3
WARN_EVERY_S = _DAY_S
LOOK_EVERY_S = 60.0


def ends_of(in_use: Sequence[Credentials]) -> Mapping[str, float]:
    """When the certificates in use end, in seconds since 1970, by the field that names their file."""
    return {life.field: life.not_after for credentials in in_use for life in credentials.contexts.lives}


@dataclass(frozen=True, slots=True)
class _Warning:
    life: Life
    is_over: bool
    said_at_s: float


class EndWarnings:
    """Warns in the log of certificates in use that end soon, or have ended.

    It warns of each at most once a day, and when it has ended; of one that has taken its place, at once.

    Args:
        in_use: those of this process; what a reload brings counts too.
        clock: measures the day.
        wall_now: seconds since 1970, by this machine's clock, which decides what is valid.
    """

    def __init__(
        self, in_use: Sequence[Credentials], clock: Clock, wall_now: Callable[[], float] = time.time
    ) -> None:
        self._in_use = in_use
        self._clock = clock
        self._wall_now = wall_now
        self._warnings: dict[str, _Warning] = {}

    async def keep_looking(self) -> NoReturn:
        """Look at once, and every minute, until cancelled."""
        while True:
            self.look()
            await self._clock.sleep_until(self._clock.now() + LOOK_EVERY_S)

    def look(self) -> None:
        """Warn of what has come due."""
        for credentials in self._in_use:
            for life in credentials.contexts.lives:
                self._look_at(life)

    def _look_at(self, life: Life) -> None:
        left_s = life.not_after - self._wall_now()
        if left_s > min(WARNED_BEFORE_S, WARNED_PART * (life.not_after - life.not_before)):
            return
        now_s, is_over, last = self._clock.real_now(), left_s <= 0, self._warnings.get(life.field)
        if (
            last is not None
            and (last.life, last.is_over) == (life, is_over)
            and now_s - last.said_at_s < WARN_EVERY_S
        ):
            return
        self._warnings[life.field] = _Warning(life, is_over, now_s)
        logger.warning(_sentence(life, left_s), extra=NAMES_FIELDS)


def as_text(seconds: float) -> str:
    """A time since 1970 as RFC 3339 has it, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _sentence(life: Life, left_s: float) -> str:
    what = f"`{life.field}` {life.path}"
    subject = what if life.is_own else f"a CA in {what}"
    when = as_text(life.not_after)
    if left_s <= 0:
        who = "nobody connects anew" if life.is_own else "what it has issued is refused"
        return f"{subject} has ended, at {when}: {who}; replace it"
    return f"{subject} ends {_in_words(left_s)}, at {when}; replace it before"


def _in_words(seconds: float) -> str:
    for unit, length_s in (("days", _DAY_S), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length_s:
            return f"in {seconds // length_s:.0f} {unit}"
    return "in less than 2 minutes"
