"""Raft messages drawn by hypothesis, for real nodes: their numbers are near those of the node, or at an end.

Not drawn is what a node believes of another one because Raft does: an entry of a leader that fits the log,
and that entries are committed of which the node does not know it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from raftkv_trio.node.driver.admission import MAX_INDEX_STEP
from raftkv_trio.raft.types import ConfState, Entry, EntryType, Message, MessageType, Snapshot
from tests.peers.hostile import BesiegedNode, HostilePeer
from tests.raft.test_hostile import TRAVELLING

#: Of a leader, and followed by all that take it for one.
_CLAIMS = (MessageType.APP, MessageType.HEARTBEAT)
#: With these a voter tells what is committed, as entry `index` of term `log_term`.
_VOTES = (MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP)


class Near(NamedTuple):
    """A number that is so far from the node's own when the message is sent."""

    delta: int


Number = Near | int
NUMBERS: st.SearchStrategy[Number] = st.builds(Near, st.integers(-2, 2)) | st.sampled_from(
    [0, 1, 2**31, 2**32, 2**32 + 100, 2**48, 2**48 + 10_000, 2**62, 2**63 - 1]
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A message whose numbers are not resolved yet."""

    type: MessageType
    term: Number
    log_term: Number
    index: Number
    commit: Number
    reject_hint: Number
    reject: bool
    entries: list[tuple[Number, Number, EntryType, bytes]]
    snapshot: Snapshot | None
    context: bytes

    def message(self, peer: HostilePeer, node: BesiegedNode) -> Message:
        """The message, relative to where the node is now."""
        assert node.parts is not None
        status, log = node.running.status(), node.parts.raw.raft.log
        message = peer.message(
            self.type,
            term=_near(self.term, status.term),
            log_term=_near(self.log_term, log.last_term()),
            index=_near(self.index, status.last_index),
            commit=_near(self.commit, status.commit_index),
            reject_hint=_near(self.reject_hint, status.last_index),
            reject=self.reject,
            entries=tuple(
                Entry(_near(term, status.term), _near(index, status.last_index + 1), kind, data)
                for term, index, kind, data in self.entries
            ),
            snapshot=self.snapshot,
            context=self.context,
        )
        return _without_belief(message, status.commit_index)


def _near(number: Number, own: int) -> int:
    return max(0, own + number.delta) if isinstance(number, Near) else number


def _without_belief(message: Message, own_commit: int) -> Message:
    if message.type in _VOTES:
        return replace(message, index=min(message.index, own_commit))
    if message.type not in _CLAIMS:
        return message
    # Empty entries are what a new leader appends. Out of their place they are refused.
    entries = tuple([e if e.data else replace(e, index=message.index + 7) for e in message.entries])
    believed = own_commit < message.commit <= MAX_INDEX_STEP
    return replace(message, entries=entries, commit=own_commit if believed else message.commit)


ENTRIES = st.lists(
    st.tuples(
        NUMBERS,
        NUMBERS,
        st.sampled_from(EntryType),
        st.just(b"") | st.binary(max_size=40),
    ),
    max_size=2,
)
SNAPSHOTS = st.builds(Snapshot, st.integers(0, 2**20), st.integers(0, 5), st.just(ConfState(voters=(1, 2))))
DRAWN = st.builds(
    Drawn,
    st.sampled_from(TRAVELLING),
    *[NUMBERS] * 5,
    st.booleans(),
    st.just([]) | ENTRIES,
    st.none() | SNAPSHOTS,
    st.binary(max_size=30) | st.just(b"CampaignTransfer"),
)


def drawn_messages(count: int, number: int) -> Sequence[Drawn]:
    """So many, by the seed `number`."""
    found: list[Drawn] = []
    each = 10

    @seed(number)
    @settings(
        max_examples=count // each,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(DRAWN, min_size=each, max_size=each))
    def collect(batch: Any) -> None:
        found.extend(batch)

    collect()
    return found
