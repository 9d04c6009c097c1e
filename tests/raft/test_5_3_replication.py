"""Paper, section 5.3: log replication; and the flow control around it."""

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise, product

import pytest

from raftkv_trio.raft.errors import LogError
from raftkv_trio.raft.log import RaftLog
from raftkv_trio.raft.progress import ProgressState
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import ConfState, Entry, HardState, Message, MessageType, Snapshot
from tests.raft.cores import ELECTION_TICKS, Core, Network, bootstrap, kinds, log_of, of_kind, three


def test_an_entry_is_committed_on_a_majority_and_applied_everywhere() -> None:
    """What a majority has is committed, and every node applies it, in the leader's order."""
    net = three()
    net.elect(1)
    net.isolated = {3}
    net.propose(1, b"x", b"y")
    assert (net[1].data, net[2].data) == ([b"x", b"y"], [b"x", b"y"])
    net.isolated = set()
    net.tick(2, nodes=[1])
    assert net[3].data == [b"x", b"y"]


def test_without_a_majority_nothing_is_committed() -> None:
    """An entry that only a minority has is applied by no node."""
    net = three()
    net.elect(1)
    net.isolated = {1}
    net.propose(1, b"x")
    assert [core.data for core in net.cores.values()] == [[], [], []]


def test_a_leader_only_appends() -> None:
    """A leader never takes entries of others, not even of its own term (Leader Append-Only)."""
    net = three()
    leader = net.elect(1)
    log = leader.log
    leader.raw.step(
        Message(type=MessageType.APP, to=1, from_=2, term=2, log_term=1, index=1, entries=(Entry(2, 2),))
    )
    assert (leader.log, leader.leads) == (log, True)


def test_a_follower_refuses_what_does_not_connect() -> None:
    """Without the entry before the new ones a follower refuses, and says where the logs may agree."""
    core = three().add(2, log_of([1, 1, 1]))
    core.raw.step(
        Message(type=MessageType.APP, to=2, from_=1, term=2, log_term=2, index=9, entries=(Entry(2, 10),))
    )
    core.hand_out()
    (answer,) = core.write()
    assert (answer.reject, answer.index, answer.reject_hint, answer.log_term) == (True, 9, 4, 1)


def _append(core: Core, terms: Sequence[int], *, after: int, term: int, commit: int = 0) -> list[Message]:
    """Give a follower entries of `terms` behind index `after`, whose own term is 1."""
    entries = tuple(log_of(terms, after + 1))
    core.raw.step(
        Message(
            type=MessageType.APP,
            to=core.id,
            from_=1,
            term=term,
            log_term=1,
            index=after,
            entries=entries,
            commit=commit,
        )
    )
    core.hand_out()
    return [answer for _ in range(len(core.writes)) for answer in core.write()]


@pytest.mark.parametrize(
    ("given", "terms"),
    [
        ((1, [1, 1]), [1, 1, 1]),
        ((1, [1, 1, 1]), [1, 1, 1]),
        ((1, [1, 1, 1, 3]), [1, 1, 1, 3]),
        ((2, [3]), [1, 3]),
        ((1, [3, 3]), [3, 3]),
        ((4, [3]), [1, 1, 1, 3]),
    ],
    ids=["old", "same", "longer", "conflict in the middle", "conflict at the start", "next"],
)
def test_only_a_conflict_deletes_entries(given: tuple[int, list[int]], terms: list[int]) -> None:
    """Repeated or overtaken appends delete nothing; a conflicting entry deletes itself and all behind it."""
    core = three().add(2, log_of([1, 1, 1]))
    after, new = given
    (answer,) = _append(core, new, after=after, term=3)
    assert [entry.term for entry in core.log] == terms
    assert (answer.reject, answer.index) == (False, after + len(new))
    assert [entry.term for entry in core.storage.entries(2, core.storage.last_index() + 1, None)] == terms


@pytest.mark.parametrize(("commit", "committed"), [(1, 1), (3, 3), (4, 4), (9, 4)])
def test_a_follower_commits_no_further_than_what_it_was_given(commit: int, committed: int) -> None:
    """The commit index is the leader's, but at most that of the last entry known to agree."""
    core = three().add(2, log_of([1, 1, 1, 1, 1]))
    _append(core, [1, 1, 1], after=1, term=2, commit=commit)
    assert core.raw.commit == committed


#: Figure 7: the terms in the logs of six followers of a leader that has just come to power in term 8.
_LEADER_TERMS = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
_FIGURE_7 = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("scenario", _FIGURE_7)
def test_a_leader_makes_every_log_its_own(scenario: str) -> None:
    """Whatever a follower of figure 7 has, it ends up with the leader's log."""
    net = three()
    leader = net.add(1, log_of(_LEADER_TERMS), HardState(7, None, 1), pre_vote=False)
    net.add(2, log_of(_FIGURE_7[scenario]), HardState(7, None, 1))
    net.add(3, hard_state=HardState(7, None, 1))
    net.elect(1)
    assert net[2].log == leader.log
    assert [entry.term for entry in net[2].log] == [*_LEADER_TERMS, 8]


