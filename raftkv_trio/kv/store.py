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

The **state hash** depends on the state alone, not on how it came about (`keyspace.py`). It shows when the
states of two nodes differ, and it checks a restored snapshot. It is no protection against a client that
chooses values in order to make two states collide.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol
from weakref import ref

from raftkv_trio.errors import CorruptLog, UpgradeNeeded
from raftkv_trio.kv.applying import result_of
from raftkv_trio.kv.auth.auth import Auth
from raftkv_trio.kv.auth.changes import run_auth_command
from raftkv_trio.kv.auth.commands import AuthCommand
from raftkv_trio.kv.auth.snapshot import AuthView
from raftkv_trio.kv.checks import InvalidTxn
from raftkv_trio.kv.codec import check_version
from raftkv_trio.kv.history import EMPTY_REVISION, NEVER_COMPACTED, History
from raftkv_trio.kv.history_snapshot import (
    HistoryReader,
    HistoryView,
    write_history_snapshot,
)
from raftkv_trio.kv.keyspace import Keyspace, old_state_hash, state_hash
from raftkv_trio.kv.lease_commands import (
    LeaseCommand,
)
from raftkv_trio.kv.leases import Leases
from raftkv_trio.kv.leasing import run_lease_command
from raftkv_trio.kv.levels import AUTH_LEVEL, FIRST_LEVEL, HISTORY_LEVEL, LEASES_LEVEL, LEVEL_NOT_REACHED
from raftkv_trio.kv.record import KeyValue
from raftkv_trio.kv.request_window import RequestWindow
from raftkv_trio.kv.results import (
    AuthChanged,
    CompactedRevision,
    CompactResult,
    FutureRevision,
    GetResult,
    LeaseResult,
    LeasesExpired,
    Result,
    TxnResult,
)
from raftkv_trio.kv.running import run_txn
from raftkv_trio.kv.snapshot import NO_BEGIN, ChunkReader, PinnedView, SnapshotReader, write_snapshot
from raftkv_trio.kv.txn import TO_THE_LAST, Get, Txn, is_read_only
from raftkv_trio.state_machine import Committed

#: Of snapshots, by feature level.
_VERSIONS = (1, 2, 3, 4)
#: Of stores below the feature level.
_NO_AUTH = Auth()


class Observer(Protocol):
    """Follows the revisions of a store, as watches do. It must neither change the store nor raise."""

    def applied(self) -> None:
        """Commands have been applied; the revision may have risen."""
        ...

    def compacting(self, revision: int) -> None:
        """The history up to a revision is about to be compacted, and can be read for the last time."""
        ...

    def auth_changed(self) -> None:
        """A command has changed users, roles or permissions, or whether they count.

        All commands before it have been applied, and none after it.
        """
        ...

    def restored(self) -> None:
        """A snapshot has replaced the state. Called in the thread that restores."""
        ...


