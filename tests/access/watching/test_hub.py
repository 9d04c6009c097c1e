"""What the hub tells: each event once and in order, whatever happens between, and never too much."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.access.watching import (
    Change,
    Compacted,
    Denied,
    Events,
    Progress,
    TooManyWatchers,
    Watcher,
    WatchHub,
    WatchStream,
    catching_up,
    matching,
)
from raftkv_trio.access.watching import hub as hub_module
from raftkv_trio.config import WatchConfig
from raftkv_trio.errors import CommandRefused
from raftkv_trio.kv import (
    TO_THE_LAST,
    Access,
    Actor,
    AddRole,
    AddUser,
    AuthCommand,
    ChangePassword,
    Delete,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    GrantPermission,
    GrantRole,
    KeyValue,
    Operation,
    Permission,
    Put,
    RevokeRole,
    Store,
    Txn,
)
from raftkv_trio.kv.txn import in_range

KEYS = (b"a", b"ab", b"b", b"c")


class Replica:
    """A node that neither restores nor loses its leader."""

    is_restoring = False
    has_leader = True

    async def wait_restored(self) -> None:
        return


class Told(NamedTuple):
    """An event as the encoder below makes it."""

    revision: int
    key: bytes
    value: bytes | None
    previous: bytes | None


def encode(change: Change, previous: KeyValue | None) -> bytes:
    value = None if change.key_value is None else change.key_value.value
    told = Told(change.revision, change.key, value, None if previous is None else previous.value)
    return repr(tuple(told)).encode()


class Expected(NamedTuple):
    """A watcher, what it has been told, and whether it was told that it is compacted."""

    watcher: Watcher
    start: int
    told: list[Told]
    compacted: list[int]


class World:
    """A store and its hub, whose turns are one step long, and a log of all changes beside them."""

    def __init__(self, max_stream_bytes: int = 400) -> None:
        self.store = Store()
        self.hub = WatchHub(self.store, Replica(), WatchConfig(max_stream_bytes=max_stream_bytes))
        self.streams = [self.hub.open_stream(encode) for _ in range(2)]
        self.expected: list[Expected] = []
        self.log: list[Told] = []
        self._values: dict[bytes, bytes] = {}
        self._count = 0

    def run(self, *operations: Operation) -> None:
        result = self.store.run(Txn((), operations, ()))
        self._note(result.revision, operations)
        if self.store.observer is not None:
            self.store.observer.applied()

    def _note(self, revision: int, operations: tuple[Operation, ...]) -> None:
        for operation in operations:
            if isinstance(operation, Put):
                previous = self._values.get(operation.key)
                self._values[operation.key] = operation.value
                self.log.append(Told(revision, operation.key, operation.value, previous))
            elif isinstance(operation, Delete):
                for key in sorted(self._values):
                    if in_range(key, operation.key, operation.range_end):
                        self.log.append(Told(revision, key, None, self._values.pop(key)))

    def put(self, *keys: bytes) -> None:
        self._count += 1
        self.run(*[Put(key, b"%d" % self._count) for key in keys])

    def restore(self, keys: tuple[bytes, ...], compacted: int) -> None:
        """A leader that is ahead by some puts, and has compacted, sends its state."""
        leader = Store()
        leader.restore(self.store.snapshot())
        for key in keys:
            self._count += 1
            put = Put(key, b"%d" % self._count)
            self._note(leader.run(Txn((), (put,), ())).revision, (put,))
        if leader.compacted_revision < compacted <= leader.revision:
            leader.compact(compacted)
        self.store.restore(leader.snapshot())

    def watch(self, stream: int, key: bytes, end: bytes | None, start: int | None, **options: Any) -> Watcher:
        where = self.streams[stream]
        first = self.store.revision + 1 if start is None else start
        watcher = Watcher(where, len(self.expected), key, end, first, **options)
        self.hub.add(watcher)
        self.expected.append(Expected(watcher, first, [], []))
        return watcher

    def take(self, stream: WatchStream) -> list[Any]:
        items = stream.take()
        for item in items:
            if isinstance(item, Events):
                one = self.expected[item.watcher.id]
                assert not one.compacted, "nothing comes after the compaction"
                told = [Told(*eval(event)) for event in item.events]  # of `encode`
                assert {event.revision for event in told} == {item.revision}
                one.told.extend(told)
                self.check(one)
            elif isinstance(item, Compacted):
                one = self.expected[item.watcher.id]
                one.compacted.append(item.compacted_revision)
                missed = self.of(one.watcher, one.start)[len(one.told) :]
                assert one.watcher.next_revision <= item.compacted_revision
                assert not missed or missed[0].revision >= one.watcher.next_revision
        return items

    def of(self, watcher: Watcher, start: int) -> list[Told]:
        return [
            event
            for event in self.log
            if event.revision >= start
            and in_range(event.key, watcher.key, watcher.range_end)
            and (watcher.wants_puts if event.value is not None else watcher.wants_deletes)
        ]

    def check(self, one: Expected) -> None:
        """What it has been told is what there was, from the beginning on."""
        wanted = self.of(one.watcher, one.start)[: len(one.told)]
        assert [event[:3] for event in one.told] == [event[:3] for event in wanted]
        for told, event in zip(one.told, wanted, strict=True):
            if not one.watcher.wants_previous:
                assert told.previous is None
            elif told.previous is None:
                assert event.previous is None or event.revision <= self.store.compacted_revision
            else:
                assert told.previous == event.previous

    def turn(self) -> None:
        self.hub.work()

    def finish(self) -> None:
        """Go on until all is told, and check that nothing is missing."""
        while any(self.take(stream) for stream in self.streams) or self.hub.has_work:
            self.turn()
            for stream in self.streams:
                self.take(stream)
        for one in self.expected:
            self.check(one)
            if one.watcher.is_open:
                assert len(one.told) == len(self.of(one.watcher, one.start))
            assert len(one.compacted) <= 1
        assert self.hub.load.queued_bytes == 0
        assert self.hub.unsynced == 0


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of one step, so that what a test does comes between any two steps."""
    monkeypatch.setattr(hub_module, "TURN_S", 0.0)
    monkeypatch.setattr(hub_module, "CATCH_UP_CHANGES", 3)
    monkeypatch.setattr(catching_up, "CATCH_UP_CHANGES", 3)
    monkeypatch.setattr(catching_up, "CATCH_UP_WATCHERS", 2)
    monkeypatch.setattr(matching, "WATCHERS_A_STEP", 1)


