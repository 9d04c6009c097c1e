"""What one revision changed, read from the store and encoded once for all watchers that are told."""

from collections.abc import Callable
from typing import NamedTuple

from raftkv_trio.kv import Get, KeyValue, Store


class Change(NamedTuple):
    """What a revision made of a key.

    Attributes:
        key_value: None: the revision deleted the key.
    """

    revision: int
    key: bytes
    key_value: KeyValue | None


#: Encodes a change, and what it replaced: None if there was nothing, it is compacted, or nobody wants it.
Encoder = Callable[[Change, KeyValue | None], bytes]


class Telling:
    """One key that a revision changed, read when it is first needed.

    Args:
        store: at the revision or later; the revision itself must not be compacted.
    """

    __slots__ = ("_change", "_is_delete", "_key", "_revision", "_store")

    def __init__(self, store: Store, revision: int, key: bytes) -> None:
        self._store = store
        self._revision = revision
        self._key = key
        self._change: Change | None = None
        self._is_delete = False

    @property
    def is_delete(self) -> bool:
        """Whether the revision deleted the key."""
        if self._change is None:
            self._read()
        return self._is_delete

    def encode(self, encoder: Encoder, with_previous: bool) -> bytes:
        """The change as a client of this encoder is told it."""
        return encoder(self._change or self._read(), self._previous() if with_previous else None)

    def _read(self) -> Change:
        self._change = change = Change(self._revision, self._key, self._at(self._revision))
        self._is_delete = change.key_value is None
        return change

    def _previous(self) -> KeyValue | None:
        revision = self._revision - 1
        return None if revision < max(self._store.compacted_revision, 1) else self._at(revision)

    def _at(self, revision: int) -> KeyValue | None:
        found = self._store.read(Get(self._key, None, None, revision)).key_values
        return found[0] if found else None
