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
from raftkv_trio.kv.auth.auth import Auth
from raftkv_trio.kv.auth.changes import run_auth_command
from raftkv_trio.kv.auth.codec import Envelope, decode_envelope, is_version_5
from raftkv_trio.kv.auth.commands import SERVER, Access, AuthCommand, ResetAuth
from raftkv_trio.kv.auth.snapshot import AuthView
from raftkv_trio.kv.checks import InvalidTxn
from raftkv_trio.kv.codec import check_version, decode_old, decode_request, is_version_3
from raftkv_trio.kv.history import EMPTY_REVISION, NEVER_COMPACTED, History
from raftkv_trio.kv.history_snapshot import (
    HistoryReader,
    HistoryView,
    write_history_snapshot,
)
from raftkv_trio.kv.keyspace import Keyspace, old_state_hash, state_hash
from raftkv_trio.kv.lease_codec import decode_lease_command, is_version_4
from raftkv_trio.kv.lease_commands import (
    CheckpointLeases,
    ExpireLeases,
    LeaseCommand,
    RenewLeases,
    RevokeLease,
)
from raftkv_trio.kv.leases import Leases
from raftkv_trio.kv.leasing import run_lease_command
from raftkv_trio.kv.record import KeyValue
from raftkv_trio.kv.request_window import RequestWindow
from raftkv_trio.kv.results import (
    AuthChanged,
    AuthFailed,
    CommandFailed,
    CompactedRevision,
    CompactResult,
    Failed,
    Failure,
    FutureRevision,
    GetResult,
    LeaseResult,
    LeasesExpired,
    OverQuota,
    QuotaExceeded,
    Rejected,
    Result,
    TxnResult,
)
from raftkv_trio.kv.running import run_txn
from raftkv_trio.kv.snapshot import NO_BEGIN, ChunkReader, PinnedView, SnapshotReader, write_snapshot
from raftkv_trio.kv.txn import TO_THE_LAST, Compact, Get, Txn, is_read_only
from raftkv_trio.state_machine import Committed

#: Feature levels. At the first one, a store runs commands of versions 1 and 2 only, and has no history. At
#: the second one it runs none of version 4, and has no leases. At the third one it runs none of version 5,
#: and has no users and roles.
FIRST_LEVEL, HISTORY_LEVEL, LEASES_LEVEL, AUTH_LEVEL = 1, 2, 3, 4
#: Of snapshots, by feature level.
_VERSIONS = (1, 2, 3, 4)
_LEVEL_NOT_REACHED = "the cluster has not reached the feature level of this command"
#: Of a command that names nobody.
_NOBODY = Envelope(None, (), b"")
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
    """

    def __init__(self) -> None:
        self.observer: Observer | None = None
        self.expired_leases = 0
        self._space = Keyspace(History(NEVER_COMPACTED), Leases())
        self._requests = RequestWindow()
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
            and not self._requests.ever
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
        return self._space.state_hash(self._requests, self._auth)

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
        results = [self._apply(committed) for committed in batch]
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
        requests, auth = self._requests, None if self._auth is None else AuthView(self._auth)
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
        self._space, self._requests = Keyspace(None), RequestWindow()
        reader = _open(chunks)
        if isinstance(reader, SnapshotReader):
            self._space.restore_old(reader)
            self._auth = None
            reader.end(self.state_hash)
        else:
            self._auth = self._space.restore(reader)
            self._requests = reader.requests()
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

    def _apply(self, committed: Committed) -> Result:
        command = committed.command
        try:
            if command[1:2] >= b"\3":  # else it can be of no version after 2
                check_version(command)
                if is_version_5(command):
                    return self._apply_version_5(command, committed.term)
            elif self._auth is None or not self._auth.is_enabled:
                return self.run(decode_old(command))
            return self._run_command(command, committed.term, _NOBODY)
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

    def _apply_version_5(self, command: bytes, term: int) -> Result:
        if self.level < AUTH_LEVEL:
            raise InvalidTxn(_LEVEL_NOT_REACHED)
        envelope = decode_envelope(command)
        if isinstance(envelope.body, bytes):
            return self._run_command(envelope.body, term, envelope)
        if not isinstance(envelope.body, ResetAuth):
            self.auth.check_root(envelope.actor)
        elif envelope.actor != SERVER:
            raise AuthFailed(Failure.PERMISSION_DENIED)
        return self.run_auth_command(envelope.body)

    def _run_command(self, command: bytes, term: int, envelope: Envelope) -> Result:
        """Run a command of a version up to 4, if whoever the envelope names may do that."""
        if is_version_3(command):
            return self._run_version_3(command, envelope)
        if is_version_4(command):
            return self._run_version_4(command, term, envelope)
        txn = decode_old(command)
        self._check_txn(txn, envelope)
        return self.run(txn)

    def _check_txn(self, txn: Txn, envelope: Envelope) -> None:
        if self._auth is not None and self._auth.is_enabled:
            self._auth.check_txn(envelope.actor, txn, self.leases, envelope.reads)

    def _run_version_3(self, command: bytes, envelope: Envelope) -> Result:
        if self.level == FIRST_LEVEL:
            raise InvalidTxn(_LEVEL_NOT_REACHED)
        decoded, request = decode_request(command)
        if isinstance(decoded, Compact):
            if envelope.actor != SERVER:
                self.auth.check_all_keys(envelope.actor, Access.WRITE)
            return self.compact(decoded.revision)
        # Before anything that was run before is told: it may have been for somebody else.
        self._check_txn(decoded, envelope)
        if request is None:
            return self.run(decoded)
        if envelope.actor is not None:
            request = request.of_user(envelope.actor.user)
        answer = self._requests.answer(request, decoded)
        if answer is not None:
            return answer
        result = self.run(decoded)
        self._requests.remember(request, decoded, result)
        return result

    def _run_version_4(self, command: bytes, term: int, envelope: Envelope) -> Result:
        if self.level < LEASES_LEVEL:
            raise InvalidTxn(_LEVEL_NOT_REACHED)
        decoded = decode_lease_command(command)
        match decoded:
            case RevokeLease(lease_id):
                self.auth.check_revoke(envelope.actor, lease_id, self.leases)
            case ExpireLeases() | CheckpointLeases() | RenewLeases():
                pass  # only a leader proposes the first two, and whoever lets renew leases checks the caller
            case _:
                self.auth.check_user(envelope.actor)
        return self.run_lease_command(decoded, term)

    def run_auth_command(self, command: AuthCommand) -> AuthChanged:
        """Run a command about users and roles as if it came from the log, of one who may do that.

        Raises AuthFailed; nothing has changed then.
        """
        if self._auth is None:
            raise InvalidTxn(_LEVEL_NOT_REACHED)
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