class Store:
    """The key-value store, a `StateMachine`. Reads show what is applied so far.

    It begins at the highest feature level. A cluster with members of an older release has its stores at a
    lower one (`set_level`), where they are as they were in that release. At level 1 they have no history,
    commands of versions 1 and 2, and snapshots of version 1; at level 2 they have no leases, commands up to
    version 3, and snapshots of version 2; at level 3 they have no users and roles, commands up to version 4,
    and snapshots of version 3.

    Attributes:
        observer: who follows the revisions; None: nobody.
        expired_leases: how many leases have expired by the commands that this object has applied. It is no
            part of the state.
        requests: which requests were run, and their answers; commands alone change it.
    """

    def __init__(self) -> None:
        self.observer: Observer | None = None
        self.expired_leases = 0
        self._space = Keyspace(History(NEVER_COMPACTED), Leases())
        self.requests = RequestWindow()
        self._auth: Auth | None = Auth()  # None below feature level 4

    def __len__(self) -> int:
        return len(self._space.records)

    @property
    def revision(self) -> int:
        """The revision of the last txn that changed something; 1 before the first one."""
        return self._space.revision

    @property
    def size_bytes(self) -> int:
        """The bytes of all present keys and values together."""
        return self._space.size_bytes

    @property
    def history_bytes(self) -> int:
        """The bytes of all that later revisions superseded and no compaction dropped: keys, values, heads."""
        history = self._space.history
        return 0 if history is None else history.past_bytes

    @property
    def compacted_revision(self) -> int:
        """The first revision that can be read: that of the last compaction, -1 before it, as in etcd.

        At feature level 1 it is `revision`.
        """
        return self._space.compacted_revision

    def compaction_step(self, most: int) -> int:
        """Up to which revision a compaction may go that passes so many changes of keys, or one revision.

        A compaction takes about 10 µs for each of them, and nothing else happens meanwhile.
        """
        history = self._space.history
        return self.revision if history is None else history.step(most)

    @property
    def level(self) -> int:
        """The feature level (`set_level`)."""
        if self._space.history is None:
            return FIRST_LEVEL
        if self._space.leases is None:
            return HISTORY_LEVEL
        return LEASES_LEVEL if self._auth is None else AUTH_LEVEL

    @property
    def leases(self) -> Leases:
        """The leases, to be read; none at all below feature level 3."""
        leases = self._space.leases
        return Leases() if leases is None else leases

    @property
    def auth(self) -> Auth:
        """Users, roles and permissions, to be read, and to be asked who may do what.

        Below feature level 4 there are none, and authentication is disabled. A restore makes a new object.
        """
        return _NO_AUTH if self._auth is None else self._auth

    def set_level(self, level: int) -> None:
        """Raise the feature level, which decides what versions of commands the store runs.

        Whoever applies the log calls this, at the same place of the log on all nodes. At level 2 the history
        begins, as after a compaction at this revision; at level 3 there may be leases, and at level 4 users.
        The level is lowered only before anything is applied.

        Raises UpgradeNeeded for a level that this program does not know.
        """
        if not FIRST_LEVEL <= level <= AUTH_LEVEL:
            raise UpgradeNeeded("the store is to be", level, AUTH_LEVEL)
        space = self._space
        if level < self.level and not self._is_initial():
            raise ValueError(f"a store of level {self.level} that has applied something does not go back")
        if level == FIRST_LEVEL:
            space.history = None
        elif space.history is None:
            space.history = History(self.revision)
        if level < LEASES_LEVEL:
            space.leases = None
        elif space.leases is None:
            space.leases = Leases()
        if level < AUTH_LEVEL:
            self._auth = None
        elif self._auth is None:
            self._auth = Auth()

    def _is_initial(self) -> bool:
        """Whether nothing is applied that a snapshot would tell of."""
        return (
            self.revision == EMPTY_REVISION
            and self.compacted_revision == NEVER_COMPACTED
            and not self.requests.ever
            and not self.leases.ever
            and self.auth.is_initial
        )

    # ------------------------------------------------------------ reads

    def get(self, key: bytes) -> KeyValue | None:
        """The key-value of `key`; None if the key does not exist."""
        return self._space.get(key)

    def range(self, start: bytes, end: bytes = TO_THE_LAST, limit: int | None = None) -> list[KeyValue]:
        """The key-values from `start` up to, but not including, `end`, in order, at most `limit` of them."""
        return self._space.range(start, end, limit)

    def read(self, get: Get) -> GetResult:
        """What a get shows at this moment.

        Raises FutureRevision or CompactedRevision if the store does not have that revision.
        """
        if get.revision is not None:
            self._space.check_revision(get.revision)
        return self._space.read(get, self.revision)

    def pages(self, get: Get, most: int, most_bytes: int) -> Iterator[Sequence[KeyValue]]:
        """All key-values of a get of a range, for who has other work to do: its limit does not count.

        They are those of its revision, or of the store's at the first page. A page passes so many keys at
        most, and ends with the key-value that makes it larger than so many bytes. Between two pages the store
        may apply commands, or be restored.

        Raises FutureRevision or CompactedRevision, also if a compaction overtakes it.
        """
        if get.range_end is None:
            raise ValueError("a single key has no pages")
        past = self.revision if get.revision is None else get.revision
        # A restore makes a new keyspace, and leaves the one that is read as it is.
        return self._space.pages(get.key, get.range_end, past, most, most_bytes)

    def read_txn(self, txn: Txn) -> TxnResult:
        """What a txn without puts and deletes shows at this moment.

        Raises InvalidTxn if the txn may write, and otherwise what `run` raises.
        """
        if not is_read_only(txn):
            raise InvalidTxn("a txn that may write needs a command")
        return self.run(txn)

    def changes(self, first: int, last: int | None = None) -> list[tuple[int, tuple[bytes, ...]]]:
        """Revisions from `first` to `last` (None: the store's) with the keys that each changed, in order.

        What a revision made of a key, `read` of that revision tells.

        Raises CompactedRevision if `first` is before `first_change`, and FutureRevision if `last` is after
        the store's.
        """
        last = self.revision if last is None else last
        history = self._space.history
        if history is None or first < self.first_change:
            raise CompactedRevision(first, self.compacted_revision)
        if last > self.revision:
            raise FutureRevision(last, self.revision)
        changes: list[tuple[int, tuple[bytes, ...]]] = []
        if first < history.first_revision and history.compacted_change and last >= first:
            changes.append((history.compacted_revision, history.compacted_change))
        first = max(first, history.first_revision)
        changes += [(revision, history.changes_of(revision)) for revision in range(first, last + 1)]
        return changes

    @property
    def first_change(self) -> int:
        """The first revision whose changes are known: the compacted one or, after a restart, the next one."""
        history = self._space.history
        if history is None:
            return self.revision + 1
        return history.compacted_revision + (history.compacted_change is None)

    @property
    def state_hash(self) -> str:
        """32 hexadecimal digits, equal if all of the state is: keys, history, requests, leases, users."""
        return self._space.state_hash(self.requests, self._auth)

    def hash_at(self, revision: int | None = None) -> int:
        """A hash of 32 bits of what a revision left, of all keys and their history; None: the store's.

        It is equal on all nodes of the same compacted revision, whatever they have applied since. It takes
        time for each change after the revision, up to 10 µs: see `hash_steps`.

        Raises FutureRevision or CompactedRevision.
        """
        *_, value = self.hash_steps(revision, most=2**63)
        assert value is not None
        return value

    def hash_steps(self, revision: int | None, most: int) -> Iterator[int | None]:
        """The same for who has other work to do: None after each so many changes, and the hash in the end.

        Between two steps the store may apply commands, or be restored, but not be half restored.
        """
        space = self._space
        for value in space.hash_steps(self.revision if revision is None else revision, most):
            yield value
            if space is not self._space:
                yield from self.hash_steps(revision, most)
                return

    # ------------------------------------------------------------ the state machine

    def apply(self, batch: Sequence[Committed]) -> list[Result]:
        """Run encoded commands in order; returns one result for each.

        Raises UpgradeNeeded for a command of a newer version; those before it are applied.
        """
        results = [result_of(self, committed) for committed in batch]
        if self.observer is not None:
            self.observer.applied()
        return results

    def snapshot(self) -> Iterator[bytes]:
        """The state at this call, in chunks of about 64 KiB; a larger key-value is a chunk of its own.

        The call itself takes next to no time and memory. While chunks are left, the store keeps what they
        need and it would drop otherwise. Take chunks only between calls of `apply`, in the same thread. To
        give up early, drop the iterator.
        """
        space, history = self._space, self._space.history
        if history is None:
            pinned = PinnedView(space.records)
            space.views.append(ref(pinned, space.views.remove))
            return write_snapshot(pinned, self.revision, self.state_hash)
        view = HistoryView(space, history)
        history.views.append(ref(view, history.views.remove))
        requests, auth = self.requests, None if self._auth is None else AuthView(self._auth)
        return write_history_snapshot(view, requests.items(), requests.ever, auth, self.state_hash)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state with that of a snapshot.

        A snapshot of version 2 to 4 brings the store to that feature level at least. After an older one the
        store has the level that it had: what the snapshot lacks begins with it.

        Raises:
            CorruptLog: the chunks are no snapshot, or do not have its state hash. The store must not be used
                after that.
            UpgradeNeeded: a newer version of this program made them.
        """
        level = self.level
        # Drop the old state first, so that memory need not hold two. Views of it go on with the old records.
        # But users stay until there are others: meanwhile nobody may do more than before.
        self._space, self.requests = Keyspace(None), RequestWindow()
        reader = _open(chunks)
        if isinstance(reader, SnapshotReader):
            self._space.restore_old(reader)
            self._auth = None
            reader.end(self.state_hash)
        else:
            self._auth = self._space.restore(reader)
            self.requests = reader.requests()
            reader.end(self.state_hash)
        self.set_level(max(level, self.level))
        if self.observer is not None:
            self.observer.restored()

    def verify(self, chunks: Iterable[bytes]) -> None:
        """Raise CorruptLog or UpgradeNeeded unless `restore` would accept these chunks.

        It neither reads nor changes this store, so it may run in another thread. What only a program that
        does not work could have written, such as a revision without changes, it does not look for.
        """
        reader = _open(chunks)
        if isinstance(reader, SnapshotReader):
            for _ in reader:
                pass
            reader.end(old_state_hash(reader.revision, reader.digest_sum))
            return
        leases, auth = reader.leases(), reader.auth()
        for _ in reader.records():
            pass
        for _ in reader.orders():
            pass
        requests = reader.requests()
        state = reader.revision, reader.compacted_revision, reader.digest_sum
        reader.end(state_hash(*state, requests, leases, auth))

    def check_command(self, command: bytes) -> None:
        """Raise UpgradeNeeded for a command of a newer version, which `apply` could not run.

        Any other command has a result.
        """
        check_version(command)

    # ------------------------------------------------------------ commands

    def run_auth_command(self, command: AuthCommand) -> AuthChanged:
        """Run a command about users and roles as if it came from the log, of one who may do that.

        Raises AuthFailed; nothing has changed then.
        """
        if self._auth is None:
            raise InvalidTxn(LEVEL_NOT_REACHED)
        if run_auth_command(self._auth, command) and self.observer is not None:
            self.observer.auth_changed()
        return AuthChanged(self._auth.revision, self.revision)

    def run_lease_command(self, command: LeaseCommand, term: int) -> LeaseResult:
        """Run a command about leases as if it came from an entry of this term.

        Raises LeaseExists, LeaseNotFound, QuotaExceeded; nothing has changed then.
        """
        result = run_lease_command(self._space, command, term)
        if isinstance(result, LeasesExpired):
            self.expired_leases += len(result.ids)
        return result

    def compact(self, revision: int) -> CompactResult:
        """Run a compaction as if it came from the log; raises FutureRevision or CompactedRevision.

        It takes time for each change that it passes (`compaction_step`).
        """
        if self.observer is not None and self.compacted_revision < revision <= self.revision:
            self.observer.compacting(revision)
        self._space.compact(revision)
        return CompactResult(self.revision)

    def run(self, txn: Txn) -> TxnResult:
        """Run one txn as if it came from the log.

        Raises InvalidTxn if a compare's operand does not fit its target, QuotaExceeded, and CommandFailed;
        nothing has changed then. Apart from that, the txn must be one that `encode_command` accepts.
        """
        return run_txn(self._space, txn)


def _open(chunks: Iterable[bytes]) -> SnapshotReader | HistoryReader:
    reader = ChunkReader(chunks)
    header = reader.next()
    version = header[0]
    if type(version) is int and version > _VERSIONS[-1]:
        raise UpgradeNeeded("the snapshot of the store is", version, _VERSIONS[-1])
    if type(version) is not int or version not in _VERSIONS:
        raise CorruptLog(NO_BEGIN)
    return SnapshotReader(header, reader) if version == 1 else HistoryReader(header, reader)
