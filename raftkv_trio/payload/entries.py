"""Entries of a peer, checked before the log has them.

A committed entry cannot be skipped, and each start applies it again. So one that no node can apply is refused
when a peer sends it, and not found out when it is applied.
"""

from collections.abc import Iterable

from raftkv_trio.errors import DecodeError
from raftkv_trio.payload.membership import decode_change
from raftkv_trio.payload.proposal import check_proposal
from raftkv_trio.raft.types import Entry, EntryType

#: Largest data of an entry that changes the members: the largest request (`config.MAX_CHANGE_BYTES`), and the
#: conf change that is made of it, which is shorter.
MAX_CHANGE_ENTRY_BYTES = 36 * 1024


def check_entries(entries: Iterable[Entry]) -> None:
    """Raise DecodeError unless each entry is a proposal, a change of members, or a leader's empty one.

    The command in a proposal belongs to the state machine, which has a result for whatever it is.
    """
    for entry in entries:
        try:
            if entry.type is not EntryType.NORMAL:
                # First: the driver's loop stands still while it is decoded.
                if len(entry.data) > MAX_CHANGE_ENTRY_BYTES:
                    raise DecodeError(f"a change of {len(entry.data)} bytes is over the limit")
                decode_change(entry)
            elif entry.data:
                check_proposal(entry.data)
        except DecodeError as error:
            raise DecodeError(f"entry {entry.index} cannot be applied: {error}") from error
