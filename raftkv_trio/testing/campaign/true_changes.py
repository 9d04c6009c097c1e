"""What the committed log has made of the store, revision by revision: what everything that is told must be.

It runs the log on a store of its own. That the store's results are right is another check's matter
(`histories/revision_order.py`); here it counts that all that nodes tell is of that log, and of nothing else.
"""

from collections.abc import Iterable, Iterator

from raftkv_trio.access.watching import Change
from raftkv_trio.kv import Get, KeyValue, Store
from raftkv_trio.payload.proposal import decode_proposal
from raftkv_trio.raft.types import Entry
from raftkv_trio.state_machine import Committed


class TrueChanges:
    """All changes of the committed entries.

    Attributes:
        revision: the last one.
        indexes: of the entry that has made each revision.
        compactions: the compacted revision, by the index of the entry that has compacted so far.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._changes: dict[int, list[tuple[Change, KeyValue | None]]] = {}
        self.indexes: dict[int, int] = {}
        self.compactions: dict[int, int] = {}
        store = Store()
        for entry in entries:
            before, compacted = store.revision, store.compacted_revision
            store.apply([Committed(entry.term, entry.index, decode_proposal(entry.data)[1])])
            if store.compacted_revision != compacted:
                self.compactions[entry.index] = store.compacted_revision
            for revision, keys in store.changes(before + 1):
                self.indexes[revision] = entry.index
                self._changes[revision] = [_change(store, revision, key) for key in keys]
        self.revision = store.revision

    def between(self, first: int, last: int) -> Iterator[tuple[Change, KeyValue | None]]:
        """The changes of some revisions, each with what it has replaced; the last revision included."""
        for revision in range(max(first, 2), min(last, self.revision) + 1):
            yield from self._changes[revision]

    def compacted_by(self, revision: int) -> int | None:
        """The index of the first entry after which a revision cannot be read; None: it always can."""
        return min([index for index, at in self.compactions.items() if at > revision], default=None)


def _change(store: Store, revision: int, key: bytes) -> tuple[Change, KeyValue | None]:
    past = _at(store, key, revision - 1) if revision - 1 >= store.compacted_revision else None
    return Change(revision, key, _at(store, key, revision)), past


def _at(store: Store, key: bytes, revision: int) -> KeyValue | None:
    found = store.read(Get(key, revision=revision)).key_values
    return found[0] if found else None
