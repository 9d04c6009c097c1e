"""The datadriven file format: cases of a directive, its input, and the output it must give.

    # a comment
    directive word key=value key=(value, value)
    input, any number of lines
    ----
    the expected output, up to a blank line

A directive may go on in the next line behind a backslash. Output that holds blank lines stands between
`----` twice and `----` twice.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

_SEPARATOR = "----"
_LOG_LINE = re.compile(r" *(DEBUG|INFO|WARN|ERROR) ")


class TranscriptError(Exception):
    """A transcript says something that this harness does not know: a bug of either, never a skip."""


class TranscriptMismatch(AssertionError):
    """The output of a case is not what the transcript holds; the text is a diff with file and line."""


class Tier(Enum):
    """How much of the output has to agree."""

    #: Everything but what the core tells its logger.
    STRIPPED = "stripped"
    #: Everything.
    EXACT = "exact"


class Argument(NamedTuple):
    """A bare word (`values` is None), or `key=value` or `key=(value, ...)`."""

    key: str
    values: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One directive with what it must give.

    Attributes:
        line, expected_line: where directive and expected output begin in the file, from 1.
    """

    path: Path
    line: int
    directive: str
    arguments: tuple[Argument, ...]
    input: tuple[str, ...]
    expected: tuple[str, ...]
    expected_line: int

    def error(self, message: str) -> TranscriptError:
        return TranscriptError(f"{self.path}:{self.line}: {self.directive}: {message}")

    def words(self, least: int, most: int | None = None) -> list[str]:
        """The bare words, from `least` to `most` of them; None: any number."""
        words = [argument.key for argument in self.arguments if argument.values is None]
        if len(words) < least or (most is not None and len(words) > most):
            raise self.error(f"{len(words)} words where {least} to {most} belong: {words}")
        return words

    def options(self, *known: str) -> dict[str, tuple[str, ...]]:
        """The `key=value` arguments, all of which must be `known` and stand once."""
        options: dict[str, tuple[str, ...]] = {}
        for key, values in self.arguments:
            if values is None:
                continue
            if key not in known or key in options:
                raise self.error(f"unknown or repeated argument {key}")
            options[key] = values
        return options

    def only(self, *, input_lines: int = 0) -> None:
        """Refuse more than `input_lines` lines of input."""
        if len(self.input) > input_lines:
            raise self.error(f"unexpected input: {self.input}")


class Environment(Protocol):
    """What a kind of transcripts is played in; a fresh one for each file."""

    def handle(self, case: Case) -> str:
        """Do what `case` says and return the output; raises TranscriptError for what is unknown."""
        ...


# ---------------------------------------------------------------- replaying


def replay(path: Path, environment: Environment, tier: Tier) -> None:
    """Play the transcript at `path`; raises TranscriptMismatch at the first case that does not agree."""
    for case in parse(path):
        try:
            output = environment.handle(case)
        except (ValueError, LookupError) as error:
            raise case.error(f"cannot be played: {error!r}") from error
        except Exception as error:
            error.add_note(f"while playing {path}:{case.line}: {case.directive}")
            raise
        compare(case, output, tier)


def compare(case: Case, output: str, tier: Tier) -> None:
    """Raises TranscriptMismatch if `output` is not what `case` expects at `tier`."""
    actual = output.rstrip("\n").split("\n")
    expected = list(case.expected)
    if tier is Tier.STRIPPED:
        actual, expected = _strip(actual), _strip(expected)
    if actual != expected:
        raise TranscriptMismatch(_diff(case, expected, actual, tier))


def is_log_line(line: str) -> bool:
    """Whether this is a log line of the core."""
    return _LOG_LINE.match(line) is not None


def _strip(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if not is_log_line(line)] or ["ok"]


def _diff(case: Case, expected: list[str], actual: list[str], tier: Tier) -> str:
    kept = [n for n, line in enumerate(case.expected) if tier is Tier.EXACT or not is_log_line(line)]
    same = 0
    while same < min(len(expected), len(actual)) and expected[same] == actual[same]:
        same += 1
    # behind the end of what is expected, or where an emptied block counts as `ok`, there is no line to name
    offset = kept[same] if same < len(kept) else len(case.expected)
    place = f"{case.path}:{case.expected_line + offset}"
    lines = difflib.unified_diff(expected, actual, "expected", "actual", lineterm="", n=5)
    return "\n".join([f"{place}: `{case.directive}` of line {case.line}, {tier.value} tier", *lines])


# ---------------------------------------------------------------- parsing


def parse(path: Path) -> Iterator[Case]:
    """The cases of a file, in order; raises TranscriptError if the file does not have the format."""
    lines = path.read_text(encoding="utf-8").split("\n")
    at = 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].lstrip().startswith("#"):
            at += 1
            continue
        begin = at
        head = lines[at].strip()
        while head.endswith("\\") and at + 1 < len(lines):
            at += 1
            head = f"{head[:-1]} {lines[at].strip()}"
        separator = next((n for n in range(at + 1, len(lines)) if lines[n] == _SEPARATOR), None)
        if separator is None:
            raise TranscriptError(f"{path}:{begin + 1}: no `{_SEPARATOR}` follows this directive")
        first, end, after = _expected(lines, separator)
        directive, arguments = _parse_head(head, f"{path}:{begin + 1}")
        yield Case(
            path=path,
            line=begin + 1,
            directive=directive,
            arguments=arguments,
            input=tuple(lines[at + 1 : separator]),
            expected=tuple(lines[first:end]),
            expected_line=first + 1,
        )
        at = after


def _expected(lines: Sequence[str], separator: int) -> tuple[int, int, int]:
    """First line of the output, the line behind its last, and where the next case may begin."""
    first = separator + 1
    if first < len(lines) and lines[first] == _SEPARATOR:
        end = first + 1
        while end + 1 < len(lines) and lines[end : end + 2] != [_SEPARATOR, _SEPARATOR]:
            end += 1
        return first + 1, end, end + 2
    end = next((at for at in range(first, len(lines)) if not lines[at].strip()), len(lines))
    return first, end, end


_ARGUMENT = re.compile(r"(?P<key>[^\s=]+)(?:=(?:\((?P<list>[^()]*)\)|(?P<value>[^\s()]*)))?(?=\s|$)\s*")


def _parse_head(head: str, place: str) -> tuple[str, tuple[Argument, ...]]:
    directive, _, rest = head.partition(" ")
    arguments = []
    rest = rest.strip()
    while rest:
        match = _ARGUMENT.match(rest)
        if match is None:
            raise TranscriptError(f"{place}: cannot read the arguments from here on: {rest}")
        values: tuple[str, ...] | None = None
        if match["list"] is not None:
            values = tuple(v.strip() for v in match["list"].split(",")) if match["list"].strip() else ()
        elif match["value"] is not None:
            values = (match["value"],)
        arguments.append(Argument(match["key"], values))
        rest = rest[match.end() :]
    return directive, tuple(arguments)
