"""CBOR, checked field by field, and the forms of raft's types in it, for the log, snapshots and the wire.

Everything that is decoded is input, from a peer or from a disk: each field is checked for its type and
range before it is used. Bytes that fail a check raise DecodeError and nothing else. A caller that reads from
a peer turns that into PeerProtocolError, and a caller that reads from a disk into CorruptLog.
"""

from collections.abc import Sequence
from typing import Any

from raftkv_trio import strict_cbor
from raftkv_trio.errors import DecodeError
from raftkv_trio.foreign_text import printable
from raftkv_trio.raft.types import ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot

#: Nesting of a value. The deepest one of ours, a SnapshotOffer, has 6 levels.
MAX_DEPTH = 8
#: Items of a value. A leader's refusal of the most proposals (`peers/wire.py`) has the most: 4 for each.
MAX_ITEMS = 192 * 1024
#: So many members a cluster has at most. What names more is refused, on the wire and as a change of members.
MAX_MEMBERS = 1024
#: Of what others send, only a value up to this length may have integers as keys: so they are few.
MAX_INTEGER_KEYS_BYTES = 16 * 1024
_MAX_INT = 2**63 - 1
_ENTRY_TYPES = {int(kind): kind for kind in EntryType}  # several times as fast as `EntryType(number)`
_MAX_TEXT = 4096
_MAX_REASON = 1000


def decode_payload(payload: bytes, *, max_items: int = MAX_ITEMS, integer_keys: bool = False) -> Any:
    """The value that `payload` encodes; raises DecodeError if it is not plain CBOR (`strict_cbor.decode`)."""
    return strict_cbor.decode(payload, max_depth=MAX_DEPTH, max_items=max_items, integer_keys=integer_keys)


# ---------------------------------------------------------------- checked fields


def integer(value: object) -> int:
    """An integer from 0 to 2**63-1; raises DecodeError. So do all checks below."""
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise DecodeError(f"expected an integer from 0 to 2**63-1, got {_short(value)}")
    return value


def optional_integer(value: object) -> int | None:
    """None or an integer."""
    return None if value is None else integer(value)


def octets(value: object) -> bytes:
    """Bytes, of any length: the frame bounds it."""
    if type(value) is not bytes:
        raise DecodeError(f"expected bytes, got {_short(value)}")
    return value


def reason_on_the_wire(sentence: str) -> str:
    """The sentence, cut if it is so long that a peer would close the connection instead of reading it."""
    return sentence if len(sentence) <= _MAX_REASON else f"{sentence[: _MAX_REASON - 3]}..."


def text(value: object) -> str:
    """A text of bounded length: it may end up in a log line or an answer."""
    if type(value) is not str or len(value) > _MAX_TEXT:
        raise DecodeError(f"expected a text of at most {_MAX_TEXT} characters, got {_short(value)}")
    return value


def optional_text(value: object) -> str | None:
    """None or a text."""
    return None if value is None else text(value)


def url(value: object) -> str:
    """A text that may stand in a line as it is, as every URL may."""
    if not text(value).isprintable():
        raise DecodeError(f"a URL has characters that cannot be shown: {printable(text(value))}")
    return text(value)


def optional_url(value: object) -> str | None:
    """None or a URL."""
    return None if value is None else url(value)


def sentence(value: object) -> str:
    """A sentence of a peer, made fit for a line."""
    return printable(text(value))


def optional_sentence(value: object) -> str | None:
    """None or a sentence of a peer."""
    return None if value is None else sentence(value)


def boolean(value: object) -> bool:
    """True or False, not a number."""
    if type(value) is not bool:
        raise DecodeError(f"expected true or false, got {_short(value)}")
    return value


def items(value: object, length: int | None = None) -> list[Any]:
    """A list, of that many items if `length` is given."""
    if type(value) is not list or (length is not None and len(value) != length):
        of_length = "" if length is None else f" of {length}"
        raise DecodeError(f"expected a list{of_length}, got {_short(value)}")
    return value


