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
from typing import NamedTuple
from weakref import ref

from sortedcontainers import SortedDict

from raftkv_trio.errors import UpgradeNeeded
from raftkv_trio.kv.checks import InvalidTxn
from raftkv_trio.kv.codec import check_version, decode_old, decode_request, is_version_3
from raftkv_trio.kv.compares import holds
from raftkv_trio.kv.record import (
    DIGEST_BYTES,
    KeyValue,
    create_revision_and_version,
    digest_of,
    pack,
    size_of,
    unpack,
)
from raftkv_trio.kv.results import (
    CommandFailed,
    CompactedRevision,
    CompactResult,
    DeleteResult,
    Failed,
    FutureRevision,
    GetResult,
    KeyNotFound,
    LeaseNotFound,
    OperationResult,
    OverQuota,
    PutResult,
    QuotaExceeded,
    Rejected,
    Result,
    TxnResult,
)
from raftkv_trio.kv.snapshot import PinnedView, SnapshotReader, write_snapshot
from raftkv_trio.kv.txn import (
    TO_THE_LAST,
    Compact,
    Compare,
    Delete,
    Get,
    Operation,
    Put,
    Txn,
    is_read_only,
)
from raftkv_trio.state_machine import Committed

#: The revision of a store before its first write.
EMPTY_REVISION = 1
#: Feature levels. At the first one, a store runs commands of versions 1 and 2 only.
FIRST_LEVEL, HIGHEST_LEVEL = 1, 2
#: The compacted revision of a store before its first compaction, as in etcd.
NEVER_COMPACTED = -1

_DIGEST_MASK = 2 ** (8 * DIGEST_BYTES) - 1

_STATE = Struct(">Q16s")


class _Path(NamedTuple):
    """What of a txn is run: one of its two lists, and of each inner txn in it in turn."""

    succeeded: bool
    operations: tuple[Operation, ...]
    inner: "tuple[_Path, ...]"


