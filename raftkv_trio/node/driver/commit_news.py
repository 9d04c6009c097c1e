"""Commit news: appends without entries, which tell a follower nothing but that the commit index has advanced.

The core sends one to each follower whenever the index advances and there are no entries to send with it. To
send it, step it and answer it takes both ends about as long as an append with entries. Under a single client
there would be one such round for each write, on top of the round that replicates it. But the next append
tells the index too, and so does the next heartbeat. So news waits for something else that goes to the same
follower, for `WAIT_S` at most.

That is safe: it is a message that arrives later, or is lost (paper, section 2). And it delays nobody who
waits:

- The answer to a follower's read takes the news along, which tells the follower of what it must apply first.
- A follower that has forwarded a proposal of its own clients is sent all news at once for a while.
- So is everybody if the index covers a change of the members: once that is applied, the core sends nothing
  to those that it removes.
"""

from collections.abc import Iterable, Sequence
from typing import TypeGuard

from raftkv_trio.node.steps import Steps, run_steps, wait
from raftkv_trio.peers.outbox import Item
from raftkv_trio.raft.types import Entry, EntryType, Message, MessageType
from raftkv_trio.sync import Wakeup
from raftkv_trio.world import Clock, Worker

#: How long news waits at most. Reads with `max-stale`, on followers, see a write so much later.
WAIT_S = 0.01
#: How long after its last forwarded proposal a follower is sent news at once. Such clients come in series.
EAGER_S = 1.0


class CommitNews:
    """The news that waits: of each follower the newest.

    Args:
        wakeup: the driver's, set when news has waited long enough.
    """

    def __init__(self, clock: Clock, wakeup: Wakeup) -> None:
        self._clock = clock
        self._wakeup = wakeup
        self._waiting: dict[int, Message] = {}
        self._has_begun_to_wait = Wakeup()
        self._never = Wakeup()
        self._is_due = False
        self._eager_until: dict[int, float] = {}

    # ------------------------------------------------------------ the task

    async def run(self, worker: Worker) -> None:
        """Make held news due after `WAIT_S`, until cancelled. Cancellation drops held news."""
        await run_steps(self.steps(), worker, self._clock)

    def steps(self) -> Steps[None]:
        """The task, step by step."""
        while True:
            yield from wait(self._has_begun_to_wait)
            yield from wait(self._never, self._clock.now() + WAIT_S)
            if self._waiting:  # else it has left with something
                self._is_due = True
                self._wakeup.set()

    # ------------------------------------------------------------ for the driver

    def is_wanted_by(self, peer_id: int) -> None:
        """This follower has clients of its own that wait for what they have proposed."""
        self._eager_until[peer_id] = self._clock.now() + EAGER_S

    def leaving(self, peer_id: int, messages: list[Item]) -> list[Item]:
        """The messages of one Ready to send now, in order, after news that was held; news alone is held."""
        waiting = self._waiting.pop(peer_id, None)
        first = messages[0]
        if len(messages) == 1 and is_news(first) and not self._is_eager(peer_id):
            if not self._waiting:
                self._has_begun_to_wait.set()
            self._waiting[peer_id] = first
            return []
        if waiting is not None:
            messages.insert(0, waiting)
        # Each append that follows tells an index at least as high.
        appends = [at for at, item in enumerate(messages) if isinstance(item, Message) and item.entries]
        if appends:
            return [item for at, item in enumerate(messages) if at > appends[-1] or not is_news(item)]
        return messages

    def _is_eager(self, peer_id: int) -> bool:
        until = self._eager_until.get(peer_id)
        return until is not None and self._clock.now() < until

    def committed(self, entries: Iterable[Entry]) -> None:
        """These entries are committed, and are applied soon."""
        # Once a change is applied, the core sends nothing more to those that it removes.
        if any(entry.type is not EntryType.NORMAL for entry in entries):
            self._is_due = True

    def take_due(self) -> Sequence[tuple[int, Message]]:
        """Take out all news, with its follower, if it has waited long enough; once a turn, at its end."""
        if not self._is_due:
            return ()
        self._is_due = False
        taken, self._waiting = self._waiting, {}
        return tuple(taken.items())

    def leader_changed(self) -> None:
        """Drop all: this node does not lead any more, or leads a new term."""
        self._waiting.clear()
        self._eager_until.clear()


def is_news(item: Item) -> TypeGuard[Message]:
    """Whether this is an append without entries: it carries a commit index, or probes."""
    return isinstance(item, Message) and item.type is MessageType.APP and not item.entries