def test_whole_terms_are_skipped_when_logs_are_compared() -> None:
    """Finding where two long logs agree takes one probe a term at most, not one an entry."""
    net = three()
    leader = net.add(1, log_of([1] * 5 + [3] * 50 + [6] * 50), HardState(6, None, 1))
    net.add(2, log_of([1] * 5 + [2] * 40 + [4] * 40 + [5] * 40), HardState(6, None, 1))
    net.isolated = {2}
    net.elect(1)
    net.isolated = set()
    rejected = 0

    def count(message: Message) -> bool:
        nonlocal rejected
        rejected += message.type is MessageType.APP_RESP and message.reject
        return False

    net.lost = count
    net.tick(3, nodes=[1])
    assert net[2].log == leader.log
    assert rejected <= 3


# ---------------------------------------------------------------- flow control


def _state(core: Core, node_id: int) -> tuple[ProgressState, bool]:
    progress = core.raw.status().progress[node_id]
    return progress.state, progress.paused


def test_a_probe_waits_for_its_answer() -> None:
    """To a follower whose log is not known one append is sent, and the next after its answer."""
    net = three()
    leader = net.elect(1)
    leader.raw.report_unreachable(2)
    leader.raw.propose(b"x")
    leader.raw.propose(b"y")
    sent = [m for m in of_kind(leader.hand_out(), MessageType.APP) if m.to == 2]
    assert [len(m.entries) for m in sent] == [1]
    assert _state(leader, 2) == (ProgressState.PROBE, True)


def _probes(net: Network, *, ticks: int) -> list[int]:
    """The ticks in which leader 1 sends entries to node 2, which acknowledges nothing and answers heartbeats.

    Five reads come in each tick, and each sends heartbeats.
    """
    sent: list[int] = []  # in each tick

    def lost(message: Message) -> bool:
        if message.to == 2 and message.type is MessageType.APP and message.entries:
            sent[-1] += 1
        return message.type is MessageType.APP_RESP and message.from_ == 2

    net.lost = lost
    for _ in range(ticks):
        sent.append(0)
        net[1].raw.tick()
        for _ in range(5):
            net[1].raw.read_index(b"read")
            net.settle()
    return [tick for tick, count in enumerate(sent) for _ in range(count)]


