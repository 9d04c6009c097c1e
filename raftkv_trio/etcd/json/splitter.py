"""Where one JSON value ends and the next one begins, in content that arrives in parts.

Values need nothing between them. Whether a value is well formed is not asked here.
"""

import re

_MARKS = re.compile(rb'["\\{}\[\]]')
_MARKS_IN_STRING = re.compile(rb'["\\]')
_SPACES = re.compile(rb"[ \t\n\r]+")
_SIMPLE = re.compile(rb'[^ \t\n\r"{}\[\],:]+|.', re.DOTALL)


class Splitter:
    """Cuts content into values, in the order of arrival."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._at = 0  # up to here the marks of the value have been seen
        self._depth = 0
        self._is_in_string = False
        self._has_ended = False

    @property
    def held_bytes(self) -> int:
        """How much of values has arrived that were not taken yet."""
        return len(self._rest)

    def feed(self, part: bytes) -> None:
        """Take the content that has arrived next."""
        self._rest += part

    def end(self) -> None:
        """Take note that no more comes; what is left is a value, if only an incomplete one."""
        self._has_ended = True

    def next_value(self) -> bytes | None:
        """The next value; None if it is not complete yet, or there is none."""
        if self._at == 0:
            if spaces := _SPACES.match(self._rest):
                del self._rest[: spaces.end()]
            if not self._rest:
                return None
        end = self._end_of_value()
        if end is None:
            if not self._has_ended:
                return None
            end = len(self._rest)
        value = bytes(self._rest[:end])
        del self._rest[:end]
        self._at = self._depth = 0
        return value

    def _end_of_value(self) -> int | None:
        rest = self._rest
        if rest[0] not in b'{["':
            match = _SIMPLE.match(rest)
            return match.end() if match is not None and match.end() < len(rest) else None
        while True:
            mark = (_MARKS_IN_STRING if self._is_in_string else _MARKS).search(rest, self._at)
            if mark is None:
                self._at = max(self._at, len(rest))
                return None
            self._at = mark.end()
            match mark[0]:
                case b"\\":
                    self._at += 1  # whatever follows; it may not have arrived yet
                case b'"':
                    self._is_in_string = not self._is_in_string
                case b"{" | b"[":
                    self._depth += 1
                case _:
                    self._depth -= 1
            if self._depth <= 0 and not self._is_in_string:
                return min(self._at, len(rest))