keys = st.sampled_from(KEYS)
some_keys = st.lists(keys, min_size=1, max_size=3, unique=True).map(tuple)
ends = st.sampled_from([None, None, b"b", b"c", TO_THE_LAST])
actions = st.one_of(
    st.tuples(st.just("put"), some_keys),
    st.tuples(st.just("put"), some_keys),
    st.tuples(st.just("delete"), keys),
    *[st.tuples(st.just("turn"), st.integers(1, 6))] * 3,
    st.tuples(st.just("take"), st.integers(0, 1)),
    st.tuples(
        st.just("watch"),
        st.tuples(st.integers(0, 1), keys, ends, st.one_of(st.none(), st.integers(-6, 3)), st.booleans()),
    ),
    st.tuples(st.just("remove"), st.integers(0, 5)),
    st.tuples(st.just("compact"), st.sampled_from([-5, -3, -2, -1, 0, 0])),
    st.tuples(st.just("restore"), st.tuples(some_keys, st.integers(-5, 0))),
)
#: So many that most begin with something to tell, and somebody to be told.
sequences = st.lists(actions, min_size=10, max_size=40)


def run(world: World, sequence: list[tuple[str, Any]]) -> None:
    for stream in (0, 0, 1):
        world.watch(stream, b"a", TO_THE_LAST, None)
    for name, what in sequence:
        store = world.store
        if name == "put":
            world.put(*what)
        elif name == "delete":
            world.run(Delete(what, TO_THE_LAST))
        elif name == "turn":
            for _ in range(what):
                if world.hub.has_work:
                    world.turn()
        elif name == "take":
            world.take(world.streams[what])
        elif name == "watch":
            stream, key, end, start, flag = what
            if end is None or end == TO_THE_LAST or key < end:
                first = None if start is None else store.revision + start
                world.watch(stream, key, end, first, wants_previous=flag, wants_deletes=key != b"c")
        elif name == "remove" and what < len(world.expected):
            watcher = world.expected[what].watcher
            if watcher.stream.watchers.get(watcher.id) is watcher:
                world.hub.remove(watcher)
        elif name == "compact" and store.compacted_revision < store.revision + what:
            store.compact(store.revision + what)
        elif name == "restore":
            ahead, back = what
            world.restore(ahead, store.revision + back)
    world.finish()