def _ids(value: object) -> tuple[int, ...]:
    if len(items(value)) > MAX_MEMBERS:
        raise DecodeError(f"{len(items(value))} members are over the limit of {MAX_MEMBERS}")
    return tuple(integer(i) for i in items(value))


def _short(value: object) -> str:
    if isinstance(value, bytes | str | list | dict | tuple):
        return f"{type(value).__name__} of length {len(value)}"
    if type(value) is int and value.bit_length() <= 64:  # a larger one may be too long to be written out
        return f"the integer {value}"
    return type(value).__name__


# ---------------------------------------------------------------- raft's types


def pack_entries(entries: Sequence[Entry]) -> list[object]:
    """Entries as CBOR lists `[term, index, type, data]`."""
    return [[e.term, e.index, int(e.type), e.data] for e in entries]


def unpack_entries(value: object) -> tuple[Entry, ...]:
    """The entries of such a list; raises DecodeError. So do all `unpack` functions below."""
    return tuple([_unpack_entry(item) for item in items(value)])


def _unpack_entry(value: object) -> Entry:
    term, index, kind, data = items(value, 4)
    entry_type = _ENTRY_TYPES.get(integer(kind))
    if entry_type is None:
        raise DecodeError(f"unknown entry type {kind}")
    return Entry(integer(term), integer(index), entry_type, octets(data))


def unpack_hard_state(value: object) -> HardState:
    """A list `[term, vote, commit]`."""
    term, vote, commit = items(value, 3)
    return HardState(integer(term), optional_integer(vote), integer(commit))


def pack_conf_state(conf: ConfState) -> list[object]:
    """A list of its fields, in their order."""
    return [
        list(conf.voters),
        list(conf.learners),
        list(conf.voters_outgoing),
        list(conf.learners_next),
        conf.auto_leave,
    ]


def unpack_conf_state(value: object) -> ConfState:
    """What `pack_conf_state` made."""
    voters, learners, outgoing, learners_next, auto_leave = items(value, 5)
    return ConfState(_ids(voters), _ids(learners), _ids(outgoing), _ids(learners_next), boolean(auto_leave))


def pack_message(m: Message) -> list[object]:
    """A list of the fields that travel between nodes; `vote` and `responses` stay in their node."""
    snapshot = m.snapshot and [
        m.snapshot.index,
        m.snapshot.term,
        pack_conf_state(m.snapshot.conf_state),
        m.snapshot.data,
    ]
    return [
        int(m.type),
        m.to,
        m.from_,
        m.term,
        m.log_term,
        m.index,
        pack_entries(m.entries),
        m.commit,
        m.commit_term,
        snapshot,
        m.reject,
        m.reject_hint,
        m.context,
    ]


def unpack_message(value: object) -> Message:
    """What `pack_message` made. The form alone is checked: `peers/incoming.py` checks who may send it."""
    kind, to, from_, term, log_term, index, entries, commit, commit_term, snapshot, reject, hint, context = (
        items(value, 13)
    )
    try:
        message_type = MessageType(integer(kind))
    except ValueError as error:
        raise DecodeError(f"unknown message type {kind}") from error
    return Message(
        type=message_type,
        to=integer(to),
        from_=integer(from_),
        term=integer(term),
        log_term=integer(log_term),
        index=integer(index),
        entries=unpack_entries(entries),
        commit=integer(commit),
        commit_term=integer(commit_term),
        snapshot=None if snapshot is None else _unpack_snapshot(snapshot),
        reject=boolean(reject),
        reject_hint=integer(hint),
        context=octets(context),
    )


def _unpack_snapshot(value: object) -> Snapshot:
    index, term, conf_state, data = items(value, 4)
    return Snapshot(integer(index), integer(term), unpack_conf_state(conf_state), octets(data))
