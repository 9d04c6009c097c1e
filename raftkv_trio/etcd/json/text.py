"""JSON to values, with what Go's parser takes and refuses, which Python's sees otherwise in a few points.

- What follows the first value is ignored. Of two members with one name the later counts.
- Bytes that are not UTF-8, and lone surrogates, may stand in strings; U+FFFD takes their place.
- Numbers may have any length, and `NaN` and `Infinity` are none.
- Numbers and names of enums in quotes are taken as they stand: an escape makes them others. So a string with
  an escape has the type `Escaped`. Only a small text is read so exactly; it takes a slower scanner.
"""

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves them out
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

from raftkv_trio.errors import MalformedRequest

#: The most for which the slower scanner reads a text with escapes: it takes about a microsecond a value.
EXACT_CHARACTERS = 4 * 1024
_SPACES = " \t\n\r"
_NO_CHARACTER = re.compile("[\ud800-\udfff]")


class Escaped(str):
    """A string that was written with an escape."""

    __slots__ = ()


class NegativeZero(int):
    """`-0`, which is a number with a sign."""

    __slots__ = ()


def parse(content: bytes) -> Any:
    """The first value: None, bool, int, float, str, list or dict; None too if there is no value at all.

    Text that is not UTF-8 has surrogates in its strings; see `without_surrogates`. Raises MalformedRequest.
    """
    text = content.decode(errors="surrogateescape").lstrip(_SPACES)
    if not text:
        return None
    decoder = _FAST if "-0" not in text else _WITH_LONG_NUMBERS
    if "\\" in text and len(text) <= EXACT_CHARACTERS:
        decoder = _EXACT
    try:
        return _first_value(decoder, text)
    except json.JSONDecodeError as error:
        raise MalformedRequest(f"the content is not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise MalformedRequest("the JSON is nested too deeply") from error


def _first_value(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.raw_decode(text)[0]
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number so long that Python refuses to convert it
        return _WITH_LONG_NUMBERS.raw_decode(text)[0]


def without_surrogates(text: str) -> str:
    """A string of the JSON text in which U+FFFD stands for what is no character."""
    return text if text.isascii() else _NO_CHARACTER.sub("\ufffd", text)


def _refuse_constant(name: str) -> Any:
    raise MalformedRequest(f"the content is not JSON: {name} is not a number")


def _number(text: str) -> int | float:
    if text == "-0":
        return NegativeZero()
    try:
        return int(text)
    except ValueError:
        return float("inf")  # no field takes either


def _string(text: str, end: int, strict: bool = True) -> tuple[str, int]:
    value, new_end = scanstring(text, end, strict)
    return (value if len(value) == new_end - 1 - end else Escaped(value)), new_end


class _ExactDecoder(json.JSONDecoder):
    """Tells strings with an escape from the others; that takes the scanner that is written in Python."""

    def __init__(self) -> None:
        super().__init__(parse_int=_number, parse_constant=_refuse_constant)
        self.parse_string = _string
        self.scan_once = py_make_scanner(self)


_FAST = json.JSONDecoder(parse_constant=_refuse_constant)
_WITH_LONG_NUMBERS = json.JSONDecoder(parse_int=_number, parse_constant=_refuse_constant)
_EXACT = _ExactDecoder()