@settings(deadline=None, max_examples=300)
@given(sequences)
def test_each_event_once_and_in_order(sequence: list[tuple[str, Any]]) -> None:
    """Nothing is missed, repeated or out of order: for watchers from the past, the present and the future,
    slow ones, and over compactions and restores between any two steps."""
    run(World(), sequence)


@pytest.mark.long
@settings(deadline=None, max_examples=5000)
@given(sequences)
def test_each_event_once_and_in_order_at_length(sequence: list[tuple[str, Any]]) -> None:
    """The same, many more of them."""
    run(World(), sequence)


def test_a_slow_stream_holds_no_more_than_its_bound() -> None:
    """A client that takes nothing costs its bound and one revision, and is told all later."""
    world = World(max_stream_bytes=2000)
    for key in KEYS:
        world.watch(0, key, None, None)
    largest = 0
    for _ in range(500):
        world.put(*KEYS)
        while world.hub.has_work:
            world.turn()
        largest = max(largest, world.hub.load.queued_bytes)
    assert largest < 2000 + 500
    assert world.hub.unsynced == len(KEYS)
    world.finish()
    assert [len(one.told) for one in world.expected] == [500] * len(KEYS)


def test_a_revision_larger_than_the_bound() -> None:
    """It is queued as a whole if nothing else waits: its events stay together, and nobody waits for ever."""
    world = World(max_stream_bytes=10)
    world.watch(0, b"a", TO_THE_LAST, None)
    for _ in range(3):
        world.put(*KEYS)
    world.finish()
    assert len(world.expected[0].told) == 3 * len(KEYS)


def test_streams_share_a_bound() -> None:
    """When all streams together hold too much, a stream that holds anything is full."""
    world = World()
    hub = WatchHub(world.store, Replica(), WatchConfig(max_queued_bytes=1000))
    streams = [hub.open_stream(encode) for _ in range(20)]
    for number, stream in enumerate(streams):
        hub.add(Watcher(stream, number, b"a", None, 2))
    for _ in range(50):
        world.put(b"a")
        while hub.has_work:
            hub.work()
    assert hub.load.queued_bytes < 1000 + 20 * 300
    assert hub.unsynced == 20
    told = 0
    while (taken := sum([len(stream.take()) for stream in streams])) or hub.has_work:
        told += taken
        hub.work()
    assert told == 20 * 50


def test_progress_comes_after_all_events() -> None:
    """A progress request is answered when the stream's watchers were told all that there was."""
    world = World(max_stream_bytes=300)
    stream = world.streams[0]
    world.hub.request_progress(stream)
    assert world.take(stream) == [Progress(1)]  # without watchers, at once
    world.watch(0, b"a", None, None)
    for _ in range(20):
        world.put(b"a")
    world.hub.request_progress(stream)
    items: list[Any] = []
    while not items or not isinstance(items[-1], Progress):
        assert world.hub.has_work
        world.turn()
        items += world.take(stream)
    assert items[-1] == Progress(world.store.revision)
    assert len(world.expected[0].told) == 20


def test_progress_for_a_client_that_does_not_read() -> None:
    """It waits until the client reads, and meanwhile the hub has nothing to do."""
    world = World(max_stream_bytes=300)
    stream = world.streams[0]
    world.watch(0, b"a", None, None)
    for _ in range(20):
        world.put(b"a")
    world.hub.request_progress(stream)
    for _ in range(100):
        if world.hub.has_work:
            world.turn()
    assert stream.is_full
    assert not world.hub.has_work
    items: list[Any] = []
    while (taken := world.take(stream)) or world.hub.has_work:
        items += taken
        world.turn()
    assert items[-1] == Progress(world.store.revision)
    assert len(world.expected[0].told) == 20


