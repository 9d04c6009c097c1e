"""The core answers like etcd's raft: every recorded transcript, replayed at both tiers."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conformance.configuration import Configuration
from tests.conformance.directives import Interaction
from tests.conformance.quorums import Quorums
from tests.conformance.transcript import (
    Environment,
    Tier,
    TranscriptError,
    TranscriptMismatch,
    is_log_line,
    parse,
    replay,
)

#: A file's kind is told by its folder.
_ENVIRONMENTS: Mapping[str, type[Environment]] = {
    "interaction": Interaction,
    "confchange": Configuration,
    "quorum": Quorums,
}


def _play(transcript: Path, tier: Tier) -> None:
    environment = _ENVIRONMENTS.get(transcript.parent.name)
    if environment is None:
        raise TranscriptError(f"{transcript}: its folder is none of {', '.join(_ENVIRONMENTS)}")
    replay(transcript, environment(), tier)


def test_a_transcript_is_answered_as_etcd_does(transcript: Path, tier: Tier) -> None:
    """The core's output is the recorded one, to the letter."""
    _play(transcript, tier)


def test_a_transcript_with_one_line_changed_fails(transcript: Path, tier: Tier, tmp_path: Path) -> None:
    """With any one expected line changed the replay fails and names file and line."""
    lines = transcript.read_text(encoding="utf-8").split("\n")
    expected = [
        case.expected_line + offset
        for case in parse(transcript)
        for offset, line in enumerate(case.expected)
        if tier is Tier.EXACT or not is_log_line(line)
    ]
    changed = expected[len(expected) // 2]
    lines[changed - 1] += "0"
    tampered = tmp_path / transcript.parent.name / transcript.name
    tampered.parent.mkdir()
    tampered.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(TranscriptMismatch) as mismatch:
        _play(tampered, tier)
    assert str(mismatch.value).startswith(f"{tampered}:{changed}: ")
