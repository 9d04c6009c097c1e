"""Whole clusters, driven step by step: the environment of the interaction transcripts.

It plays network, log writer and applier of each node. Settings are etcd's test defaults, all of them through
`Config`: elections after 3 ticks, no limits, and none of the safety options that are on by default here.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from raftkv_trio.errors import RaftError
from raftkv_trio.raft.confchange import decode_conf_change
from raftkv_trio.raft.config import Config
from raftkv_trio.raft.errors import (
    Compacted,
    LocalMessage,
    PeerNotFound,
    ProposalDropped,
    SnapshotOutOfDate,
    Unavailable,
)
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from tests.conformance.describe import describe_entries, describe_message, describe_ready
from tests.conformance.output import Output, core_logger

ELECTION_TICKS = 3
NO_LIMIT = 2**63
_TEXTS: tuple[tuple[type[RaftError], str], ...] = (
    (ProposalDropped, "raft proposal dropped"),
    (PeerNotFound, "raft: cannot step as peer not found"),
    (LocalMessage, "raft: cannot step raft local message"),
    (Compacted, "requested index is unavailable due to compaction"),
    (Unavailable, "requested entry at index is unavailable"),
    (SnapshotOutOfDate, "requested index is older than the existing snapshot"),
)
#: Errors that a transcript may show; any other is a failure of the test.
EXPECTED_ERRORS = tuple([kind for kind, _ in _TEXTS])


def text_of(error: RaftError) -> str:
    """What etcd's raft calls this error."""
    return next(text for kind, text in _TEXTS if isinstance(error, kind))


class HistoryStorage(MemoryStorage):
    """Durable state whose newest snapshot is always the state after the last applied entry."""

    def __init__(self, history: list[Snapshot]) -> None:
        super().__init__()
        self._history = history

    def snapshot(self) -> Snapshot:
        return self._history[-1]


@dataclass(slots=True, kw_only=True)
class Node:
    """One core with its disk, the work of its two storage threads, and its states, oldest first."""

    raw: RawNode
    storage: HistoryStorage
    asynchronous: bool
    history: list[Snapshot]
    append_work: list[Message] = field(default_factory=list)
    apply_work: list[Message] = field(default_factory=list)

    def write(self, hard_state: HardState, entries: Sequence[Entry], snapshot: Snapshot | None) -> None:
        if hard_state != HardState():
            self.storage.set_hard_state(hard_state)
        if snapshot is not None:
            assert not entries, "a snapshot and entries in one write"
            self.storage.apply_snapshot(snapshot)
        self.storage.append(entries)

    def apply(self, entries: Sequence[Entry]) -> None:
        """The state machine that strings together all it is given."""
        for entry in entries:
            last = self.history[-1]
            data, conf_state = entry.data, last.conf_state
            if entry.type is not EntryType.NORMAL:
                change = decode_conf_change(entry)
                conf_state, data = self.raw.apply_conf_change(change), change.context
            self.history.append(Snapshot(entry.index, entry.term, conf_state, last.data + data))


