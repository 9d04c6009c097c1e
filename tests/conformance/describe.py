"""The text forms of the core's values in transcripts: `1->2 MsgApp Term:1 Log:1/10 Commit:10`.

A field is left out where it is empty; the order of the fields is fixed.
"""

from collections.abc import Iterable, Sequence

from raftkv_trio.raft.confchange import ConfChangeSingle, ConfChangeType, decode_conf_change
from raftkv_trio.raft.texts import MESSAGE_NAMES, ROLE_NAMES
from raftkv_trio.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfState,
    Entry,
    EntryType,
    Message,
    Ready,
    Snapshot,
)

CHANGE_LETTERS = {
    "v": ConfChangeType.ADD_VOTER,
    "l": ConfChangeType.ADD_LEARNER,
    "r": ConfChangeType.REMOVE,
    "u": ConfChangeType.UPDATE,
}
_LETTERS = {kind: letter for letter, kind in CHANGE_LETTERS.items()}
_THREADS = {APPEND_THREAD: "AppendThread", APPLY_THREAD: "ApplyThread", 0: "None"}
_ENTRY_NAMES = {
    EntryType.NORMAL: "EntryNormal",
    EntryType.CONF_CHANGE: "EntryConfChange",
    EntryType.CONF_CHANGE_V2: "EntryConfChangeV2",
}
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def parse_changes(text: str) -> tuple[ConfChangeSingle, ...]:
    """`v1 l2 r3 u4`, any of them or none; raises ValueError."""
    changes = []
    for word in text.split():
        kind = CHANGE_LETTERS.get(word[0])
        if kind is None:
            raise ValueError(f"unknown change {word}")
        changes.append(ConfChangeSingle(kind, int(word[1:])))
    return tuple(changes)


def quote(data: bytes) -> str:
    """`data` as Go's %q prints it."""
    return f'"{"".join(map(_escape, data.decode("utf-8", "surrogateescape")))}"'


def _escape(character: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def describe_entry(entry: Entry) -> str:
    if entry.type is EntryType.NORMAL:
        text = quote(entry.data)
    else:
        changes = decode_conf_change(entry).as_v2().changes
        text = " ".join([f"{_LETTERS[kind]}{node_id}" for kind, node_id in changes])
    return f"{entry.term}/{entry.index} {_ENTRY_NAMES[entry.type]} {text}".rstrip(" ")


def describe_entries(entries: Iterable[Entry]) -> str:
    return "".join([describe_entry(entry) + "\n" for entry in entries])


def describe_snapshot(snapshot: Snapshot) -> str:
    conf = describe_conf_state(snapshot.conf_state)
    return f"Index:{snapshot.index} Term:{snapshot.term} ConfState:{conf}"


def describe_conf_state(conf: ConfState) -> str:
    return (
        f"Voters:{_ids(conf.voters)} VotersOutgoing:{_ids(conf.voters_outgoing)} "
        f"Learners:{_ids(conf.learners)} LearnersNext:{_ids(conf.learners_next)} "
        f"AutoLeave:{_bool(conf.auto_leave)}"
    )


def _ids(ids: Iterable[int]) -> str:
    return f"[{' '.join(map(str, ids))}]"


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _node(node_id: int) -> str:
    return _THREADS.get(node_id, f"{node_id:x}")


def describe_message(message: Message, indent: str = "") -> str:
    name = MESSAGE_NAMES[message.type]
    parts = [
        f"{indent}{_node(message.from_)}->{_node(message.to)} {name} Term:{message.term}",
        f"Log:{message.log_term}/{message.index}",
    ]
    if message.reject:
        parts.append(f"Rejected (Hint: {message.reject_hint})")
    if message.commit:
        parts.append(f"Commit:{message.commit}")
    if message.vote:
        parts.append(f"Vote:{message.vote}")
    if message.entries:
        parts.append(_inline_entries(message.entries, indent))
    text = " ".join(parts)
    if message.snapshot is not None and message.snapshot.index:
        text += f"\n{indent}  Snapshot: {describe_snapshot(message.snapshot)}"
    if message.responses:
        responses = [describe_message(response, indent + "  ") for response in message.responses]
        text = "\n".join([f"{text} Responses:[", *responses, f"{indent}]"])
    return text


def _inline_entries(entries: Sequence[Entry], indent: str) -> str:
    if len(entries) == 1:
        return f"Entries:[{describe_entry(entries[0])}]"
    return "\n".join(["Entries:[", *[f"{indent}  {describe_entry(e)}" for e in entries], f"{indent}]"])


def describe_ready(ready: Ready) -> str:
    lines = []
    if ready.soft_state is not None:
        lines.append(f"Lead:{ready.soft_state.leader_id or 0} State:{ROLE_NAMES[ready.soft_state.role]}\n")
    if ready.hard_state is not None:
        vote = f" Vote:{ready.hard_state.vote}" if ready.hard_state.vote else ""
        lines.append(f"HardState Term:{ready.hard_state.term}{vote} Commit:{ready.hard_state.commit}\n")
    if ready.entries:
        lines.append(f"Entries:\n{describe_entries(ready.entries)}")
    if ready.snapshot is not None:
        lines.append(f"Snapshot {describe_snapshot(ready.snapshot)}\n")
    if ready.committed_entries:
        lines.append(f"CommittedEntries:\n{describe_entries(ready.committed_entries)}")
    if ready.messages:
        lines.append("Messages:\n")
        lines += [describe_message(message) + "\n" for message in ready.messages]
    if not lines:
        return "<empty Ready>"
    return "".join([f"Ready MustSync={_bool(ready.must_sync)}:\n", *lines])
