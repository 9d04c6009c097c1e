"""Draws what a simulated client asks for: single keys as over REST, txns, ranges, the past, compactions."""

from collections.abc import Callable, Iterator
from random import Random

from raftkv_trio.testing.histories.store_model import FIRST_REVISION
from raftkv_trio.testing.histories.store_requests import (
    Compared,
    Relation,
    StoreAnswer,
    StoreCompact,
    StoreCompare,
    StoreDelete,
    StoreDeleteAnswer,
    StoreFailure,
    StoreGet,
    StoreGetAnswer,
    StoreOperation,
    StorePut,
    StorePutAnswer,
    StoreRecord,
    StoreRequest,
    StoreResult,
    StoreStaleRead,
    StoreTxn,
    StoreTxnAnswer,
)
from raftkv_trio.testing.schedules.schedule import Schedule

_TO_THE_LAST = b"\0"
_RELATIONS: tuple[Relation, ...] = ("=", "=", "!=", ">", "<")
_COMPARED: tuple[Compared, ...] = ("version", "created", "changed", "changed", "value")
MAX_NESTING = 2
#: How far back reads and compactions go from the newest revision that a client knows.
READ_BACK, COMPACT_BACK = 40, 15


class Mix:
    """How often the clients of a seed ask for what; each seed has a mix of its own."""

    def __init__(self, seed: int) -> None:
        random = Random(f"requests of {seed}")
        self.txns = random.choice((0.05, 0.15, 0.4))
        self.ranges = random.choice((0.05, 0.15))
        self.stale_reads = random.choice((0.0, 0.05))
        self.compactions = random.choice((0.0, 0.01, 0.05))
        self.request_ids = random.choice((0.0, 0.0, 0.2, 1.0))


