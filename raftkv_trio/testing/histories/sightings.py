"""What the answers of a history show of revisions that no answered write made."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from raftkv_trio.testing.histories.history import RecordedOperation
from raftkv_trio.testing.histories.linearizability import NotLinearizable
from raftkv_trio.testing.histories.store_model import Changes, StoreModel
from raftkv_trio.testing.histories.store_requests import (
    StoreAnswer,
    StoreDeleteAnswer,
    StoreGet,
    StoreGetAnswer,
    StorePut,
    StorePutAnswer,
    StoreRecord,
    StoreRequest,
    StoreStaleRead,
    StoreTxn,
    StoreTxnAnswer,
    has_changed,
)


class _Bound(NamedTuple):
    """What a key that exists at a revision must be after it.

    Attributes:
        created: of this key, at that revision.
        next_version: of the first sighting of it after that revision; None: there is none.
        slots: how many revisions up to that sighting may put the key.
    """

    key: bytes
    created: int
    next_version: int | None
    slots: int


class Sightings:
    """All key-values that were seen, by the revision that made each; they rule out most lost writes.

    A key-value tells not only what made it. Nothing has changed its key from then until it was seen last;
    its `created` tells when the key came to be, and that nothing deleted it since; and its `version` how
    often it was put.

    Args:
        gaps: the revisions that no answered write made, ascending.

    Raises NotLinearizable if a key has two values of one revision.
    """

    def __init__(
        self, operations: Iterable[RecordedOperation[StoreRequest, StoreAnswer]], gaps: Sequence[int]
    ) -> None:
        self._gaps = gaps
        self._made: dict[int, dict[bytes, StoreRecord]] = {}  # revision -> what it made
        self._untouched: dict[int, set[bytes]] = {gap: set() for gap in gaps}
        self._bounds: dict[int, list[_Bound]] = {gap: [] for gap in gaps}
        self._revisions_of: dict[bytes, set[int]] = {}  # value -> revisions that made it
        last_seen: dict[StoreRecord, int] = {}
        for operation in operations:
            if isinstance(operation.answer, StoreTxnAnswer):
                for record, seen_at in _seen(operation.request, operation.answer):
                    last_seen[record] = max(last_seen.get(record, 0), seen_at)
        # Of each key, by its creation: the versions that were seen by their revisions, and the last sight.
        lives: dict[tuple[bytes, int], dict[int, int]] = {}
        ends: dict[tuple[bytes, int], int] = {}
        for record, seen_at in last_seen.items():
            self._add(record, seen_at)
            life = record.key, record.created
            lives.setdefault(life, {record.created: 1})[record.changed] = record.version
            ends[life] = max(ends.get(life, 0), record.changed, seen_at)
        for (key, created), versions in lives.items():
            self._bound(key, created, sorted(versions.items()), ends[key, created])

    def allow(self, revision: int, changes: Changes, before: StoreModel) -> bool:
        """Whether these may be the changes of that revision, a gap, by all that was ever seen."""
        made = self._made.get(revision, {})
        if any(changes.get(key) != record for key, record in made.items()):
            return False
        if not self._untouched[revision].isdisjoint(changes):
            return False
        for key, created, next_version, slots in self._bounds[revision]:
            after = changes[key] if key in changes else before.at(key, revision - 1)
            if after is None or after.created != created:
                return False
            if next_version is not None and not 0 <= next_version - 1 - after.version <= slots:
                return False
        return True

    def shows_elsewhere(self, request: StoreRequest, revision: int) -> bool:
        """Whether a value that the request puts was seen, and not as made by that revision."""
        assert isinstance(request, StoreTxn)
        return any(
            (revisions := self._revisions_of.get(value)) and revision not in revisions
            for value in _values(request)
        )

    def _add(self, record: StoreRecord, seen_at: int) -> None:
        made = self._made.setdefault(record.changed, {})
        if made.setdefault(record.key, record) != record:
            raise NotLinearizable(f"a revision has made both {record} and {made[record.key]}")
        self._revisions_of.setdefault(record.value, set()).add(record.changed)
        for gap in self._between(record.changed, seen_at + 1):
            self._untouched[gap].add(record.key)

    def _bound(self, key: bytes, created: int, versions: list[tuple[int, int]], seen_at: int) -> None:
        """Bound a key from its creation until it was seen last; `versions` are its revisions and versions."""
        for (changed, version), (next_changed, next_version) in pairwise(versions):
            between = self._between(changed, next_changed)
            if next_version == version + 1:
                for gap in between:
                    self._untouched[gap].add(key)
            slots = [gap for gap in between if key not in self._untouched[gap]]
            for gap in self._between(changed - 1, next_changed):
                left = len(slots) - bisect_right(slots, gap)
                self._bounds[gap].append(_Bound(key, created, next_version, left))
        for gap in self._between(versions[-1][0] - 1, seen_at + 1):
            self._bounds[gap].append(_Bound(key, created, None, 0))

    def _between(self, first: int, last: int) -> Sequence[int]:
        """The gaps after the first revision and before the last."""
        return self._gaps[bisect_right(self._gaps, first) : bisect_left(self._gaps, last)]


def _seen(request: StoreRequest, answer: StoreTxnAnswer) -> Iterator[tuple[StoreRecord, int]]:
    """What an answer shows, with the last revision that left it so, as far as the answer tells."""
    txn = request.txn if isinstance(request, StoreStaleRead) else request
    assert isinstance(txn, StoreTxn)
    return _seen_in(txn, answer, answer.revision - has_changed(answer))


def _seen_in(txn: StoreTxn, answer: StoreTxnAnswer, base: int) -> Iterator[tuple[StoreRecord, int]]:
    operations = txn.success if answer.succeeded else txn.failure
    for operation, result in zip(operations, answer.results, strict=False):
        match operation, result:
            case _, StorePutAnswer(record, previous):
                yield record, base
                if previous is not None:
                    yield previous, base
            case _, StoreDeleteAnswer(_, records):
                yield from ((record, base) for record in records)
            case StoreGet(), StoreGetAnswer(records):
                at = base if operation.revision is None else operation.revision
                yield from ((record, at) for record in records)
            case StoreTxn(), StoreTxnAnswer():
                yield from _seen_in(operation, result, base)


def _values(txn: StoreTxn) -> Iterator[bytes]:
    for operation in (*txn.success, *txn.failure):
        if isinstance(operation, StorePut):
            yield operation.value
        elif isinstance(operation, StoreTxn):
            yield from _values(operation)
