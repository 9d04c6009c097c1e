"""Simulated clients that watch, and what is asked of what they are told.

Each watches a key or a range, at one member at a time. When the member's process ends, and sometimes before,
it goes on at another member with the revision that follows the last one that it was told of. Some take what
is queued for them at once, and some so late that they are read the history. At the end all that each was told
is compared with the committed log (`true_changes.py`):

- From its first revision to the last one of which it was told, or up to which it was told that there is
  nothing more, it has seen each change once, in order, as the log has made it.
- When it saw a change, the entry was committed.
- It was told that it is too late only if the log was compacted beyond its next revision, and not while it
  was up to date and took all that was queued. From there on it begins again behind the compaction.
- At last each is told everything.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from raftkv_trio.access.watching import Change, Compacted, Events, Item, Progress, Watcher, WatchStream
from raftkv_trio.errors import CommandRefused
from raftkv_trio.kv import TO_THE_LAST, KeyValue
from raftkv_trio.testing.campaign.true_changes import TrueChanges
from raftkv_trio.testing.campaign.watch_hubs import Hubs, SimulatedHub
from raftkv_trio.testing.invariants.violation import WATCHES, Violation
from raftkv_trio.testing.schedules.schedule import Schedule
from raftkv_trio.testing.simulator.simulated_member import SimulatedMember
from raftkv_trio.testing.simulator.simulation import Simulation

PAUSES_S = ((0.002, 0.02), (0.01, 0.1), (0.1, 0.5), (0.5, 3.0))
LAST_PAUSES_S = 0.05, 0.3
LOOK_BACK = 30


class Seen(NamedTuple):
    """An event that a client was told.

    Attributes:
        committed_index: the last entry that was committed when it was.
    """

    revision: int
    content: bytes
    committed_index: int


class Account:
    """What a client was told from a revision on, until it was told that it is too late.

    Attributes:
        told: it was told of all up to this revision.
        is_too_late: why it ended: the compacted revision, and the last entry that was committed then.
        must_be_in_time: whether it was up to date when it was told to be too late.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.told = first - 1
        self.seen: list[Seen] = []
        self.is_too_late: tuple[int, int] | None = None
        self.must_be_in_time = False


