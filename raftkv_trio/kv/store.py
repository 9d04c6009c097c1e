"""The key-value state machine: a revisioned, ordered map in the sense of etcd v3. Pure and deterministic.

A txn that changes something takes one new revision; one that changes nothing takes none. The state hash is
the XOR of a hash of every key-value with the revision: equal states have equal hashes, at O(1) a change.
"""

import hashlib
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import cbor2
from sortedcontainers import SortedDict

from raftkv_trio.kv.codec import Compare, Delete, MalformedCommand, Operation, Put, Txn, decode_txn
from raftkv_trio.machine import Committed

_RELATIONS = {"=": operator.eq, "!": operator.ne, ">": operator.gt, "<": operator.lt}
CHUNK_KEYS = 1000


class KeyValue(NamedTuple):
    """A key's value and where it comes from: revisions of its creation and last change, changes since."""

    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int | None = None


class TxnResult(NamedTuple):
    """What a txn did.

    Attributes:
        revision: the store's revision after it.
        succeeded: whether the compares held.
        deleted: how many keys it removed.
        current: the state, after it, of the first key that a compare names, or that an operation does.
        error: why the command made no sense, or None.
    """

    revision: int
    succeeded: bool
    deleted: int = 0
    current: KeyValue | None = None
    error: str | None = None


class Store:
    """The map; implements `machine.StateMachine`, and answers reads of what is applied."""

    def __init__(self) -> None:
        self._map: SortedDict = SortedDict()
        self.revision = 1
        self._hash = 0

    @property
    def state_hash(self) -> int:
        """64 bits that differ, all but certainly, where states do."""
        return self._hash ^ self.revision

    def get(self, key: bytes) -> KeyValue | None:
        found: KeyValue | None = self._map.get(key)
        return found

    def range(
        self, start: bytes, end: bytes | None, limit: int | None = None
    ) -> Iterator[tuple[bytes, KeyValue]]:
        """Keys from `start` up to and without `end` (None: to the last), in order, at most `limit`."""
        for count, key in enumerate(self._map.irange(start, end, inclusive=(True, False))):
            if limit is not None and count >= limit:
                return
            yield key, self._map[key]

    # ------------------------------------------------------------ StateMachine

    def apply(self, batch: Sequence[Committed]) -> list[TxnResult]:
        """Apply encoded txns in order; one result each."""
        return [self._apply(committed.command) for committed in batch]

    def snapshot(self) -> Iterator[bytes]:
        """The state at this call, in chunks of `CHUNK_KEYS` keys in key order."""
        pinned = list(self._map.items())  # references only: keys and values are never changed in place
        return self._chunks(self.revision, pinned)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Become the state that `snapshot` gave as chunks."""
        self._map.clear()
        self._hash = 0
        for chunk in chunks:
            self.revision, items = cbor2.loads(chunk)
            for key, *fields in items:
                self._set(key, KeyValue(*fields))

    # ------------------------------------------------------------ inside

    @staticmethod
    def _chunks(revision: int, pinned: list[tuple[bytes, KeyValue]]) -> Iterator[bytes]:
        for start in range(0, len(pinned) or 1, CHUNK_KEYS):
            items = [[key, *found] for key, found in pinned[start : start + CHUNK_KEYS]]
            yield cbor2.dumps([revision, items])

    def _apply(self, command: bytes) -> TxnResult:
        try:
            txn = decode_txn(command)
        except MalformedCommand as error:
            return TxnResult(self.revision, succeeded=False, error=str(error))
        succeeded = all(self._holds(compare) for compare in txn.compares)
        deleted, changed = 0, False
        for operation in txn.success if succeeded else txn.failure:
            removed = self._run(operation)
            deleted += removed
            changed = changed or removed > 0 or isinstance(operation, Put)
        if changed:
            self.revision += 1
        return TxnResult(self.revision, succeeded, deleted, self._current(txn))

    def _current(self, txn: Txn) -> KeyValue | None:
        named = txn.compares or txn.success or txn.failure
        return self.get(named[0].key) if named else None

    def _holds(self, compare: Compare) -> bool:
        found = self.get(compare.key)
        if compare.field == "value":
            return found is not None and bool(_RELATIONS[compare.op](found.value, compare.value))
        actual = {
            "version": found.version if found else 0,
            "create": found.create_revision if found else 0,
            "mod": found.mod_revision if found else 0,
        }[compare.field]
        return bool(_RELATIONS[compare.op](actual, compare.value))

    def _run(self, operation: Operation) -> int:
        """Do one operation at the txn's revision; how many keys it removed."""
        revision = self.revision + 1
        if isinstance(operation, Put):
            old = self.get(operation.key)
            self._set(
                operation.key,
                KeyValue(operation.value, old.create_revision, revision, old.version + 1)
                if old
                else KeyValue(operation.value, revision, revision, 1),
            )
            return 0
        keys = self._keys(operation)
        for key in keys:
            self._hash ^= _hash(key, self._map.pop(key))
        return len(keys)

    def _keys(self, operation: Delete) -> list[bytes]:
        if operation.end is None:
            return [operation.key] if operation.key in self._map else []
        return list(self._map.irange(operation.key, operation.end, inclusive=(True, False)))

    def _set(self, key: bytes, new: KeyValue) -> None:
        old = self.get(key)
        if old is not None:
            self._hash ^= _hash(key, old)
        self._map[key] = new
        self._hash ^= _hash(key, new)


def _hash(key: bytes, found: KeyValue) -> int:
    text = cbor2.dumps([key, *found])
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
