"""Entries of a peer: what is too large is refused before it is decoded."""

import pytest

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import MAX_CHANGE_BYTES
from raftkv_trio.errors import DecodeError
from raftkv_trio.payload.entries import MAX_CHANGE_ENTRY_BYTES, check_entries
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.payload.proposal import ProposalId
from raftkv_trio.raft.confchange import conf_change_entry
from raftkv_trio.raft.types import Entry, EntryType

ID = ProposalId(2**63 - 1, 2**63 - 1, 2**63 - 1)


def of(count: int, action: Action) -> ChangeRequest:
    """A request with many changes; the conf change in its entry has a part for each."""
    address = PeerAddress("h", 1) if action is Action.ADD else None
    first = 2**63 - count
    return ChangeRequest(tuple([MemberChange(action, first + i, address) for i in range(count)]))


@pytest.mark.parametrize("action", [Action.ADD, Action.REMOVE])
def test_the_largest_change_fits(action: Action) -> None:
    """Whatever a leader may append, its followers take; this request is a little larger."""
    count = MAX_CHANGE_BYTES // (len(of(101, action).encode()) - len(of(100, action).encode())) + 1
    entry = conf_change_entry(of(count, action).conf_change(ID))
    check_entries([Entry(1, 1, entry.type, entry.data)])


@pytest.mark.parametrize("kind", [EntryType.CONF_CHANGE, EntryType.CONF_CHANGE_V2])
def test_a_change_that_is_too_large_is_not_decoded(kind: EntryType) -> None:
    """It could hold the loop for seconds."""
    with pytest.raises(DecodeError, match="over the limit"):
        check_entries([Entry(1, 1, kind, bytes(MAX_CHANGE_ENTRY_BYTES + 1))])
