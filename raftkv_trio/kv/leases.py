"""The leases of a store, and the keys that are attached to them.

A key is attached to the lease that its record names, if that lease exists, and was granted before the key was
put: records of feature level 1 may name any lease. So records and leases of a snapshot tell all attachments.

A lease is kept as one piece of bytes, for the reason that `record.py` gives:

    ttl in seconds u64 | granted revision u64 | renewal u64 | remaining seconds u64, 0 for none

This form is not written anywhere, and may change.
"""

from collections.abc import Collection, Iterable
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

from raftkv_trio.errors import CorruptLog
from raftkv_trio.kv.lease_commands import MAX_TTL_S
from raftkv_trio.kv.record import DIGEST_BYTES, mod_revision_of
from raftkv_trio.kv.snapshot import natural

#: What a lease counts against the quota of its grant: about the memory that it takes on a server.
LEASE_BYTES = 512
_LEASE = Struct(">QQQQ")
_ID = Struct(">Q")


class Lease(NamedTuple):
    """A lease.

    Attributes:
        ttl_s: how many seconds it lives after its last renewal.
        granted_revision: the store's when it was granted.
        renewal: the number of its last grant or renewal, of all that the store has counted.
        remaining_s: the seconds that it had left at its last checkpoint; 0 if there was none since it was
            renewed.
    """

    id: int
    ttl_s: int
    granted_revision: int
    renewal: int
    remaining_s: int = 0


class Leases:
    """All leases of a store.

    Attributes:
        records: id -> lease, in the form above, in the order of their grants.
        ever: how many grants and renewals there have been.
        digest_sum: of all leases, for the state hash.
        touched: ids of leases that were granted, renewed or checkpointed since somebody has taken them out of
            here. It is no part of the state: the task that watches over expiry reads it.
    """

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.ever = 0
        self.digest_sum = 0
        self.touched: dict[int, None] = {}
        self._keys: dict[int, bytes | set[bytes]] = {}  # of most leases it is one key

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, lease_id: object) -> bool:
        return lease_id in self.records

    # ------------------------------------------------------------ reads

    def get(self, lease_id: int) -> Lease | None:
        """The lease of this id; None if there is none."""
        record = self.records.get(lease_id)
        return None if record is None else Lease(lease_id, *_LEASE.unpack(record))

    def keys_of(self, lease_id: int) -> list[bytes]:
        """The keys that are attached to a lease, in order."""
        return sorted(self.attached(lease_id))

    def attached(self, lease_id: int) -> Collection[bytes]:
        """The same keys, in no order, to be read until the next change."""
        keys = self._keys.get(lease_id)
        if keys is None:
            return ()
        return (keys,) if isinstance(keys, bytes) else keys

    def key_count(self, lease_id: int) -> int:
        """How many keys are attached to a lease."""
        keys = self._keys.get(lease_id)
        if keys is None:
            return 0
        return 1 if isinstance(keys, bytes) else len(keys)

    # ------------------------------------------------------------ changes

    def grant(self, lease_id: int, ttl_s: int, revision: int) -> None:
        """Make a lease, whose id no lease has; `revision` is the store's."""
        self._count(lease_id, ttl_s, revision)

    def renew(self, lease_id: int) -> int:
        """Renew a lease; returns its whole time in seconds, or 0 if it does not exist."""
        record = self.records.get(lease_id)
        if record is None:
            return 0
        ttl_s, granted_revision, *_ = _LEASE.unpack(record)
        self.digest_sum -= _digest_of(lease_id, record)
        self._count(lease_id, ttl_s, granted_revision)
        return int(ttl_s)

    def checkpoint(self, lease_id: int, remaining_s: int) -> None:
        """Note how many seconds a lease that exists has left."""
        record = self.records[lease_id]
        self.digest_sum -= _digest_of(lease_id, record)
        ttl_s, granted_revision, renewal, _ = _LEASE.unpack(record)
        self._set(lease_id, _LEASE.pack(ttl_s, granted_revision, renewal, min(remaining_s, ttl_s)))

    def drop(self, lease_id: int) -> None:
        """Drop a lease that exists; its keys are deleted already."""
        self.digest_sum -= _digest_of(lease_id, self.records.pop(lease_id))
        self._keys.pop(lease_id, None)
        self.touched.pop(lease_id, None)

    def _count(self, lease_id: int, ttl_s: int, granted_revision: int) -> None:
        self.ever += 1
        self._set(lease_id, _LEASE.pack(ttl_s, granted_revision, self.ever, 0))

    def _set(self, lease_id: int, record: bytes) -> None:
        self.records[lease_id] = record
        self.digest_sum += _digest_of(lease_id, record)
        self.touched[lease_id] = None

    # ------------------------------------------------------------ keys

    def attach(self, lease_id: int, key: bytes) -> None:
        """A key is put with a lease. One that does not exist may come from a record of feature level 1."""
        if lease_id not in self.records:
            return
        keys = self._keys.get(lease_id)
        if keys is None:
            self._keys[lease_id] = key
        elif isinstance(keys, set):
            keys.add(key)
        elif keys != key:
            self._keys[lease_id] = {keys, key}

    def detach(self, lease_id: int, key: bytes) -> None:
        """A key with this lease is put with another one, or deleted."""
        keys = self._keys.get(lease_id)
        if isinstance(keys, set):
            keys.discard(key)
            if not keys:
                del self._keys[lease_id]
        elif keys == key:
            del self._keys[lease_id]

    # ------------------------------------------------------------ snapshots

    @classmethod
    def of(cls, items: Iterable[Any], ever: int, revision: int) -> "Leases":
        """The leases, without keys, of which a snapshot at a revision has these items; raises CorruptLog."""
        leases = cls()
        for fields in items:
            if type(fields) is not list or len(fields) != 5:
                raise CorruptLog("the store's snapshot has a lease of another form")
            lease_id, ttl_s, granted_revision, renewal, remaining_s = map(natural, fields)
            if not lease_id or not 1 <= ttl_s <= MAX_TTL_S or lease_id in leases.records:
                raise CorruptLog("the store's snapshot has a lease that no store grants, or one twice")
            if not 1 <= renewal <= ever or remaining_s > ttl_s or granted_revision > revision:
                raise CorruptLog("the store's snapshot has a lease with a number that is too large")
            leases._set(lease_id, _LEASE.pack(ttl_s, granted_revision, renewal, remaining_s))
        leases.ever = ever
        return leases

    def attach_restored(self, lease_id: int, key: bytes, record: bytes) -> None:
        """Attach a key whose record, in a snapshot, names this lease."""
        lease = self.get(lease_id)
        if lease is not None and mod_revision_of(record) > lease.granted_revision:
            self.attach(lease_id, key)


def fields_of_lease(lease_id: int, record: bytes) -> list[int]:
    """The fields of a lease, in their order."""
    return [lease_id, *_LEASE.unpack(record)]


def _digest_of(lease_id: int, record: bytes) -> int:
    data = _ID.pack(lease_id) + record
    return int.from_bytes(blake2b(data, digest_size=DIGEST_BYTES, person=b"lease").digest(), "big")
