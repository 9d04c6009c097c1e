"""A node's state is as fresh as the rounds that it has applied, whatever happens after a round began."""

from raftkv_trio.node.freshness import Freshness
from raftkv_trio.node.reads import PendingReads
from raftkv_trio.raft.types import ReadState
from raftkv_trio.sync import Wakeup


class Scene:
    """A node's reads, with a time and an applied index that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.applied = 5
        self.freshness = Freshness(lambda: self.applied, lambda: self.now_s)
        self.reads = PendingReads(node_id=1, boot_nonce=2, wakeup=Wakeup(), freshness=self.freshness)

    def ask(self) -> bytes:
        """Issue a round as the driver does in a turn."""
        self.reads.join()
        context = self.reads.next_context()
        assert context is not None
        return context

    def answer(self, context: bytes, index: int) -> None:
        self.reads.answered([ReadState(index, context)])


def test_fresh_as_of_the_begin_of_a_round_and_not_of_its_answer() -> None:
    """What happens while a round is out (a pause, messages that wait in a socket) counts as age."""
    scene = Scene()
    assert not scene.freshness.is_within(1000)
    context = scene.ask()
    scene.now_s += 7
    scene.answer(context, 5)
    assert scene.freshness.as_of == 100
    assert scene.freshness.is_within(7)
    scene.now_s += 0.1
    assert not scene.freshness.is_within(7)


def test_a_round_proves_nothing_before_its_index_is_applied() -> None:
    """A node that applies slowly, or not at all, grows old, however often the leader answers."""
    scene = Scene()
    scene.answer(scene.ask(), 5)
    for index in (7, 8, 9):
        scene.now_s += 1
        scene.answer(scene.ask(), index)
        assert scene.freshness.as_of == 100
    scene.applied = 8
    assert scene.freshness.as_of == 101
    scene.applied = 9
    assert scene.freshness.as_of == 103


def test_a_round_that_is_issued_again_counts_from_its_first_time() -> None:
    """After a change of leaders the same round is asked again; the older time is true as well."""
    scene = Scene()
    scene.ask()
    scene.now_s += 1
    scene.reads.leader_changed()
    context = scene.reads.next_context()
    assert context is not None
    scene.answer(context, 5)
    assert scene.freshness.as_of == 100


def test_a_node_that_is_asked_keeps_itself_fresh() -> None:
    """From half the allowed age on, the next tick begins a round, if none is out."""
    scene = Scene()
    scene.answer(scene.ask(), 5)
    scene.now_s += 1
    assert scene.freshness.is_within(4)
    scene.reads.tick()
    assert scene.reads.next_context() is None
    scene.now_s += 1.5
    assert scene.freshness.is_within(4)
    scene.reads.tick()
    context = scene.reads.next_context()
    assert context is not None
    assert scene.freshness.is_within(4)
    scene.reads.tick()
    scene.answer(context, 5)
    assert scene.reads.next_context() is None, "a round that is out refreshes as well as another one"
    assert scene.freshness.as_of == 102.5