class WatchClients:
    """All of them, for one seed."""

    def __init__(self, schedule: Schedule, simulation: Simulation, hubs: Hubs) -> None:
        self._simulation = simulation
        # With fewer clients there are fewer of these too, so that a failure without watches shrinks to none.
        count = min(Random(f"watches of {schedule.seed}").choice((0, 1, 2, 3)), schedule.clients // 2)
        self._clients = [_Client(number, schedule, simulation, hubs) for number in range(1, count + 1)]

    def begin(self) -> None:
        """Start the clients."""
        for client in self._clients:
            client.plan()

    def heal(self) -> Iterator[tuple[str, Callable[[], bool]]]:
        """What must become true when all members have applied everything."""
        for client in self._clients:
            client.is_to_end = True
        if self._clients:
            yield "a client that watches is not told everything", self._are_told

    def judge(self, changes: TrueChanges) -> None:
        """Raise Violation for what watches must not tell."""
        for client in self._clients:
            client.judge(changes)

    def _are_told(self) -> bool:
        revision = max(hub.store_revision for hub in self._hubs())
        return all(client.told >= revision for client in self._clients)

    def _hubs(self) -> Iterator[SimulatedHub]:
        return (client.hub for client in self._clients if client.hub is not None)


class _Client:
    """A client that watches.

    Attributes:
        hub: of the member where it watches, or has watched.
        is_to_end: whether it is to hurry, so that it is told everything.
    """

    def __init__(self, number: int, schedule: Schedule, simulation: Simulation, hubs: Hubs) -> None:
        self.hub: SimulatedHub | None = None
        self.is_to_end = False
        self._name = f"watch client {number}"
        self._simulation = simulation
        self._hubs = hubs
        self._random = random = Random(f"watch client {number} of {schedule.seed}")
        first, last = sorted([random.randrange(schedule.keys), random.randrange(schedule.keys)])
        ranges: list[tuple[bytes, bytes | None]] = [
            (b"\0", TO_THE_LAST),
            (b"\0", TO_THE_LAST),
            (b"key%d" % first, None),
            (b"key%d" % first, b"key%d\0" % last),
        ]
        self._key, self._range_end = random.choice(ranges)
        self._wants_previous = random.random() < 0.5
        self._wants_puts, self._wants_deletes = random.choice([(True, True)] * 3 + [(True, False)])
        self._pause_s = random.choice(PAUSES_S)
        self._moves = random.choice((0.0, 0.01, 0.1))
        self._asks_progress = random.choice((0.0, 0.1, 0.5))
        self._accounts: list[Account] = []
        self._stream: WatchStream | None = None
        self._up_to_date: int | None = None  # since how many restores

    @property
    def told(self) -> int:
        """Up to which revision it was told everything."""
        return self._accounts[-1].told if self._accounts else 0

    def plan(self) -> None:
        """Plan its next look."""
        pause_s = LAST_PAUSES_S if self.is_to_end else self._pause_s
        self._simulation.timeline.after(self._random.uniform(*pause_s), self._look)

    def _look(self) -> None:
        self.plan()
        hub = self.hub
        if hub is None or self._stream is None or hub.is_over:
            self._stream = None
            self._begin()
            return
        if not hub.can_be_asked:
            self._leave_sometimes(hub, 0.2)
            return
        self._take_all(hub, self._stream)
        if self._stream is None:
            return
        if self.is_to_end or self._random.random() < self._asks_progress:
            hub.request_progress(self._stream)
        hub.look()
        self._leave_sometimes(hub, self._moves)

    def _take_all(self, hub: SimulatedHub, stream: WatchStream) -> None:
        while items := stream.take():
            for item in items:
                self._take(hub, item)
                if self._stream is None:
                    return

    def _leave_sometimes(self, hub: SimulatedHub, share: float) -> None:
        if self._stream is not None and self._random.random() < share:
            hub.close_stream(self._stream)
            self._stream = None

    def _begin(self) -> None:
        members = [member for member in self._simulation.members.values() if self._can_serve(member)]
        if not members:
            return
        hub = self._hubs.of(self._random.choice(members))
        if hub is None:
            return
        if not self._accounts or self._accounts[-1].is_too_late is not None:
            self._accounts.append(Account(self._draw_first(hub)))
        self._watch(hub)

    def _watch(self, hub: SimulatedHub) -> None:
        first = self._accounts[-1].told + 1
        self._note(f"watches from revision {first} on")
        stream = hub.open_stream(encode)
        watcher = Watcher(
            stream,
            0,
            self._key,
            self._range_end,
            first,
            wants_puts=self._wants_puts,
            wants_deletes=self._wants_deletes,
            wants_previous=self._wants_previous,
        )
        try:
            hub.add(watcher)
        except CommandRefused:  # by one that has joined, and does not know yet what the members know
            hub.close_stream(stream)
            return
        self.hub, self._stream, self._up_to_date = hub, stream, None
        hub.look()

    def _can_serve(self, member: SimulatedMember) -> bool:
        if member.node is None:
            return False
        return not self.is_to_end or member.id not in self._simulation.invariants.configuration.removed

    def _draw_first(self, hub: SimulatedHub) -> int:
        """Where it begins if it was told nothing, or too late: behind what is compacted, in the past, now."""
        if self._accounts:
            is_too_late = self._accounts[-1].is_too_late
            assert is_too_late is not None
            return is_too_late[0] + 1
        if self._random.random() < 0.5:
            return hub.store_revision + 1
        return max(hub.compacted_revision + 1, hub.store_revision - self._random.randrange(LOOK_BACK), 2)

    def _take(self, hub: SimulatedHub, item: Item) -> None:
        account, committed_index = self._accounts[-1], self._simulation.invariants.committed_index
        match item:
            case Events(_, revision, _, events):
                self._note(f"is told of revision {revision}")
                account.seen += [Seen(revision, event, committed_index) for event in events]
                account.told = max(account.told, revision)
            case Progress(revision):
                account.told = max(account.told, revision)
                self._up_to_date = hub.restores
            case Compacted(_, revision):
                self._note(f"is told that it is too late, with revision {revision}")
                account.is_too_late = revision, committed_index
                account.must_be_in_time = self._hubs.are_roomy and self._up_to_date == hub.restores
                assert self._stream is not None
                hub.close_stream(self._stream)
                self._stream = None

    def _note(self, what: str) -> None:
        self._simulation.trace.note(self._name, what)

    # ------------------------------------------------------------ the verdict

    def judge(self, changes: TrueChanges) -> None:
        """Raise Violation for what it must not have been told."""
        for account in self._accounts:
            self._judge(account, changes)

    def _judge(self, account: Account, changes: TrueChanges) -> None:
        if account.told > changes.revision:
            self._fail(f"was told of revision {account.told}; the log has made {changes.revision}")
        expected = [
            (change, previous)
            for change, previous in changes.between(account.first, account.told)
            if self._watches(change)
        ]
        for number, seen in enumerate(account.seen):
            if seen.committed_index < changes.indexes.get(seen.revision, 0):
                self._fail(f"was told of revision {seen.revision} before that was committed")
            if number == len(expected):
                self._fail(f"was told of revision {seen.revision} once too often, or too late")
            change, previous = expected[number]
            if change.revision != seen.revision:
                what = "repeated, or out of order" if seen.revision < change.revision else "the next one"
                self._fail(f"was told of revision {seen.revision}, {what}, and not of {change.revision}")
            if seen.content not in self._contents(change, previous, seen, changes):
                self._fail(f"was told of revision {seen.revision} what is not so: {seen.content!r}")
        if len(account.seen) < len(expected):
            revision = expected[len(account.seen)][0].revision
            self._fail(f"was not told of revision {revision}, though up to {account.told}")
        if account.is_too_late is not None:
            self._check_too_late(account, *account.is_too_late, changes)

    def _check_too_late(
        self, account: Account, compacted: int, committed_index: int, changes: TrueChanges
    ) -> None:
        if not any(at == compacted and i <= committed_index for i, at in changes.compactions.items()):
            self._fail(f"was told of a compaction at revision {compacted}, which the log has not made")
        if account.told + 1 > compacted:
            self._fail(f"was told to be too late at revision {compacted}, after revision {account.told}")
        if account.must_be_in_time:
            self._fail(f"was told to be too late at revision {compacted}, though it was up to date")

    def _contents(
        self, change: Change, previous: KeyValue | None, seen: Seen, changes: TrueChanges
    ) -> list[bytes]:
        """What it may be told of a change."""
        if not self._wants_previous:
            return [encode(change, None)]
        contents = [encode(change, previous)]
        compacted_by = changes.compacted_by(change.revision - 1)
        if compacted_by is not None and compacted_by <= seen.committed_index:
            contents.append(encode(change, None))
        return contents

    def _watches(self, change: Change) -> bool:
        if not (self._wants_deletes if change.key_value is None else self._wants_puts):
            return False
        if self._range_end is None:
            return change.key == self._key
        return self._key <= change.key and (self._range_end == TO_THE_LAST or change.key < self._range_end)

    def _fail(self, what: str) -> None:
        raise Violation(WATCHES, f"{self._name} {what}")


def encode(change: Change, previous: KeyValue | None) -> bytes:
    """An event, as these clients are told it."""
    return repr((change, previous)).encode()
