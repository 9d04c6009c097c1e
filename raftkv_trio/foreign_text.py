"""Text that comes from outside, and log lines that it causes: escaped, cut, and limited in number.

Whoever reaches a port of this node can make it say something. So each text of a peer, a client or a browser
goes through `printable` before it stands in a log line, in an error or in the output of a command; and lines
that others can cause at will go through a `LimitedLog`.
"""

import logging
from collections.abc import Callable

#: The most characters of one foreign text in a line.
MAX_CHARACTERS = 256
_CUT = "..."
# Control characters would forge lines or control a terminal, as would line and paragraph separators. What
# changes the direction of text, or has no width, would make a line read as another one.
_UNPRINTABLE = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0xAD,
    0x61C,
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xD800, 0xE000),  # surrogates cannot be encoded
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
)
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _UNPRINTABLE}


def printable(text: str) -> str:
    """`text` in at most `MAX_CHARACTERS` visible characters; what forges or hides text is escaped."""
    # Cut first: escaping takes time for each character.
    escaped = text[: MAX_CHARACTERS + 1].translate(_ESCAPES)
    return escaped if len(escaped) <= MAX_CHARACTERS else escaped[: MAX_CHARACTERS - len(_CUT)] + _CUT


def escaped(text: str) -> str:
    """`text` at any length, with the same characters escaped: for a line of which a part is foreign."""
    return text.translate(_ESCAPES)


class LimitedLog:
    """Warns of what others cause, in at most one line an interval: they must not fill the log.

    Args:
        logger: gets the lines.
        now: a monotonic clock, in seconds.
        beginning: of each line.
    """

    def __init__(
        self, logger: logging.Logger, now: Callable[[], float], interval_s: float, beginning: str = ""
    ) -> None:
        self._logger = logger
        self._now = now
        self._interval_s = interval_s
        self._beginning = beginning
        self._quiet_until: float | None = None
        self._unlogged = 0

    def note(self, sentence: str) -> None:
        """Log this, or count it until the next line."""
        now = self._now()
        if self._quiet_until is not None and now < self._quiet_until:
            self._unlogged += 1
            return
        more = f"; {self._unlogged} more since the last line" if self._unlogged else ""
        self._logger.warning("%s%s%s", self._beginning, sentence, more)
        self._quiet_until = now + self._interval_s
        self._unlogged = 0
