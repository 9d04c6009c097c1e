"""What waits for the stream to one member. It is bounded in bytes: if it is full, items are dropped.

Raft repairs the loss of a message by itself. A Forward that was dropped before it left is given back, so that
its proposals can be forwarded again.

Entries that wait are not queued again, however often the leader repeats them.

There are two queues, since megabytes of entries may wait for a slow link, and heartbeats cannot wait with
them:

- urgent: all raft messages but APP; they are small. They leave first, also between two parts of a large
  frame.
- bulk: APP and all other frames, in their order. An empty APP stays among the others: it names
  the entry before it, so a follower that has not received that entry yet would refuse it.

A message may overtake another one: Raft assumes a network that reorders (paper, section 2). In particular:

- A heartbeat tells no commit index beyond what the follower has acknowledged
  (`read_index.broadcast_heartbeat`). So it overtakes none of the entries that it commits.
- The answer to a read tells an index. The reader waits until it has applied its log up to there.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Protocol

from raftkv_trio.peers.framing import PART_BYTES, cut_into_parts
from raftkv_trio.peers.wire import (
    Forward,
    ForwardChange,
    Members,
    MembersQuery,
    PeerFrame,
    SingleFrame,
    encode_messages,
    encode_peer_frame,
)
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.sync import Wakeup

#: Small messages are merged into frames of up to this size. A larger message has a frame of its own.
FRAME_BYTES = PART_BYTES
#: Bound of the urgent queue. It is far above what waits there while the stream moves at all.
MAX_URGENT_BYTES = 1024 * 1024
#: What an item, and each entry or id in it, counts beside its data.
OVERHEAD_BYTES = 64

#: PROP and SNAP do not travel on streams; they are here because they are not small.
_BULK_TYPES = (MessageType.APP, MessageType.PROP, MessageType.SNAP)

Item = Message | SingleFrame


def size_of(item: Item) -> int:
    """About how many bytes an item takes on the wire and in memory."""
    if isinstance(item, Message):
        entries = sum([len(e.data) for e in item.entries]) + OVERHEAD_BYTES * len(item.entries)
        snapshot = len(item.snapshot.data) if item.snapshot else 0
        return OVERHEAD_BYTES + entries + snapshot + len(item.context)
    if isinstance(item, Forward):
        return OVERHEAD_BYTES + sum([OVERHEAD_BYTES + len(command) for _, command in item.proposals])
    if isinstance(item, ForwardChange):
        return OVERHEAD_BYTES + len(item.request)
    if isinstance(item, MembersQuery | Members):
        return OVERHEAD_BYTES * (1 + (len(item.addresses) if isinstance(item, Members) else 0))
    return OVERHEAD_BYTES * (1 + len(item.ids))


def size_of_frame(frame: PeerFrame) -> int:
    """About how many bytes a frame takes in memory that has arrived from a member."""
    if isinstance(frame, SingleFrame):
        return size_of(frame)
    return sum([size_of(message) for message in frame])


def is_urgent(item: Item) -> bool:
    """Whether an item belongs to the urgent queue."""
    return isinstance(item, Message) and item.type not in _BULK_TYPES


class Outbox:
    """The queues of one member's stream. They are closed, and take nothing, while there is no connection.

    Args:
        max_bytes: bound of the bulk queue.

    Attributes:
        is_open: whether there is a connection.
        dropped_messages, dropped_bytes: of all items that were refused, or given back by `close`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._urgent = ItemQueue(MAX_URGENT_BYTES)
        self._bulk = ItemQueue(max_bytes)
        self._parts: deque[bytes] = deque()  # of the frame that is being sent
        self._cut: Item | None = None  # what these parts hold; None if there are none
        self._filled = Wakeup()
        self.is_open = False
        self.dropped_messages = 0
        self.dropped_bytes = 0

    def offer(self, items: Sequence[Item], *, wakes: bool = True) -> bool:
        """Queue items; False if there is no connection, or no room for some of them.

        The urgent ones are queued all or none, and so are the others: a follower with a full queue of entries
        must hear heartbeats all the same.

        Args:
            wakes: wake the task that sends; if False, the caller takes the items out itself.
        """
        urgent = [item for item in items if is_urgent(item)]
        bulk = [item for item in items if not is_urgent(item)] if len(urgent) < len(items) else []
        if len(bulk) == 1 and isinstance(bulk[0], Message) and bulk[0].entries:
            bulk = self._without_waiting(bulk[0])
        is_taken = True
        for queue, queued in ((self._urgent, urgent), (self._bulk, bulk)):
            if queued and not (self.is_open and queue.put(queued)):
                self.dropped_messages += len(queued)
                self.dropped_bytes += sum(map(size_of, queued))
                is_taken = False
        if wakes and self.has_items:
            self.wake()
        return is_taken

    def _without_waiting(self, append: Message) -> list[Item]:
        """`append` without the entries that have not left completely yet; empty if nothing remains."""
        # A leader that probes repeats its append until it is answered, with the entries that have come since.
        # On a slow link the first one may take longer than that.
        waiting: list[Message] = []
        for item in chain(reversed(self._bulk), (self._cut,)):
            if isinstance(item, Message) and item.entries and item.term == append.term:
                # A leader streams in order. So this ends with the first append, unless it probes.
                if item.index < append.index:
                    break
                waiting.append(item)
        end, end_term = append.index, append.log_term
        for item in reversed(waiting):
            if item.index == end:
                end, end_term = item.entries[-1].index, item.entries[-1].term
        # Of one leader in one term, all appends hold the same entries. So the rest is what this leader would
        # send behind those that wait, and it leaves after them. If nothing remains, only a commit index is
        # lost, which heartbeats tell.
        rest = append.entries[end - append.index :]
        return [replace(append, index=end, log_term=end_term, entries=rest)] if rest else []

    @property
    def has_items(self) -> bool:
        """Whether anything waits, be it the rest of a large item."""
        return bool(self._urgent or self._bulk or self._parts)

    @property
    def is_small(self) -> bool:
        """Whether one small frame holds all that waits, or at least nothing large is begun."""
        return not self._parts and self._urgent.size_bytes + self._bulk.size_bytes <= FRAME_BYTES

    def wake(self) -> None:
        """End a `wait_filled`."""
        self._filled.set()

    async def wait_filled(self) -> None:
        """Return when items are offered, or at the next `wake`. Cancellation changes nothing."""
        self._filled.clear()  # what has filled it was taken
        await self._filled.wait()

    def next_frame(self) -> bytes:
        """Encode the first items into a frame, or a part of one. There must be some (`has_items`).

        With urgent messages comes the next of the bulk as well, so that neither queue waits for ever.
        """
        # A large urgent message is not cut: the parts of a frame of the other queue may be on their way, and
        # parts of two frames must not mix.
        messages = self._urgent.take_messages(FRAME_BYTES, at_least=1)
        if not self._parts:
            small = self._bulk.take_messages(FRAME_BYTES)
            if small or not self._bulk:
                return encode_messages(messages + small)
            self._cut = self._bulk.pop()
            frame = encode_peer_frame([self._cut] if isinstance(self._cut, Message) else self._cut)
            self._parts.extend(cut_into_parts(frame))
        part = self._parts.popleft()
        if not self._parts:
            self._cut = None
        return (encode_messages(messages) if messages else b"") + part

    def open(self) -> None:
        """There is a connection: items are taken from now on."""
        self.is_open = True

    def close(self) -> list[Item]:
        """The connection has ended: return the items that certainly never left, whole."""
        unsent = [*self._urgent.clear(), *self._bulk.clear()]
        if self._cut is not None:  # without its last part nobody can have read it
            unsent.insert(0, self._cut)
        self._parts.clear()
        self._cut = None
        self.dropped_messages += len(unsent)
        self.dropped_bytes += sum(map(size_of, unsent))
        self.is_open = False
        return unsent


