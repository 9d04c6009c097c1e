"""What a follower appends of a leader whose commands it does not all know."""

from collections.abc import Sequence

import pytest

from raftkv_trio.node.driver.admission import Admission
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.raft.confchange import ConfChangeSingle, ConfChangeType, ConfChangeV2, conf_change_entry
from raftkv_trio.raft.types import Entry, Message, MessageType
from tests.node.driver.test_admission import Follower

NEWER = b"newer"
ID = ProposalId(2, 1, 1)


def objection(command: bytes) -> str | None:
    return "upgrade this node" if command == NEWER else None


class OldFollower(Follower):
    """Core 1, of which node 2 leads, and which does not know one command."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(self.raw, self.known, self.refusals, objection)

    def append(self, commands: Sequence[bytes], *, back: int = 0, log_term: int | None = None) -> Message:
        """An APP of the leader that begins so many entries before the end of this log."""
        previous = self.raw.last_index - back
        term = self.raw.term
        entries = [
            Entry(term, index, data=encode_proposal(ID, command))
            for index, command in enumerate(commands, start=previous + 1)
        ]
        return Message(
            type=MessageType.APP,
            to=1,
            from_=2,
            term=term,
            index=previous,
            log_term=term if log_term is None else log_term,
            entries=tuple(entries),
        )

    @property
    def refused(self) -> int:
        return self.refusals.counts["newer_version"]


def test_what_it_knows_is_taken_as_it_is() -> None:
    """Also entries that hold no command."""
    follower = OldFollower()
    change = ConfChangeV2((ConfChangeSingle(ConfChangeType.ADD_LEARNER, 3),), context=NEWER)
    append = follower.append([b"a", b"b"])
    empty = Entry(append.term, append.index + 1)
    for entries in (append.entries, (), (empty,), (conf_change_entry(change),)):
        append.entries = entries
        assert follower.admission.appendable(append) is append
    assert follower.refused == 0
    assert follower.admission.lags_because is None


def test_what_comes_before_is_taken() -> None:
    """And nothing that comes after it, known or not."""
    follower = OldFollower()
    append = follower.append([b"a", b"b", NEWER, b"c", NEWER])
    taken = follower.admission.appendable(append)
    assert taken is not None
    assert taken.entries == append.entries[:2]
    assert (taken.index, taken.log_term, taken.commit) == (append.index, append.log_term, append.commit)
    assert follower.refused == 1
    assert "node 2 has sent" in (follower.admission.lags_because or "")


def test_nothing_is_answered_where_there_is_nothing_new() -> None:
    """The leader would stream on at once; a repeated probe is counted, and logged once."""
    follower = OldFollower()
    append = follower.append([NEWER, b"c"])
    for count in (1, 2):
        assert follower.admission.appendable(append) is None
        assert follower.refused == count


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_probe_that_does_not_fit_is_answered(repeats: int) -> None:
    """Each time, since answers may be lost: or the leader would never learn where this log ends."""
    follower = OldFollower()
    for probe in (follower.append([NEWER], back=-5), follower.append([NEWER], log_term=0)):
        for _ in range(repeats):
            taken = follower.admission.appendable(probe)
            assert taken is not None
            assert not taken.entries
            follower.raw.step(taken)
            answers = [a for m in follower.raw.ready().messages for a in m.responses if a.to == 2]
            assert [answer.reject for answer in answers] == [True]


def test_it_lags_as_long_as_that_leader_has_the_entry() -> None:
    """Another term may not have it; and what is committed here it does not lack."""
    follower = OldFollower()
    append = follower.append([NEWER])
    follower.admission.appendable(append)
    assert follower.admission.lags_because
    later = Message(type=MessageType.HEARTBEAT, to=1, from_=3, term=follower.raw.term + 1)
    follower.raw.step(later)
    assert follower.admission.lags_because is None


def test_an_earlier_term_says_nothing() -> None:
    """The core ignores its entries anyway."""
    follower = OldFollower()
    append = follower.append([NEWER])
    append.term -= 1
    assert follower.admission.appendable(append) is append
    assert follower.refused == 0


def test_what_is_no_proposal_is_not_appended() -> None:
    """As if it came from a newer version; nothing that a peer sends ends the driver."""
    follower = OldFollower()
    append = follower.append([b""])
    append.entries = (Entry(append.term, append.index + 1, data=b"no proposal"),)
    assert follower.admission.appendable(append) is None
    assert follower.refused == 1
