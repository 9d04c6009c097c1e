"""Plain CBOR, checked field by field, and raft's words in it: what the wire and the log are made of.

Nonsense raises PeerProtocolError, and nothing else escapes; who reads from a disk turns that into CorruptLog.
"""

from collections.abc import Sequence
from typing import Any

import cbor2

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.raft.types import ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot

MAX_DEPTH = 8
_MAX_INT = 2**63 - 1


def decode_payload(payload: bytes) -> Any:
    """The value that `payload` is; raises PeerProtocolError for anything that is not plain CBOR."""
    try:
        return cbor2.loads(payload, max_depth=MAX_DEPTH, allow_indefinite=False)
    except (
        cbor2.CBORDecodeError,
        RecursionError,
        MemoryError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
    ) as error:
        raise PeerProtocolError(f"not valid CBOR: {error}") from error


# ---------------------------------------------------------------- checked fields


def integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise PeerProtocolError(f"expected an integer from 0 to 2**63-1, got {_short(value)}")
    return value


def optional_integer(value: object) -> int | None:
    return None if value is None else integer(value)


def octets(value: object) -> bytes:
    if type(value) is not bytes:
        raise PeerProtocolError(f"expected bytes, got {_short(value)}")
    return value


def text(value: object) -> str:
    if type(value) is not str or len(value) > 4096:
        raise PeerProtocolError(f"expected a text of at most 4096 characters, got {_short(value)}")
    return value


def optional_text(value: object) -> str | None:
    return None if value is None else text(value)


def boolean(value: object) -> bool:
    if type(value) is not bool:
        raise PeerProtocolError(f"expected true or false, got {_short(value)}")
    return value


def items(value: object, length: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        of_length = "" if length is None else f" of {length}"
        raise PeerProtocolError(f"expected a list{of_length}, got {_short(value)}")
    return value


def _ids(value: object) -> tuple[int, ...]:
    return tuple(integer(i) for i in items(value))


def _short(value: object) -> str:
    if isinstance(value, bytes | str | list | dict | tuple):
        return f"{type(value).__name__} of length {len(value)}"
    if type(value) is int and value.bit_length() <= 64:  # a larger one may be too long to be written out
        return f"the integer {value}"
    return type(value).__name__


# ---------------------------------------------------------------- raft's words


def pack_entries(entries: Sequence[Entry]) -> list[object]:
    """Entries as CBOR lists `[term, index, type, data]`."""
    return [[e.term, e.index, int(e.type), e.data] for e in entries]


def unpack_entries(value: object) -> tuple[Entry, ...]:
    return tuple([_unpack_entry(item) for item in items(value)])


def _unpack_entry(value: object) -> Entry:
    term, index, kind, data = items(value, 4)
    try:
        return Entry(integer(term), integer(index), EntryType(integer(kind)), octets(data))
    except ValueError as error:
        raise PeerProtocolError(f"unknown entry type {kind}") from error


def unpack_hard_state(value: object) -> HardState:
    term, vote, commit = items(value, 3)
    return HardState(integer(term), optional_integer(vote), integer(commit))


def pack_conf_state(conf: ConfState) -> list[object]:
    return [
        list(conf.voters),
        list(conf.learners),
        list(conf.voters_outgoing),
        list(conf.learners_next),
        conf.auto_leave,
    ]


def unpack_conf_state(value: object) -> ConfState:
    voters, learners, outgoing, learners_next, auto_leave = items(value, 5)
    return ConfState(_ids(voters), _ids(learners), _ids(outgoing), _ids(learners_next), boolean(auto_leave))


def pack_message(m: Message) -> list[object]:
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
        m.vote,
        snapshot,
        m.reject,
        m.reject_hint,
        m.context,
    ]


def unpack_message(value: object) -> Message:
    kind, to, from_, term, log_term, index, entries, commit, vote, snapshot, reject, hint, context = items(
        value, 13
    )
    try:
        message_type = MessageType(integer(kind))
    except ValueError as error:
        raise PeerProtocolError(f"unknown message type {kind}") from error
    return Message(
        type=message_type,
        to=integer(to),
        from_=integer(from_),
        term=integer(term),
        log_term=integer(log_term),
        index=integer(index),
        entries=unpack_entries(entries),
        commit=integer(commit),
        vote=optional_integer(vote),
        snapshot=None if snapshot is None else _unpack_snapshot(snapshot),
        reject=boolean(reject),
        reject_hint=integer(hint),
        context=octets(context),
    )


def _unpack_snapshot(value: object) -> Snapshot:
    index, term, conf_state, data = items(value, 4)
    return Snapshot(integer(index), integer(term), unpack_conf_state(conf_state), octets(data))