class Asking:
    """One client's requests, which build on what it was told before.

    Args:
        name: in front of all values of this client, so that all values are different.
    """

    def __init__(self, name: bytes, schedule: Schedule, random: Random) -> None:
        self._name = name
        self._random = random
        self._keys = [b"key%d" % number for number in range(schedule.keys)]
        self._mix = Mix(schedule.seed)
        self._count = 0
        self._values = 0
        self._known: dict[bytes, StoreRecord] = {}
        self._revision = FIRST_REVISION

    def draw(self) -> StoreRequest:
        """The next request."""
        self._count += 1
        self._values = 0
        mix = self._mix
        draw = self._random.random()
        kinds: list[tuple[float, Callable[[], StoreRequest]]] = [
            (mix.txns, self._txn),
            (mix.ranges, self._range_read),
            (mix.stale_reads, lambda: StoreStaleRead(self._range_read())),
            (mix.compactions, self._compact),
        ]
        for share, make in kinds:
            if draw < share:
                return make()
            draw -= share
        return self._single_key()

    def request_id(self) -> bytes | None:
        """The id of the request drawn last, so that it can be tried again; None: it has none."""
        if self._random.random() < self._mix.request_ids:
            return b"%s-%d" % (self._name, self._count)
        return None

    def told(self, answer: StoreAnswer) -> bytes | None:
        """Remember an answer; returns a key that it changed, if any."""
        if isinstance(answer, StoreFailure):
            return None
        self._revision = max(self._revision, answer.revision)
        if not isinstance(answer, StoreTxnAnswer):
            return None
        changed = None
        for result in _flat(answer.results):
            match result:
                case StorePutAnswer(record):
                    changed = record.key
                    self._know(record)
                case StoreDeleteAnswer(deleted, previous) if deleted:
                    changed = previous[0].key
                case StoreGetAnswer(records):
                    for record in records:
                        self._know(record)
        return changed

    def _know(self, record: StoreRecord) -> None:
        known = self._known.get(record.key)
        if known is None or known.changed < record.changed:
            self._known[record.key] = record

    # ------------------------------------------------------------ one key, as over REST

    def _single_key(self) -> StoreTxn:
        key = self._key()
        expects = self._random.random() < 0.8
        draw = self._random.random()
        if draw < 0.4:
            return read_of(key)
        if draw < 0.65:
            return StoreTxn(success=(self._put(key),))
        if draw < 0.9:
            return self._guarded(key, self._put(key), expects=expects)
        return self._guarded(key, StoreDelete(key), expects=expects and self._random.random() < 0.5)

    def _guarded(self, key: bytes, write: StoreOperation, *, expects: bool) -> StoreTxn:
        if not expects:
            return StoreTxn(success=(write,))
        known = self._known.get(key)
        compare = StoreCompare(key, "changed", "=", 0 if known is None else known.changed)
        return StoreTxn((compare,), (write,), (StoreGet(key),))

    # ------------------------------------------------------------ what only etcd's API has

    def _txn(self, depth: int = 1) -> StoreTxn:
        random = self._random
        compares = tuple([self._compare() for _ in range(random.choice((0, 1, 1, 2, 3)))])
        # No key is put in two of a txn's operations, which the store would refuse.
        keys = random.sample(self._keys, len(self._keys))
        return StoreTxn(compares, self._operations(list(keys), depth), self._operations(list(keys), depth))

    def _operations(self, unused: list[bytes], depth: int) -> tuple[StoreOperation, ...]:
        random = self._random
        operations: list[StoreOperation] = []
        for _ in range(random.choice((0, 1, 2, 2, 3, 4))):
            draw = random.random()
            if draw < 0.5 and unused:
                operations.append(self._put(unused.pop()))
            elif draw < 0.65 and unused:
                operations.append(StoreDelete(unused.pop()))
            elif draw < 0.75 and depth < MAX_NESTING and unused:
                kept, self._keys = self._keys, [unused.pop()]
                operations.append(self._txn(depth + 1))
                self._keys = kept
            else:
                operations.append(self._get())
        # Of the keys of an inner txn the txns around it may put others, which no range may have then.
        is_alone = depth == 1 and not any(isinstance(o, StorePut | StoreTxn) for o in operations)
        if is_alone and random.random() < 0.2:
            operations.append(StoreDelete(*self._range()))
        return tuple(operations)

    def _compare(self) -> StoreCompare:
        random = self._random
        key = self._key()
        range_end = self._range()[1] if random.random() < 0.2 else None
        known = self._known.get(key)
        relation = random.choice(_RELATIONS)
        compared = random.choice(_COMPARED)
        if known is None:
            operand: int | bytes = b"" if compared == "value" else 0
        else:
            operand = getattr(known, compared)
        return StoreCompare(key, compared, relation, operand, range_end)

    def _put(self, key: bytes) -> StorePut:
        if self._random.random() < 0.05 and key in self._known:
            return StorePut(key, b"", keeps_value=True)
        self._values += 1
        return StorePut(key, b"%s-%d-%d" % (self._name, self._count, self._values))

    def _range_read(self) -> StoreTxn:
        return StoreTxn(success=(self._get(),))

    def _get(self) -> StoreGet:
        random = self._random
        key, range_end = self._range() if random.random() < 0.7 else (self._key(), None)
        limit = random.choice((0, 1, 2)) if random.random() < 0.2 else None
        revision = self._past_revision(READ_BACK) if random.random() < 0.4 else None
        return StoreGet(key, range_end, limit, revision)

    def _compact(self) -> StoreCompact:
        return StoreCompact(self._past_revision(COMPACT_BACK))

    def _past_revision(self, back: int) -> int:
        """A revision that the store has, mostly."""
        if self._random.random() < 0.1:
            return self._revision + self._random.randint(1, 3)
        return max(FIRST_REVISION, self._revision - self._random.randrange(back))

    def _range(self) -> tuple[bytes, bytes]:
        first, last = sorted((self._key(), self._key()))
        return first, self._random.choice((last + b"\0", _TO_THE_LAST, b"l"))

    def _key(self) -> bytes:
        return self._random.choice(self._keys)


def read_of(key: bytes) -> StoreTxn:
    """A read of one key."""
    return StoreTxn(success=(StoreGet(key),))


def _flat(results: tuple[StoreResult, ...]) -> Iterator[StoreResult]:
    for result in results:
        if isinstance(result, StoreTxnAnswer):
            yield from _flat(result.results)
        else:
            yield result