def test_no_watches_before_there_is_a_history() -> None:
    """While a member is of a release without one, the store cannot tell what has changed."""
    world = World()
    world.store.set_level(1)
    with pytest.raises(CommandRefused):
        world.watch(0, b"a", None, None)
    world.put(b"a")
    assert not world.hub.has_work


def test_too_many_watchers() -> None:
    """Watchers have a bound in bytes; those that are removed make room."""
    world = World()
    hub = WatchHub(world.store, Replica(), WatchConfig(max_watcher_bytes=2100))
    stream = hub.open_stream(encode)
    one = Watcher(stream, 1, b"a", None, 2)
    hub.add(one)
    hub.add(Watcher(stream, 2, b"b", None, 2))
    with pytest.raises(TooManyWatchers):
        hub.add(Watcher(stream, 3, b"c", None, 2))
    hub.remove(one)
    hub.add(Watcher(stream, 3, b"c", None, 2))
    hub.close_stream(stream)
    assert (hub.load.watcher_bytes, hub.load.watchers, hub.load.streams) == (0, 0, 0)
    assert world.store.observer is None


# ---------------------------------------------------------------- users


def add_ann(world: World) -> Actor:
    """Have the store check users, of whom ann may read `a`."""
    for command in (
        AddUser("root", b"record"),
        GrantRole("root", "root"),
        AddUser("ann", b"record"),
        AddRole("reader"),
        GrantPermission("reader", Permission(Access.READ, b"a")),
        GrantRole("ann", "reader"),
        EnableAuth(),
    ):
        world.store.run_auth_command(command)
    return Actor("ann", world.store.auth.revision)


@pytest.mark.parametrize(
    "change", [RevokeRole("ann", "reader"), DeleteUser("ann"), ChangePassword("ann", b"2")]
)
def test_a_revoke_ends_watches_between_two_entries(change: AuthCommand) -> None:
    """What came before it is told, to a watcher that is behind too, and nothing of what follows."""
    world = World()
    ann = add_ann(world)
    world.put(b"a", b"b")
    watchers = [
        world.watch(0, b"a", None, None, reader=ann),
        world.watch(0, b"a", None, 1, reader=ann),  # reads the history
        world.watch(1, b"a", None, world.store.revision + 9, reader=ann),  # of the future
    ]
    others = [world.watch(1, b"a", None, None), world.watch(1, b"b", None, None, reader=Actor("root", 9))]
    world.put(b"a", b"b")
    last = world.store.revision
    world.store.run_auth_command(change)  # before the hub has had a turn
    world.put(b"a", b"b")
    ended: dict[Watcher, int] = {}
    while world.hub.has_work or any(not stream.is_empty for stream in world.streams):
        world.turn()
        for stream in world.streams:
            for item in world.take(stream):
                if isinstance(item, Denied):
                    assert item.watcher not in ended
                    ended[item.watcher] = len(world.expected[item.watcher.id].told)
    assert set(ended) == set(watchers)
    assert [[told.revision for told in one.told] for one in world.expected] == [
        [last],
        [last - 1, last],
        [],
        [last, last + 1],
        [last, last + 1],
    ]
    assert all(watcher.is_open for watcher in others)
    world.finish()


def test_who_loses_no_right_is_told_on() -> None:
    """Another change of users ends nothing, and does not wait until the hub has told everything."""
    world = World()
    ann = add_ann(world)
    watcher = world.watch(0, b"a", None, None, reader=ann)
    world.put(b"a")
    world.store.run_auth_command(AddRole("other"))
    assert world.streams[0].is_empty
    world.store.run_auth_command(DisableAuth())
    world.store.run_auth_command(DeleteUser("ann"))
    world.finish()
    assert watcher.is_open


def test_a_snapshot_with_other_users_ends_watches() -> None:
    """When the right was lost is not known then, so nothing of the snapshot is told."""
    world = World()
    ann = add_ann(world)
    watcher = world.watch(0, b"a", None, None, reader=ann)
    leader = Store()
    leader.restore(world.store.snapshot())
    leader.run_auth_command(RevokeRole("ann", "reader"))
    leader.run(Txn((), (Put(b"a", b"secret"),), ()))
    world.store.restore(leader.snapshot())
    world.turn()
    [item] = world.streams[0].take()
    assert isinstance(item, Denied)
    assert item.watcher is watcher
    world.finish()