class Store:
    """The key-value store, a `StateMachine`. Reads show what is applied so far.

    Attributes:
        revision: the revision of the last txn that changed something; 1 before the first one.
        size_bytes: of all present keys and values together.
        level: the feature level (`set_level`).
        compacted_revision: that of the last compaction; -1 before the first one. What was before it cannot be
            read any more.
    """

    def __init__(self) -> None:
        self.level = HIGHEST_LEVEL
        self.compacted_revision = NEVER_COMPACTED
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

    def read(self, get: Get) -> GetResult:
        """What a get shows at this moment.

        Raises FutureRevision or CompactedRevision if the store does not have the get's revision.
        """
        self._check_revision(get.revision)
        return self._get(get, self.revision)

    def read_txn(self, txn: Txn) -> TxnResult:
        """What a txn without puts and deletes shows at this moment.

        Raises InvalidTxn if the txn may write, and otherwise what `run` raises.
        """
        if not is_read_only(txn):
            raise InvalidTxn("a txn that may write needs a command")
        return self.run(txn)

    def set_level(self, level: int) -> None:
        """Raise the feature level, which decides what versions of commands the store runs.

        Whoever applies the log calls this, at the same place of the log on all nodes. The level is lowered
        only before anything is applied.
        """
        if level not in (FIRST_LEVEL, HIGHEST_LEVEL):
            raise UpgradeNeeded("the store is to be", level, HIGHEST_LEVEL)
        if level < self.level and (self._records or self.revision > EMPTY_REVISION):
            raise ValueError(
                f"a store of level {self.level} that holds something does not go back to {level}"
            )
        self.level = level

    @property
    def state_hash(self) -> str:
        """32 hexadecimal digits, equal if revision and key-values are equal."""
        return _state_hash(self.revision, self._digest_sum)

    # ------------------------------------------------------------ the state machine

    def apply(self, batch: Sequence[Committed]) -> list[Result]:
        """Run encoded commands in order; returns one result for each.

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

    # ------------------------------------------------------------ commands

    def _apply(self, committed: Committed) -> Result:
        command = committed.command
        try:
            if is_version_3(command):
                return self._apply_version_3(command)
            return self.run(decode_old(command))
        except InvalidTxn as error:
            return Rejected(str(error))
        except QuotaExceeded as error:
            return OverQuota(error.size_bytes, error.quota_bytes)
        except CommandFailed as error:
            return Failed(error.failure)
        except UpgradeNeeded as error:
            # Not a result: on upgraded members this command has an effect, so the states would differ from
            # here on, and nobody would notice.
            what = f"entry {committed.index} holds a command"
            raise UpgradeNeeded(what, error.version, error.known) from error

    def _apply_version_3(self, command: bytes) -> Result:
        if self.level == FIRST_LEVEL:
            return Rejected("the cluster has not reached the feature level of this command")
        decoded, _ = decode_request(command)
        return self.compact(decoded.revision) if isinstance(decoded, Compact) else self.run(decoded)

    def compact(self, revision: int) -> CompactResult:
        """Run a compaction as if it came from the log; raises FutureRevision or CompactedRevision."""
        if revision <= self.compacted_revision:
            raise CompactedRevision(revision, self.compacted_revision)
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        self.compacted_revision = revision
        return CompactResult(self.revision)

    def run(self, txn: Txn) -> TxnResult:
        """Run one txn as if it came from the log.

        Raises InvalidTxn if a compare's operand does not fit its target, QuotaExceeded, and CommandFailed;
        nothing has changed then. Apart from that, the txn must be one that `encode_command` accepts.
        """
        path = self._choose(txn)
        if self.level > FIRST_LEVEL:
            self._check_puts(path)
            self._check_gets(path)
        if txn.quota_bytes is not None:
            self._check_quota(path, txn.quota_bytes)
        changed: list[bytes] = []
        result = self._run_path(path, self.revision + 1, changed)
        if changed:
            self.revision += 1
        return result

    # Compares and checks of all that is to be run come before the first change.

    def _choose(self, txn: Txn) -> _Path:
        succeeded = not txn.compares or all(map(self._holds, txn.compares))
        operations = txn.success if succeeded else txn.failure
        inner = [self._choose(operation) for operation in operations if type(operation) is Txn]
        return _Path(succeeded, operations, tuple(inner))

    def _holds(self, compare: Compare) -> bool:
        if compare.range_end is None:
            record = self.get(compare.key)
            return holds(compare, () if record is None else (record,))
        first, last = self._bounds(compare.key, compare.range_end)
        records = self._records
        return holds(compare, (unpack(key, records[key]) for key in records.islice(first, last)))

    def _check_puts(self, path: _Path) -> None:
        inner = iter(path.inner)
        for operation in path.operations:
            if type(operation) is Put:
                if (operation.keeps_value or operation.keeps_lease) and operation.key not in self._records:
                    raise KeyNotFound
                if operation.lease:
                    raise LeaseNotFound(operation.lease)
            elif type(operation) is Txn:
                self._check_puts(next(inner))

    def _check_gets(self, path: _Path) -> None:
        inner = iter(path.inner)
        for operation in path.operations:
            if type(operation) is Get:
                self._check_revision(operation.revision)
            elif type(operation) is Txn:
                self._check_gets(next(inner))

    def _check_revision(self, revision: int | None) -> None:
        if revision is None:
            return
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        if revision < self.compacted_revision:
            raise CompactedRevision(revision, self.compacted_revision)

    def _check_quota(self, path: _Path, quota_bytes: int) -> None:
        """Raises QuotaExceeded if the puts on the path make the store larger, and too large."""
        grown_bytes = self._growth_bytes(path)
        if grown_bytes > 0 and self.size_bytes + grown_bytes > quota_bytes:
            raise QuotaExceeded(self.size_bytes, quota_bytes)

    def _growth_bytes(self, path: _Path) -> int:
        grown_bytes = 0
        for operation in path.operations:
            if type(operation) is Put and not operation.keeps_value:
                old = self._records.get(operation.key)
                old_bytes = size_of(operation.key, old) if old is not None else 0
                grown_bytes += len(operation.key) + len(operation.value) - old_bytes
        return grown_bytes + sum(map(self._growth_bytes, path.inner))

    def _run_path(self, path: _Path, revision: int, changed: list[bytes]) -> TxnResult:
        """Run what is chosen and checked; adds the keys that change to `changed`, in order."""
        inner = iter(path.inner)
        results: list[OperationResult] = []
        for operation in path.operations:
            if type(operation) is Put:
                results.append(self._put(operation, revision))
                changed.append(operation.key)
            elif type(operation) is Get:
                results.append(self._get(operation, revision if changed else self.revision))
            elif type(operation) is Delete:
                deleted = self._delete(operation.key, operation.range_end)
                results.append(deleted)
                changed += deleted.keys
            else:
                results.append(self._run_path(next(inner), revision, changed))
        return TxnResult(path.succeeded, revision if changed else self.revision, tuple(results))

    def _get(self, get: Get, revision: int) -> GetResult:
        key, range_end, limit, past = get
        if past is not None and past != self.revision:
            raise CompactedRevision(past, self.compacted_revision)
        if range_end is None:
            record = self.get(key)
            if record is None:
                return GetResult((), 0, revision)
            return GetResult((record,) if limit != 0 else (), 1, revision)
        first, last = self._bounds(key, range_end)
        return GetResult(tuple(self.range(key, range_end, limit)), last - first, revision)

    def _put(self, put: Put, revision: int) -> PutResult:
        key, value, lease, keeps_value, keeps_lease = put
        old = self._before_change(key)
        if old is None:
            create_revision, version = revision, 0
        else:
            create_revision, version = create_revision_and_version(old)
            if keeps_value or keeps_lease:
                present = unpack(key, old)
                value = present.value if keeps_value else value
                lease = present.lease if keeps_lease else lease
        # The map keeps the key that it has: a second object of the same key would cost memory.
        self._records[key] = record = pack(value, create_revision, revision, version + 1, lease)
        self.size_bytes += size_of(key, record)
        self._digest_sum = (self._digest_sum + digest_of(key, record)) & _DIGEST_MASK
        return PutResult(KeyValue(key, value, create_revision, revision, version + 1, lease), old)

    def _delete(self, key: bytes, range_end: bytes | None) -> DeleteResult:
        if range_end is None:
            doomed = (key,) if key in self._records else ()
        else:
            doomed = tuple(self._records.islice(*self._bounds(key, range_end)))
        for doomed_key in doomed:
            self._before_change(doomed_key)
        return DeleteResult(
            len(doomed), doomed, tuple([self._records.pop(doomed_key) for doomed_key in doomed])
        )

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