class ItemQueue:
    """A queue of items that is bounded in bytes.

    Attributes:
        size_bytes: of all items (`size_of`).
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def __reversed__(self) -> Iterator[Item]:
        return reversed(self._items)

    def put(self, items: Sequence[Item]) -> bool:
        """Queue all of `items` or none of them; False if there is no room.

        Items that are larger than the whole bound are taken if nothing else waits, so that they can leave.
        """
        size = sum(map(size_of, items))
        if self._items and self.size_bytes + size > self._max_bytes:
            return False
        self._items.extend(items)
        self.size_bytes += size
        return True

    def take_messages(self, max_bytes: int, *, at_least: int = 0) -> list[Message]:
        """Take out the oldest items, as long as they are raft messages and have `max_bytes` at most.

        Of raft messages `at_least` so many are taken, whatever their size.
        """
        messages: list[Message] = []
        while self._items and isinstance(message := self._items[0], Message):
            max_bytes -= size_of(message)
            if max_bytes < 0 and len(messages) >= at_least:
                break
            self.pop()
            messages.append(message)
        return messages

    def pop(self) -> Item:
        """Take out the oldest item."""
        item = self._items.popleft()
        self.size_bytes -= size_of(item)
        return item

    def clear(self) -> list[Item]:
        """Take out everything, oldest first."""
        items, self._items = list(self._items), deque()
        self.size_bytes = 0
        return items


class PeerTransport(Protocol):
    """What the driver sends with: `Peers`, or its simulated form. No method waits."""

    def offer(self, peer_id: int, items: Sequence[Item]) -> bool:
        """Queue items for a member; False if some of them cannot be sent now.

        Urgent messages may be queued even so; all others are queued all or none.
        """
        ...

    def send_snapshot(self, message: Message) -> bool:
        """Begin to send the file of a SNAP message; the driver's `snapshot_sent` is told how it ends.

        False if the addressee is unknown; then `snapshot_sent` is not called.
        """
        ...

    def highest_level(self, peer_id: int) -> int | None:
        """The highest feature level of the process that gets what is offered for this member.

        None if there is no stream now: another version of the program may come back.
        """
        ...