class Cluster:
    """Nodes 1, 2, ... and the messages between them, in the order in which they were sent."""

    def __init__(self) -> None:
        self.output = Output()
        self.nodes: list[Node] = []
        self.messages: list[Message] = []
        self._logger = core_logger(self.output)

    def add_node(self, snapshot: Snapshot, make_config: Callable[..., Config]) -> None:
        """`make_config` lacks only the id, the randomness and the logger."""
        history = [snapshot]
        storage = HistoryStorage(history)
        if snapshot.index:
            storage.apply_snapshot(snapshot)
        node_id = len(self.nodes) + 1
        config = make_config(id=node_id, random=random.Random(node_id), logger=self._logger)
        raw = RawNode(config, storage)
        node = Node(raw=raw, storage=storage, asynchronous=config.async_storage_writes, history=history)
        self.nodes.append(node)

    def node(self, node_id: int) -> Node:
        if not 1 <= node_id <= len(self.nodes):
            raise LookupError(f"there is no node {node_id}")
        return self.nodes[node_id - 1]

    @contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Print an error that etcd's raft returns; it is printed even if nothing else is."""
        try:
            yield
        except EXPECTED_ERRORS as error:
            self.output.error(text_of(error))

    # ------------------------------------------------------------ one step of one node

    def process_ready(self, node_id: int) -> None:
        node = self.node(node_id)
        ready = node.raw.ready()
        self.output.write(describe_ready(ready))
        if not node.asynchronous:
            node.write(ready.hard_state or HardState(), ready.entries, ready.snapshot)
            node.apply(ready.committed_entries)
        for message in ready.messages:
            if message.to == APPEND_THREAD:
                node.append_work.append(message)
            elif message.to == APPLY_THREAD:
                node.apply_work.append(message)
            else:
                self.messages.append(message)
        if not node.asynchronous:
            node.raw.advance()

    def process_append_thread(self, node_id: int) -> None:
        node = self.node(node_id)
        if not node.append_work:
            self.output.write("no append work to perform")
            return
        with self._processing(node.append_work.pop(0)) as message:
            hard_state = HardState(message.term, message.vote, message.commit)
            node.write(hard_state, message.entries, message.snapshot)

    def process_apply_thread(self, node_id: int) -> None:
        node = self.node(node_id)
        if not node.apply_work:
            self.output.write("no apply work to perform")
            return
        with self._processing(node.apply_work.pop(0)) as message:
            node.apply(message.entries)

    @contextmanager
    def _processing(self, message: Message) -> Iterator[Message]:
        """The frame of a storage thread: its message, the work, then the responses."""
        responses, message.responses = message.responses, []
        self.output.write(f"Processing:\n{describe_message(message)}\n")
        yield message
        self.output.write("Responses:\n")
        for response in responses:
            self.output.write(f"{describe_message(response)}\n")
        self.messages += responses

    def deliver(self, node_id: int, kind: MessageType | None = None) -> int:
        """Step what waits for a node, of one kind or of all; returns how many messages that were."""
        taken = self._take([m for m in self.messages if m.to == node_id and kind in (None, m.type)])
        for message in taken:
            self.output.write(f"{describe_message(message)}\n")
            try:
                self.node(node_id).raw.step(message)
            except EXPECTED_ERRORS as error:
                self.output.write(f"{text_of(error)}\n")
        return len(taken)

    def drop(self, node_id: int, kind: MessageType | None = None) -> int:
        """Lose what is on its way to a node over the network; returns how many messages that were."""
        lost = [
            m
            for m in self.messages
            if m.to == node_id and m.from_ > 0 and m.from_ != node_id and kind in (None, m.type)
        ]
        for message in self._take(lost):
            self.output.write(f"dropped: {describe_message(message)}\n")
        return len(lost)

    def _take(self, taken: list[Message]) -> list[Message]:
        ids = set(map(id, taken))
        self.messages = [message for message in self.messages if id(message) not in ids]
        return taken

    # ------------------------------------------------------------ many steps

    def stabilize(self, node_ids: Sequence[int]) -> None:
        """Until nothing moves: the Readys of all nodes, then deliveries, then append, then apply threads."""
        moved = True
        while moved:
            moved = False
            for node_id in node_ids:
                if self.node(node_id).raw.has_ready():
                    self._headed(f"> {node_id} handling Ready", self.process_ready, node_id)
                    moved = True
            for node_id in node_ids:
                if any(message.to == node_id for message in self.messages):
                    self._headed(f"> {node_id} receiving messages", self.deliver, node_id)
                    moved = True
            for node_id in node_ids:
                if self.node(node_id).append_work:
                    self._headed(f"> {node_id} processing append thread", self._append_all, node_id)
                    moved = True
            for node_id in node_ids:
                if self.node(node_id).apply_work:
                    self._headed(f"> {node_id} processing apply thread", self._apply_all, node_id)
                    moved = True

    def for_each(self, node_ids: Sequence[int], what: str, step: Callable[[int], object]) -> None:
        """`step` for each node, under a header if there are several."""
        for node_id in node_ids:
            if len(node_ids) > 1:
                self._headed(f"> {node_id} {what}", step, node_id)
            else:
                step(node_id)

    def _headed(self, header: str, step: Callable[[int], object], node_id: int) -> None:
        self.output.write(f"{header}\n")
        with self.output.indented():
            step(node_id)

    def _append_all(self, node_id: int) -> None:
        while self.node(node_id).append_work:
            self.process_append_thread(node_id)

    def _apply_all(self, node_id: int) -> None:
        while self.node(node_id).apply_work:
            self.process_apply_thread(node_id)

    # ------------------------------------------------------------ looking

    def print_log(self, node_id: int) -> None:
        storage = self.node(node_id).storage
        first, last = storage.first_index(), storage.last_index()
        if last < first:
            self.output.write(f"log is empty: first index={first}, last index={last}")
        else:
            self.output.write(describe_entries(storage.entries(first, last + 1, None)))
