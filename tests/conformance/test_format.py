"""The harness itself: the file format, and that nothing unknown passes."""

from pathlib import Path

import pytest

from tests.conformance.configuration import Configuration
from tests.conformance.describe import quote
from tests.conformance.directives import Interaction
from tests.conformance.quorums import Quorums
from tests.conformance.transcript import (
    Argument,
    Case,
    Environment,
    Tier,
    TranscriptError,
    TranscriptMismatch,
    compare,
    parse,
    replay,
)


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "transcript.txt"
    path.write_text(text, encoding="utf-8")
    return path


def _case(expected: str) -> Case:
    return Case(
        path=Path("transcript.txt"),
        line=1,
        directive="stabilize",
        arguments=(),
        input=(),
        expected=tuple(expected.split("\n")),
        expected_line=3,
    )


def test_arguments_are_words_and_values_with_and_without_parentheses(tmp_path: Path) -> None:
    """A word, `k=v`, `k=(v)`, `k=(v, w)` and `k=()` are read, also behind a backslash."""
    path = _file(tmp_path, '# comment\ncampaign 1 "x" k=v \\\n l=(v)  m=(v, w) n=()\n----\nok\n')
    (case,) = parse(path)
    assert case.arguments == (
        Argument("1", None),
        Argument('"x"', None),
        Argument("k", ("v",)),
        Argument("l", ("v",)),
        Argument("m", ("v", "w")),
        Argument("n", ()),
    )
    assert (case.line, case.expected_line, case.expected) == (2, 5, ("ok",))


def test_input_output_and_blank_lines_in_output(tmp_path: Path) -> None:
    """Input stands before the separator; output ends at a blank line, or at a doubled separator."""
    path = _file(
        tmp_path, "simple\nv1 v2\n----\n----\na\n\nb\n----\n----\n\n  # comment\nvote\n----\nVoteWon\n  \n"
    )
    first, second = parse(path)
    assert (first.input, first.expected) == (("v1 v2",), ("a", "", "b"))
    assert (second.line, second.expected) == (12, ("VoteWon",))


@pytest.mark.parametrize("text", ["campaign 1\nok\n", "deliver-msgs drop=(1\n----\nok\n"])
def test_what_is_not_of_the_format_is_an_error(tmp_path: Path, text: str) -> None:
    """A directive without a separator, and an open parenthesis, are errors with file and line."""
    with pytest.raises(TranscriptError, match=r"transcript\.txt:1: "):
        list(parse(_file(tmp_path, text)))


_UNKNOWN = [
    (Interaction, "campaing 1"),
    (Interaction, "add-nodes 1 voters=(1) index=3 prevoted=true"),
    (Interaction, "add-nodes 1 voters=(1) index=3 prevote=yes"),
    (Interaction, "add-nodes 1 voters=(1) voters=(2) index=3"),
    (Interaction, "campaign 1"),
    (Interaction, "propose 1 a b"),
    (Interaction, "deliver-msgs 1 type=MsgNone"),
    (Interaction, "deliver-msgs 1 drop=(1)"),
    (Interaction, "transfer-leadership from=1"),
    (Interaction, "stabilize log-level=loud"),
    (Interaction, "raft-state 1"),
    (Interaction, "log-level debug\nsome input"),
    (Configuration, "complex"),
    (Configuration, "simple 1"),
    (Configuration, "simple\nx1"),
    (Configuration, "simple autoleave=true\nv1"),
    (Configuration, "leave-joint\nv1"),
    (Quorums, "elected"),
    (Quorums, "vote cfg=(1) idx=(1)"),
    (Quorums, "vote cfg=(1) votes=(x)"),
    (Quorums, "committed cfg=(1) idx=(0)"),
]


@pytest.mark.parametrize(("kind", "head"), _UNKNOWN, ids=[head for _, head in _UNKNOWN])
def test_what_is_unknown_is_an_error(tmp_path: Path, kind: type[Environment], head: str) -> None:
    """A directive, argument, value, node or input that the harness does not know is an error."""
    with pytest.raises(TranscriptError, match=r"transcript\.txt:1: "):
        replay(_file(tmp_path, f"{head}\n----\nok\n"), kind(), Tier.STRIPPED)


def test_log_lines_count_at_the_exact_tier_only() -> None:
    """The stripped tier ignores log lines, and an emptied block counts as `ok`."""
    case = _case("INFO 1 became follower at term 1\n  DEBUG indented")
    compare(case, "ok", Tier.STRIPPED)
    compare(case, "WARN something else\n", Tier.STRIPPED)
    with pytest.raises(TranscriptMismatch):
        compare(case, "ok", Tier.EXACT)


def test_a_mismatch_names_the_line_and_shows_both_sides() -> None:
    """The text of a mismatch begins with file and line of the first difference and holds a diff."""
    case = _case("INFO noise\n1->2 MsgApp\n1->3 MsgApp")
    with pytest.raises(TranscriptMismatch) as mismatch:
        compare(case, "1->2 MsgApp\n1->4 MsgApp", Tier.STRIPPED)
    text = str(mismatch.value)
    assert text.startswith("transcript.txt:5: ")
    assert "-1->3 MsgApp" in text
    assert "+1->4 MsgApp" in text


def test_data_is_quoted_as_go_quotes_it() -> None:
    """Quotes, backslashes, control characters, broken UTF-8 and unprintable runes are escaped."""
    assert quote(b'a"\\\n\x01\x7f\xff') == r'"a\"\\\n\x01\x7f\xff"'
    assert quote("ü\u200b\U000e0001".encode()) == r'"ü\u200b\U000e0001"'
