"""The key-value state machine: a revisioned, ordered map in the sense of etcd v3.

Pure and deterministic: no clock, no I/O, no hash order. The same log gives the same revisions, results, state
hash and bytes of snapshot on every node. The rules:

- An empty store is at revision 1, as in etcd, so the first change makes revision 2. Revision 0 stands for a
  key that does not exist.
- A txn that changes something takes exactly one revision. A txn that changes nothing takes none.
- A command that is not a valid txn has a result, `Rejected`, the same on every node, and never raises.
- A txn that would make the store larger than the quota that it names itself changes nothing, and has a result
  too: `OverQuota`. What counts is the bytes of all keys and values. No node's own configuration is asked.
- A command of a newer version of this program raises `UpgradeNeeded`: only an upgraded node knows its effect.
- A `KeyValue` is immutable, so a caller may keep what it has read.

The **state hash** depends on the state alone, not on how it came about: each key-value has a 128-bit digest;
the store keeps the sum of all digests modulo 2**128, which a change updates in O(1); the hash is a digest of
that sum and the revision. It shows when the states of two nodes differ, and it checks a restored snapshot. It
is no protection against a client that chooses values in order to make two states collide.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from struct import Struct
from typing import TypeVar
from weakref import ref

from sortedcontainers import SortedDict

from raftkv_trio.errors import UpgradeNeeded
from raftkv_trio.kv.codec import check_version, decode_txn
from raftkv_trio.kv.record import (
    DIGEST_BYTES,
    create_revision_and_version,
    digest_of,
    pack,
    size_of,
    unpack,
)
from raftkv_trio.kv.snapshot import PinnedView, SnapshotReader, write_snapshot
from raftkv_trio.kv.txn import (
    TO_THE_LAST,
    Compare,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    InvalidTxn,
    KeyValue,
    Operation,
    OperationResult,
    OverQuota,
    Put,
    PutResult,
    QuotaExceeded,
    Rejected,
    Relation,
    Target,
    Txn,
    TxnResult,
)
from raftkv_trio.state_machine import Committed

#: The revision of a store before its first write.
EMPTY_REVISION = 1

_DIGEST_MASK = 2 ** (8 * DIGEST_BYTES) - 1
Operand = TypeVar("Operand", int, bytes)

_STATE = Struct(">Q16s")


class Store:
    """The key-value store, a `StateMachine`. Reads show what is applied so far.

    Attributes:
        revision: the revision of the last txn that changed something; 1 before the first one.
        size_bytes: of all keys and values together.
    """

    def __init__(self) -> None:
        self.revision = EMPTY_REVISION
        self.size_bytes = 0
        self._records = SortedDict()  # key -> its record (`kv/record.py`)
        self._digest_sum = 0
        # Of snapshots that are still being read. No WeakSet, which each change of a key would iterate over:
        # that takes as long as all the rest of the change.
        self._views: list[ref[PinnedView]] = []

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: bytes) -> KeyValue | None:
        """The key-value of `key`; None if the key does not exist."""
        record: bytes | None = self._records.get(key)
        return None if record is None else unpack(key, record)

    def range(self, start: bytes, end: bytes = TO_THE_LAST, limit: int | None = None) -> list[KeyValue]:
        """The key-values from `start` up to, but not including, `end`, in order, at most `limit` of them."""
        first, last = self._bounds(start, end)
        stop = last if limit is None else min(last, first + limit)
        return [unpack(key, self._records[key]) for key in self._records.islice(first, stop)]

    @property
    def state_hash(self) -> str:
        """32 hexadecimal digits, equal if revision and key-values are equal."""
        return _state_hash(self.revision, self._digest_sum)

    # ------------------------------------------------------------ the state machine

    def apply(self, batch: Sequence[Committed]) -> list[TxnResult | Rejected | OverQuota]:
        """Run encoded txns in order; returns one result for each.

        Raises UpgradeNeeded for a command of a newer version; those before it are applied.
        """
        return [self._apply(committed) for committed in batch]

    def snapshot(self) -> Iterator[bytes]:
        """The state at this call, in chunks of about 64 KiB; a larger key-value is a chunk of its own.

        The call itself takes next to no time and memory. While chunks are left, the store keeps the old form
        of each key-value that changes and was not in a chunk yet. Take chunks only between calls of `apply`,
        in the same thread. To give up early, drop the iterator.
        """
        view = PinnedView(self._records)
        self._views.append(ref(view, self._views.remove))
        return write_snapshot(view, self.revision, self.state_hash)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state with that of a snapshot.

        Raises:
            CorruptLog: the chunks are no snapshot, or do not have its state hash. The store must not be used
                after that.
        """
        # Drop the old state first, so that memory need not hold two.
        self._records, self._digest_sum, self.size_bytes = SortedDict(), 0, 0
        # Views of the old state go on with the old records.
        self._views = []
        reader = SnapshotReader(chunks)
        self.revision = reader.revision
        self._records.update(reader)
        self._digest_sum = reader.digest_sum & _DIGEST_MASK
        self.size_bytes = reader.size_bytes
        reader.verify(self.state_hash)

    def verify(self, chunks: Iterable[bytes]) -> None:
        """Raise CorruptLog or UpgradeNeeded unless `restore` would accept these chunks.

        It neither reads nor changes this store, so it may run in another thread.
        """
        reader = SnapshotReader(chunks)
        for _ in reader:
            pass
        reader.verify(_state_hash(reader.revision, reader.digest_sum & _DIGEST_MASK))

    def check_command(self, command: bytes) -> None:
        """Raise UpgradeNeeded for a command of a newer version, which `apply` could not run.

        Any other command has a result.
        """
        check_version(command)

    # ------------------------------------------------------------ txns

    def run(self, txn: Txn) -> TxnResult:
        """Run one txn as if it came from the log.

        Raises InvalidTxn if a compare's operand does not fit its target, and QuotaExceeded; nothing has
        changed then. Apart from that, the txn must be one that `encode_txn` accepts.
        """
        succeeded = not txn.compares or all(map(self._holds, txn.compares))
        operations = txn.success if succeeded else txn.failure
        if txn.quota_bytes is not None:
            self._check_quota(operations, txn.quota_bytes)
        revision = self.revision + 1
        results = tuple([self._operate(operation, revision) for operation in operations])
        if any(map(_has_changed, results)):
            self.revision = revision
        return TxnResult(succeeded, self.revision, results)

    def _check_quota(self, operations: Sequence[Operation], quota_bytes: int) -> None:
        """Raises QuotaExceeded if the puts among `operations` make the store larger, and too large."""
        grown_bytes = 0
        for operation in operations:
            if isinstance(operation, Put):
                old = self._records.get(operation.key)
                old_bytes = size_of(operation.key, old) if old is not None else 0
                grown_bytes += len(operation.key) + len(operation.value) - old_bytes
        if grown_bytes > 0 and self.size_bytes + grown_bytes > quota_bytes:
            raise QuotaExceeded(self.size_bytes, quota_bytes)

    def _apply(self, committed: Committed) -> TxnResult | Rejected | OverQuota:
        try:
            return self.run(decode_txn(committed.command))
        except InvalidTxn as error:
            return Rejected(str(error))
        except QuotaExceeded as error:
            return OverQuota(error.size_bytes, error.quota_bytes)
        except UpgradeNeeded as error:
            # Not a result: on upgraded members this command has an effect, so the states would differ from
            # here on, and nobody would notice.
            what = f"entry {committed.index} holds a command"
            raise UpgradeNeeded(what, error.version, error.known) from error

    def _holds(self, compare: Compare) -> bool:
        record = self.get(compare.key)
        relation = compare.relation
        match compare.target, compare.operand:
            case Target.VALUE, bytes() as value:
                return record is not None and _stands(record.value, relation, value)
            case Target.VERSION, int() as number:
                return _stands(record.version if record else 0, relation, number)
            case Target.CREATE_REVISION, int() as number:
                return _stands(record.create_revision if record else 0, relation, number)
            case Target.MOD_REVISION, int() as number:
                return _stands(record.mod_revision if record else 0, relation, number)
        raise InvalidTxn("the operand of a compare must be bytes for VALUE, else an integer")

    def _operate(self, operation: Operation, revision: int) -> OperationResult:
        if type(operation) is Put:  # before the others, and without a pattern: a start does this for each key
            return PutResult(self._put(*operation, revision))
        match operation:
            case Put(key, value, lease):
                return PutResult(self._put(key, value, lease, revision))
            case Delete(key, range_end):
                return DeleteResult(self._delete(key, range_end))
            case Get(key, range_end, limit):
                return self._get(key, range_end, limit)

    def _get(self, key: bytes, range_end: bytes | None, limit: int | None) -> GetResult:
        if range_end is None:
            record = self.get(key)
            return GetResult((record,), 1) if record else GetResult((), 0)
        first, last = self._bounds(key, range_end)
        return GetResult(tuple(self.range(key, range_end, limit)), last - first)

    def _put(self, key: bytes, value: bytes, lease: int | None, revision: int) -> KeyValue:
        old = self._before_change(key)
        create_revision, version = (revision, 0) if old is None else create_revision_and_version(old)
        # The map keeps the key that it has: a second object of the same key would cost memory.
        self._records[key] = record = pack(value, create_revision, revision, version + 1, lease)
        self.size_bytes += size_of(key, record)
        self._digest_sum = (self._digest_sum + digest_of(key, record)) & _DIGEST_MASK
        return KeyValue(key, value, create_revision, revision, version + 1, lease)

    def _delete(self, key: bytes, range_end: bytes | None) -> int:
        if range_end is None:
            doomed = [key] if key in self._records else []
        else:
            doomed = list(self._records.islice(*self._bounds(key, range_end)))
        for doomed_key in doomed:
            self._before_change(doomed_key)
            del self._records[doomed_key]
        return len(doomed)

    def _before_change(self, key: bytes) -> bytes | None:
        """Take the record out of digest and size, and keep it for snapshots that have not passed it yet."""
        old: bytes | None = self._records.get(key)
        if old is not None:
            self._digest_sum = (self._digest_sum - digest_of(key, old)) & _DIGEST_MASK
            self.size_bytes -= size_of(key, old)
        for view in self._views:
            if (pinned := view()) is not None:
                pinned.keep(key, old)
        return old

    def _bounds(self, start: bytes, end: bytes) -> tuple[int, int]:
        """The positions of a range in the order of keys: first, and behind the last."""
        first: int = self._records.bisect_left(start)
        last: int = len(self._records) if end == TO_THE_LAST else self._records.bisect_left(end)
        return first, max(first, last)


def _state_hash(revision: int, digest_sum: int) -> str:
    state = _STATE.pack(revision, digest_sum.to_bytes(DIGEST_BYTES, "big"))
    return blake2b(state, digest_size=DIGEST_BYTES).hexdigest()


def _has_changed(result: OperationResult) -> bool:
    return isinstance(result, PutResult) or (isinstance(result, DeleteResult) and result.deleted > 0)


def _stands(actual: Operand, relation: Relation, operand: Operand) -> bool:
    match relation:
        case Relation.EQUAL:
            return actual == operand
        case Relation.NOT_EQUAL:
            return actual != operand
        case Relation.GREATER:
            return actual > operand
        case Relation.LESS:
            return actual < operand