@pytest.mark.parametrize("lost", ["nothing", "connection"])
def test_entries_that_are_not_acknowledged_are_not_sent_with_each_heartbeat(lost: str) -> None:
    """They are sent again at growing intervals, up to an election timeout, and at once if they were lost."""
    net = three()
    leader = net.elect(1)
    leader.raw.report_unreachable(2)
    leader.raw.propose(bytes(1000))
    sent = _probes(net, ticks=50)
    assert 3 < len(sent) < 12
    gaps = [later - earlier for earlier, later in pairwise(sent)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == ELECTION_TICKS
    if lost == "connection":
        leader.raw.report_unreachable(2)
        assert _probes(net, ticks=4) == [0, 1, 3]
    net.lost = lambda message: False
    net.tick(ELECTION_TICKS)
    assert _state(leader, 2) == (ProgressState.REPLICATE, False)


@pytest.mark.parametrize("is_probed", [True, False])
def test_twenty_answers_to_heartbeats_make_one_append_with_entries_at_most(is_probed: bool) -> None:
    """In a heartbeat interval. And none to a member that is streamed to, which has been sent all of them."""
    net = three()
    leader = net.elect(1)
    net.isolated = {2}
    if is_probed:
        leader.raw.report_unreachable(2)
    net.propose(1, bytes(1000))
    sent = []
    for _ in range(8):
        messages = []
        for _ in range(20):
            leader.raw.step(Message(type=MessageType.HEARTBEAT_RESP, to=1, from_=2, term=leader.raw.term))
            messages += leader.hand_out()
        sent.append(sum(m.to == 2 and bool(m.entries) for m in of_kind(messages, MessageType.APP)))
        net.tick(1, nodes=[1])
    assert sent == ([0, 1, 0, 1, 0, 0, 0, 1] if is_probed else [0] * 8)


def test_without_the_switch_they_are() -> None:
    """As in etcd's raft, for the transcripts."""
    net = three(space_probes=False)
    leader = net.elect(1)
    leader.raw.report_unreachable(2)
    leader.raw.propose(bytes(1000))
    assert len(_probes(net, ticks=10)) >= 40


def test_appends_stream_up_to_the_limit_of_messages() -> None:
    """A known follower gets appends without waiting, but no more unanswered than the limit."""
    net = three(max_inflight_messages=3)
    leader = net.elect(1)
    for number in range(5):
        leader.raw.propose(b"%d" % number)
    sent = [m for m in of_kind(leader.hand_out(), MessageType.APP) if m.to == 2]
    assert [m.entries[0].data for m in sent] == [b"0", b"1", b"2"]
    assert _state(leader, 2) == (ProgressState.REPLICATE, True)
    net.wire.extend(sent)
    net.settle()
    assert net[2].data == [b"0", b"1", b"2", b"3", b"4"]


def test_appends_stream_up_to_the_limit_of_bytes() -> None:
    """The append that reaches the limit of bytes in flight is sent; the next one waits."""
    net = three(max_inflight_bytes=1000, max_message_bytes=600)
    leader = net.elect(1)
    for _ in range(4):
        leader.raw.propose(bytes(500))
    sent = [m for m in of_kind(leader.hand_out(), MessageType.APP) if m.to == 2]
    assert len(sent) == 2
    net.wire.extend(sent)
    net.settle()
    assert len(net[2].data) == 4


def test_a_message_holds_at_most_its_bytes_but_always_an_entry() -> None:
    """Entries are split over messages of `max_message_bytes`; one entry that is larger goes alone."""
    net = three(max_message_bytes=100)
    leader = net.elect(1)
    leader.raw.propose(bytes(30), bytes(30), bytes(500), bytes(30))
    net.settle()
    leader.raw.report_unreachable(3)
    net.lost = lambda message: len(message.entries) > 2
    assert [len(data) for data in net[3].data] == [30, 30, 500, 30]


def test_a_message_holds_at_most_its_number_of_entries() -> None:
    """Entries are split over messages of `max_message_entries`, however small they are."""
    net = three(max_message_entries=2)
    leader = net.elect(1)
    leader.raw.propose(*[b"x"] * 7)
    numbers: list[int] = []

    def note(message: Message) -> bool:
        numbers.append(len(message.entries))
        return False

    net.lost = note
    net.settle()
    assert net[3].data == [b"x"] * 7
    assert max(numbers) == 2


def test_a_follower_behind_the_log_gets_a_snapshot_and_then_the_rest() -> None:
    """Where the log does not reach back, a snapshot is sent, nothing else until it is answered."""
    net = three()
    leader = net.elect(1)
    net.isolated = {3}
    net.propose(1, b"x", b"y")
    leader.storage.create_snapshot(leader.raw.applied, leader.configuration, b"state")
    leader.storage.compact(leader.raw.applied)
    net.propose(1, b"z")
    net.isolated = set()
    net.lost = lambda message: message.type is MessageType.SNAP
    net.tick(2, nodes=[1])
    assert _state(leader, 3) == (ProgressState.SNAPSHOT, True)
    net.lost = lambda message: False
    leader.raw.report_snapshot(3, ok=False)
    net.tick(2, nodes=[1])
    assert (net[3].snapshot.data, net[3].data) == (b"state", [b"z"])
    assert _state(leader, 3) == (ProgressState.REPLICATE, False)


def test_a_delivered_snapshot_is_probed_behind() -> None:
    """Told that a snapshot arrived, a leader probes from behind it, after the follower's next word."""
    net = three()
    leader = net.elect(1)
    net.isolated = {3}
    net.propose(1, b"x")
    leader.storage.create_snapshot(leader.raw.applied, leader.configuration, b"state")
    leader.storage.compact(leader.raw.applied)
    net.isolated = set()
    net.lost = lambda message: (
        message.type is MessageType.APP_RESP and message.from_ == 3 and (not message.reject)
    )
    net.tick(2, nodes=[1])
    assert _state(leader, 3) == (ProgressState.SNAPSHOT, True)
    leader.raw.report_snapshot(3, ok=True)
    progress = leader.raw.status().progress[3]
    assert (progress.state, progress.paused, progress.next) == (
        ProgressState.PROBE,
        True,
        leader.raw.applied + 1,
    )
    net.lost = lambda message: False
    net.tick(1, nodes=[1])
    assert _state(leader, 3) == (ProgressState.REPLICATE, False)


def test_a_snapshot_of_the_past_is_ignored() -> None:
    """A snapshot at or below the commit index changes nothing and is answered with that index."""
    net = three()
    net.elect(1)
    net.propose(1, b"x")
    core, log = net[2], net[2].log
    conf_state = core.configuration
    snapshot = Snapshot(core.raw.commit, core.raw.term, conf_state, b"?")
    core.raw.step(Message(type=MessageType.SNAP, to=2, from_=1, term=2, snapshot=snapshot))
    core.hand_out()
    (answer,) = core.write()
    assert (core.log, core.data, answer.index) == (log, [b"x"], core.raw.commit)


def test_a_snapshot_of_what_the_log_holds_only_commits() -> None:
    """Where the log reaches a snapshot already, its entries are committed and kept."""
    core = three().add(2, log_of([1, 1, 1]))
    snapshot = Snapshot(3, 1, bootstrap((1, 2, 3)).conf_state, b"?")
    core.raw.step(Message(type=MessageType.SNAP, to=2, from_=1, term=2, snapshot=snapshot))
    assert (core.raw.commit, core.log) == (3, log_of([1, 1, 1]))


def test_applying_is_limited_in_bytes() -> None:
    """No more committed bytes are handed out than the limit until they are applied, but always an entry."""
    net = Network(snapshot=bootstrap((1,)), max_committed_bytes_per_ready=100)
    leader = net.elect(1)
    leader.raw.propose(bytes(50), bytes(20), bytes(40), bytes(500))
    net.hand_out()
    while leader.writes:
        leader.write()
    sizes = []
    while leader.hand_out() or leader.applies:
        assert len(leader.applies) == 1
        sizes.append([len(entry.data) for entry in leader.applies[0].entries])
        leader.apply()
    assert sizes == [[50], [20, 40], [500]]


def test_what_may_leave_at_once_does() -> None:
    """A leader's appends leave beside its own write; a follower's acknowledgement only after its write."""
    net = three()
    leader = net.elect(1)
    leader.raw.propose(b"x")
    sent = leader.hand_out()
    assert kinds(sent) == [MessageType.APP, MessageType.APP]
    assert leader.writes
    net[2].raw.step(sent[0])
    assert net[2].hand_out() == []
    assert kinds(net[2].write()) == [MessageType.APP_RESP]


def test_a_follower_that_lacks_very_much_is_streamed_it_in_pieces() -> None:
    """One answer does not make the leader hand out all of a long log; the next ones go on."""
    net = three(max_message_entries=8192)
    leader = net.elect(1)
    net.isolated = {3}
    leader.raw.propose(*[b"x"] * 100_000)
    net.settle()
    leader.raw.report_unreachable(3)
    net.isolated = set()
    sent: list[int] = []

    def is_lost(message: Message) -> bool:
        """All appends but the first one."""
        if is_append := message.to == 3 and message.type is MessageType.APP:
            sent.append(len(message.entries))
        return is_append and len(sent) > 1

    net.lost = is_lost
    net.tick(1, nodes=[1])
    assert sent == [8192, 8192, 8192]
    net.lost = lambda message: False
    leader.raw.report_unreachable(3)
    net.tick(2, nodes=[1])
    assert len(net[3].data) == 100_000


class _WatchedStorage(MemoryStorage):
    """Notes how much is looked at."""

    def __init__(self, terms: Iterable[int]) -> None:
        super().__init__()
        self.append([Entry(term, index) for index, term in enumerate(terms, 1)])
        self.asked: list[int] = []
        self.terms = 0

    def entries(self, low: int, high: int, max_bytes: int | None) -> Sequence[Entry]:
        self.asked.append(high - low)
        return super().entries(low, high, max_bytes)

    def term(self, index: int) -> int:
        self.terms += 1
        return super().term(index)


def _log_on(storage: MemoryStorage) -> RaftLog:
    return RaftLog(storage, logging.getLogger(), 1024)


def test_what_a_message_costs_does_not_grow_with_what_a_follower_lacks() -> None:
    """Of a long log only what may fit into the message is looked at."""
    storage = _WatchedStorage([1] * 10_000)
    log = _log_on(storage)
    assert len(log.entries_from(2, 16 * 100)) == 100
    assert len(log.entries_from(2, 16 * 100, 50)) == 50
    assert max(storage.asked) <= 101


def test_where_two_logs_part_is_found_by_halves() -> None:
    """A member may name the first term of a long log. The answer is the same as one by one."""
    terms = [1, 1, 1, 3, 3, 5, 5, 5, 5, 8]
    for compacted in (0, 5):
        storage = MemoryStorage()
        storage.append([Entry(term, index) for index, term in enumerate(terms, 1)])
        if compacted:
            storage.create_snapshot(compacted, ConfState(voters=(1,)), b"")
            storage.compact(compacted)
        log = _log_on(storage)
        for index, term in product(range(13), range(10)):
            assert log.find_conflict_by_term(index, term) == _one_by_one(log, index, term)
    watched = _WatchedStorage([1] + [2] * 100_000)
    assert _log_on(watched).find_conflict_by_term(100_000, 1) == (1, 1)
    assert watched.terms < 30


def _one_by_one(log: RaftLog, index: int, term: int) -> tuple[int, int]:
    while index > 0:
        try:
            own = log.term(index)
        except LogError:
            return index, 0
        if own <= term:
            return index, own
        index -= 1
    return 0, 0
