"""What clients ask of a revisioned store with many keys, and what they are told: etcd's v3 API, as values.

Nothing here is taken from `kv/`: the history check must not believe what it judges. A *range* is `key` alone
if `range_end` is None, else all keys from `key` up to, but not including, `range_end`.
"""

from enum import Enum
from typing import Literal, NamedTuple

Compared = Literal["version", "created", "changed", "value"]
Relation = Literal["=", "!=", ">", "<"]


class StoreRecord(NamedTuple):
    """A key as an answer shows it.

    Attributes:
        created, changed: the revisions at which the key came into existence, and was last put.
        version: the number of puts since it came into existence.
    """

    key: bytes
    value: bytes
    created: int
    changed: int
    version: int

    def __str__(self) -> str:
        return f"{_text(self.key)}={_text(self.value)}@{self.created}/{self.changed}/{self.version}"


class StoreCompare(NamedTuple):
    """Holds if it holds for each key of the range; nothing has numbers of 0 and no value."""

    key: bytes
    compared: Compared
    relation: Relation
    operand: int | bytes
    range_end: bytes | None = None

    def __str__(self) -> str:
        return f"{self.compared} of {_range(self)} {self.relation} {self.operand!r}"


class StorePut(NamedTuple):
    """Set a key; with `keeps_value` (and an empty value) to the value that it has."""

    key: bytes
    value: bytes
    keeps_value: bool = False

    def __str__(self) -> str:
        return f"put {_text(self.key)}={'as it is' if self.keeps_value else _text(self.value)}"


class StoreDelete(NamedTuple):
    """Delete the keys of a range."""

    key: bytes
    range_end: bytes | None = None

    def __str__(self) -> str:
        return f"delete {_range(self)}"


class StoreGet(NamedTuple):
    """Read the first `limit` keys of a range (None: all), as `revision` left them (None: as they are)."""

    key: bytes
    range_end: bytes | None = None
    limit: int | None = None
    revision: int | None = None

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" limit {self.limit}"
        return f"get {_range(self)}{limit}" + ("" if self.revision is None else f" at {self.revision}")


class StoreTxn(NamedTuple):
    """If all compares hold, run `success`, else `failure`; a txn of gets alone is a linearizable read."""

    compares: "tuple[StoreCompare, ...]" = ()
    success: "tuple[StoreOperation, ...]" = ()
    failure: "tuple[StoreOperation, ...]" = ()

    def __str__(self) -> str:
        if not self.compares and not self.failure:
            return _list(self.success)
        return f"if {_list(self.compares)} then {_list(self.success)} else {_list(self.failure)}"


StoreOperation = StorePut | StoreDelete | StoreGet | StoreTxn


class StoreStaleRead(NamedTuple):
    """Run a txn of gets at once on one node, whatever that node has applied so far (etcd: serializable)."""

    txn: StoreTxn

    def __str__(self) -> str:
        return f"stale read: {self.txn}"


class StoreCompact(NamedTuple):
    """Forget all that no read at this or a later revision can see."""

    revision: int

    def __str__(self) -> str:
        return f"compact {self.revision}"


StoreRequest = StoreTxn | StoreStaleRead | StoreCompact


class StorePutAnswer(NamedTuple):
    """What the put made, and what it replaced, if anything."""

    record: StoreRecord
    previous: StoreRecord | None

    def __str__(self) -> str:
        return f"{self.record} was {self.previous or 'absent'}"


class StoreDeleteAnswer(NamedTuple):
    """How many keys the delete deleted, and which."""

    deleted: int
    previous: tuple[StoreRecord, ...]

    def __str__(self) -> str:
        return f"{self.deleted} deleted {_list(self.previous)}"


class StoreGetAnswer(NamedTuple):
    """What a get read.

    Attributes:
        in_range: how many keys the range has without the limit.
        revision: the store's; in a txn: before the txn, or, after its first change, the one that it makes.
    """

    records: tuple[StoreRecord, ...]
    in_range: int
    revision: int

    def __str__(self) -> str:
        return f"{_list(self.records)} of {self.in_range} at {self.revision}"


class StoreTxnAnswer(NamedTuple):
    """Which list of a txn was run, the store's revision after it, and a result for each of its operations."""

    succeeded: bool
    revision: int
    results: "tuple[StoreResult, ...]"

    def __str__(self) -> str:
        return f"{'' if self.succeeded else 'else '}{_list(self.results)} revision {self.revision}"


StoreResult = StorePutAnswer | StoreDeleteAnswer | StoreGetAnswer | StoreTxnAnswer


class StoreCompactAnswer(NamedTuple):
    """The compaction was done, and the store was at this revision."""

    revision: int

    def __str__(self) -> str:
        return f"compacted, revision {self.revision}"


class StoreFailure(Enum):
    """Why nothing was done, although the request is valid."""

    FUTURE_REVISION = "future revision"
    COMPACTED = "compacted"
    KEY_NOT_FOUND = "key not found"

    def __str__(self) -> str:
        return self.value


StoreAnswer = StoreTxnAnswer | StoreCompactAnswer | StoreFailure


def may_change(request: StoreRequest) -> bool:
    """Whether the request has puts or deletes, in whatever list."""
    return isinstance(request, StoreTxn) and any(
        isinstance(o, StorePut | StoreDelete) or (isinstance(o, StoreTxn) and may_change(o))
        for o in (*request.success, *request.failure)
    )


def has_changed(answer: StoreAnswer) -> bool:
    """Whether the answer tells of a change, so that its revision is that of the change."""
    return isinstance(answer, StoreTxnAnswer) and any(
        isinstance(r, StorePutAnswer)
        or (isinstance(r, StoreDeleteAnswer) and r.deleted > 0)
        or (isinstance(r, StoreTxnAnswer) and has_changed(r))
        for r in answer.results
    )


def _range(of: StoreCompare | StoreDelete | StoreGet) -> str:
    return _text(of.key) if of.range_end is None else f"{_text(of.key)}..{_text(of.range_end)}"


def _list(items: tuple[object, ...]) -> str:
    return f"[{', '.join(map(str, items))}]"


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace").replace("\0", "\\0")
