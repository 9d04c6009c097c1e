"""The output of `raftkv-trio check`: what a directory holds and what is wrong with it, in text or JSON.

It is shown to others, in a bug report for example. Therefore it has nothing by which members prove who they
are: neither the directory id, nor the keys of other members.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from raftkv_trio.errors import remedy
from raftkv_trio.offline.findings import Findings, Problem
from raftkv_trio.offline.inspection import Inspection


def as_text(inspection: Inspection) -> str:
    """Lines for people to read."""
    return "\n".join(_lines(*inspection))


def as_json(inspection: Inspection) -> str:
    """One JSON object; file names are relative to the directory, and ids are in hexadecimal."""
    found, repairs = inspection
    identity, hard_state = found.identity, found.hard_state
    value = {
        "directory": str(found.path),
        "is_sound": inspection.is_sound,
        "is_unfinished": found.is_unfinished,
        "identity": identity
        and {
            "cluster_id": f"{identity.cluster_id:x}",
            "node_id": identity.node_id,
            "format": identity.format_version,
        },
        "peers": found.known_members,
        "open_to_all": [_name(found, directory) for directory in found.open_to_all],
        "origin": found.origin and found.origin.hex(),
        "removed": found.removed,
        "lost": found.lost,
        "auth_reset": found.auth_reset,
        "feature_level": found.feature_level,
        "hard_state": hard_state
        and {"term": hard_state.term, "vote": hard_state.vote, "commit_index": hard_state.commit},
        "snapshot": found.snapshot and {"index": found.snapshot.index, "term": found.snapshot.term},
        "entries": found.entries and {"first_index": found.entries[0], "last_index": found.entries[1]},
        "segments": [
            {
                "file": _name(found, seen.file),
                "first_index": seen.first_index,
                "records": seen.records,
                "used_bytes": seen.used_bytes,
                "size_bytes": seen.size_bytes,
            }
            for seen in found.segments
        ],
        "snapshots": [
            {
                "file": _name(found, seen.file),
                "index": seen.id.index,
                "term": seen.id.term,
                "size_bytes": seen.size_bytes,
                "is_whole": seen.is_whole,
            }
            for seen in found.snapshots
        ],
        "torn_tail": found.torn
        and {
            "file": _name(found, found.torn.file),
            "offset": found.torn.offset,
            "size_bytes": found.torn.size_bytes,
        },
        "leftovers": [{"file": _name(found, seen.file), "why": seen.why} for seen in found.leftovers],
        "problems": [
            {"file": _name(found, problem.file), "offset": problem.offset, "what": problem.what}
            for problem in found.problems
        ],
        "repairs": repairs,
    }
    return json.dumps(value, indent=2)


def _lines(found: Findings, repairs: Sequence[str] | None) -> Iterator[str]:
    yield from [f"repaired: {sentence}" for sentence in repairs or ()]
    if found.is_unfinished:
        yield f"{found.path}: a first start was cut short, nothing was acknowledged; the next makes it anew"
    if found.identity is not None:
        yield (
            f"{found.path}: node {found.identity.node_id} of cluster {found.identity.cluster_id:x},"
            f" format {found.identity.format_version}"
        )
    if found.origin is not None:
        yield f"restored from the backup with hash {found.origin.hex()}"
    if found.removed is not None:
        yield f"removed from its cluster by entry {found.removed}: it does not start again"
    if found.lost is not None:
        yield f"has lost entries that it had acknowledged, up to {found.lost}: it does not start again"
    if found.auth_reset is not None:
        yield f"its next start disables authentication, if it is still at auth revision {found.auth_reset}"
    if found.known_members:
        yield f"knows the directories of nodes {', '.join(map(str, found.known_members))}"
    if found.feature_level is not None:
        yield f"feature level {found.feature_level}"
    if found.hard_state is not None:
        term, vote, commit = found.hard_state
        yield f"hard state: term {term}, vote {'none' if vote is None else vote}, commit index {commit}"
    for snapshot in found.snapshots:
        is_newest = snapshot.id == found.snapshot
        yield (
            f"snapshot {_name(found, snapshot.file)}: index {snapshot.id.index}, term {snapshot.id.term},"
            f" {snapshot.size_bytes} bytes, {'whole' if snapshot.is_whole else 'damaged'}"
            f"{', the log continues it' if is_newest else ''}"
        )
    for segment in found.segments:
        yield (
            f"segment {_name(found, segment.file)}: from index {segment.first_index} on,"
            f" {segment.records} records, {segment.used_bytes} of {segment.size_bytes} bytes used"
        )
    if found.entries is not None:
        yield f"entries {found.entries[0]} to {found.entries[1]}"
    if found.torn is not None:
        yield (
            f"torn tail: {found.torn.size_bytes} bytes of {_name(found, found.torn.file)} at offset"
            f" {found.torn.offset}; a start cuts it off and keeps it"
        )
    for leftover in found.leftovers:
        yield f"left over: {_name(found, leftover.file)}: {leftover.why}"
    for directory in found.open_to_all:
        yield (
            f"wrong: every user of this machine may write to {directory}, and a start refuses it; if nobody"
            f" has, run: chmod o-w {shlex.quote(str(directory))}"
        )
    for problem in found.problems:
        yield f"wrong: {_problem(found, problem)}"
    if not found.problems:
        if not found.open_to_all:
            yield "nothing is wrong"
    elif repairs is not None:
        yield "what is wrong is left as it is, since it may have been acknowledged: " + remedy(found.path)
    elif found.is_repairable_alone:
        command = f"raftkv-trio check {shlex.quote(str(found.path))} --repair"
        yield f"to do: run `{command}`; it moves what is damaged aside, and no start needs it"
    else:
        yield f"to do: {remedy(found.path)}"


def _problem(found: Findings, problem: Problem) -> str:
    where = "" if problem.offset is None else f", offset {problem.offset}"
    return f"{_name(found, problem.file)}{where}: {problem.what}"


def _name(found: Findings, file: Path) -> str:
    return str(file.relative_to(found.path))
