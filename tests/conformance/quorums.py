"""Majority and joint arithmetic: the environment of the quorum transcripts.

Each result is computed in a second way too; where the two disagree the output says so in a line
`<-- via ...`, which no transcript holds.
"""

from collections.abc import Iterator, Mapping

from raftkv_trio.raft.quorum import (
    INFINITE_INDEX,
    joint_committed,
    joint_vote,
    majority_committed,
    majority_vote,
    quorum_size,
)
from tests.conformance.transcript import Case

_VALUES = {"committed": "idx", "vote": "votes"}
_VOTES = {"y": True, "n": False}
#: How a refused input is told.
_NUMBERS = {"y": "2", "n": "1", "_": "0"}


class Quorums:
    """Has no state: every case stands alone."""

    def handle(self, case: Case) -> str:
        case.words(0, 0)
        case.only()
        key = _VALUES.get(case.directive)
        if key is None:
            raise case.error("unknown directive")
        options = case.options("cfg", "cfgj", key)
        incoming, outgoing = _ids(options, "cfg"), _ids(options, "cfgj")
        members = list(dict.fromkeys([*incoming, *outgoing]))
        values = options.get(key, ())
        if len(members) != len(values):
            voters = " ".join([f"{member}:{{}}" for member in sorted(members)])
            numbers = " ".join([_NUMBERS.get(value, value) for value in values])
            return f"error: mismatched input (explicit or _) for voters map[{voters}]: [{numbers}]"
        # to the distinct ids in order, `cfg` then `cfgj`; `_` is none
        given = {member: value for member, value in zip(members, values, strict=True) if value != "_"}
        if key == "idx":
            return _committed(case, incoming, outgoing, {k: int(v) for k, v in given.items()})
        return _vote(incoming, outgoing, {k: _VOTES[v] for k, v in given.items()})


def _ids(options: Mapping[str, tuple[str, ...]], key: str) -> list[int]:
    values = options.get(key, ())
    return [] if values == ("zero",) else [int(value) for value in values]


def _vote(incoming: list[int], outgoing: list[int], votes: Mapping[int, bool]) -> str:
    result = joint_vote(incoming, outgoing, votes)
    lines = [result.value]
    if (other := joint_vote(outgoing, incoming, votes)) is not result:
        lines.append(f"{other.value} <-- via symmetry")
    if not outgoing and (other := majority_vote(incoming, votes)) is not result:
        lines.append(f"{other.value} <-- via majority")
    return "\n".join(lines)


def _committed(case: Case, incoming: list[int], outgoing: list[int], acked: Mapping[int, int]) -> str:
    if 0 in acked.values():
        raise case.error("0 is no index")
    members = sorted({*incoming, *outgoing})
    index = joint_committed(incoming, outgoing, acked)
    lines = [*_diagram(members, acked), *_other_ways(incoming, outgoing, acked, index)]
    last = "∞" if index == INFINITE_INDEX else str(index)
    if not members:
        return f"<empty majority quorum>{last}"
    return "\n".join([*lines, last])


def _diagram(members: list[int], acked: Mapping[int, int]) -> Iterator[str]:
    """A bar a member, as long as there are members with a lower index."""
    width = len(members)
    yield " " * (width + 4) + "idx"
    for member in members:
        index = acked.get(member)
        lower = sum([acked.get(other, 0) < (index or 0) for other in members])
        bar = "?" if index is None else "x" * lower + ">"
        yield f"{bar:{width + 1}} {index or 0:5}    (id={member})"


def _other_ways(
    incoming: list[int], outgoing: list[int], acked: Mapping[int, int], index: int
) -> Iterator[str]:
    ways = {
        "symmetry": joint_committed(outgoing, incoming, acked),
        "counting": min(_counted(incoming, acked), _counted(outgoing, acked)),
    }
    if not outgoing:
        ways["majority"] = majority_committed(incoming, acked)
        ways["itself, joint"] = joint_committed(incoming, incoming, acked)
        for member, acknowledged in acked.items():
            if acknowledged < index:
                # a voter below the committed index already cannot lower it any further
                ways[f"less of {member}"] = majority_committed(incoming, {**acked, member: 0})
    for way, result in ways.items():
        if result != index:
            yield f"{result} <-- via {way}"


def _counted(voters: list[int], acked: Mapping[int, int]) -> int:
    """Try every index that a voter has acknowledged: has a majority?"""
    if not voters:
        return INFINITE_INDEX
    enough = [
        index
        for index in acked.values()
        if sum([acked.get(voter, 0) >= index for voter in voters]) >= quorum_size(voters)
    ]
    return max(enough, default=0)
