"""Text that comes from outside, and log lines that it causes: escaped, cut, and limited in number.

Whoever reaches a port of this node can make it say something. So each text of a peer, a client or a browser
goes through `printable` before it stands in a log line, in an error or in the output of a command; and lines
that others can cause at will go through a `LimitedLog`.
"""

import logging
from collections.abc import Callable
from typing import ClassVar

#: The most characters of one foreign text in a line.
MAX_CHARACTERS = 256
#: The most characters of a sentence that a node says to a command: it tells at its end what to do.
MAX_SENTENCE_CHARACTERS = 1000
_CUT = "..."
_REMEMBERED_SENTENCES = 16


def printable(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """`text` in at most `max_characters` visible characters; what forges or hides text is escaped."""
    shown = escaped(text[: max_characters + 1])  # cut first, since escaping takes time for each character
    return shown if len(shown) <= max_characters else shown[: max_characters - len(_CUT)] + _CUT


def escaped(text: str) -> str:
    """`text` at any length, with the same characters escaped: for a line of which a part is foreign."""
    # Python's own table has all of them: controls would forge lines or drive a terminal, as would separators
    # of lines and paragraphs; and with what changes the direction of text, or has no width, a line could be
    # read as another one.
    return text if text.isprintable() else "".join([c if c.isprintable() else repr(c)[1:-1] for c in text])


def in_a_line(sentence: str) -> str:
    """A sentence as it stands behind other words of a line: with a small letter, unless its word has others.

    So the first word of `HTTP/1.1 ...` and `If-Match ...` stays as it is.
    """
    word = sentence.partition(" ")[0]
    is_plain = word[1:].rstrip(",").islower() and word[1:].rstrip(",").isalpha()
    return sentence[:1].lower() + sentence[1:] if is_plain or word == "A" else sentence


class LimitedLog:
    """Warns of what others cause, in at most one line an interval: they must not fill the log.

    Args:
        logger: gets the lines.
        now: a monotonic clock, in seconds.
        beginning: of each line.
        repeat_interval_s: the same sentence is logged again no earlier; only the last few are remembered.
    """

    #: Lines that all of these have left out. The log is the process's, and so is this count.
    left_out: ClassVar[int] = 0

    def __init__(
        self,
        logger: logging.Logger,
        now: Callable[[], float],
        interval_s: float,
        beginning: str = "",
        *,
        repeat_interval_s: float = 0.0,
    ) -> None:
        self._logger = logger
        self._now = now
        self._interval_s = interval_s
        self._beginning = beginning
        self._quiet_until: float | None = None
        self._unlogged = 0
        self._repeat_interval_s = repeat_interval_s
        self._logged_at: dict[str, float] = {}  # by sentence, the latest last

    def note(self, sentence: str) -> bool:
        """Log this, or count it until the next line; returns whether it was logged."""
        now = self._now()
        logged_at = self._logged_at.get(sentence)
        is_repeated = logged_at is not None and now < logged_at + self._repeat_interval_s
        if is_repeated or (self._quiet_until is not None and now < self._quiet_until):
            self._unlogged += 1
            LimitedLog.left_out += 1
            return False
        more = f"; {self._unlogged} more since the last line" if self._unlogged else ""
        self._logger.warning("%s%s%s", self._beginning, sentence, more)
        self._quiet_until = now + self._interval_s
        self._unlogged = 0
        if self._repeat_interval_s:
            self._logged_at.pop(sentence, None)
            self._logged_at[sentence] = now
            if len(self._logged_at) > _REMEMBERED_SENTENCES:
                del self._logged_at[next(iter(self._logged_at))]
        return True
