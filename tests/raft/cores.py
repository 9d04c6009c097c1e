"""Cores in memory for tests: each with a disk and a state machine, and a network between them that obeys.

Nothing moves by itself. `settle` moves everything until nothing is left; a test that wants another order
takes the single steps. Time is `tick`.
"""

import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from raftkv_trio.raft.confchange import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    Transition,
    decode_conf_change,
)
from raftkv_trio.raft.config import Config
from raftkv_trio.raft.errors import PeerNotFound, ProposalDropped
from raftkv_trio.raft.rawnode import RawNode
from raftkv_trio.raft.storage import MemoryStorage
from raftkv_trio.raft.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Snapshot,
    StateRole,
)

ELECTION_TICKS = 10
#: Of handing out and delivering, before cores that only keep each other busy are given up.
MAX_ROUNDS = 5000
#: As a node is bootstrapped: in term 1, with a log that begins behind a snapshot at index 1.
BOOTSTRAPPED = HardState(1, None, 1)


def bootstrap(voters: Iterable[int], learners: Iterable[int] = (), outgoing: Iterable[int] = ()) -> Snapshot:
    """What every log of a cluster begins with."""
    conf_state = ConfState(tuple(voters), tuple(learners), tuple(outgoing))
    return Snapshot(1, 1, conf_state)


def log_of(terms: Sequence[int], first_index: int = 2) -> list[Entry]:
    """Entries of these terms, one each, whose data tell them apart."""
    return [Entry(term, i, data=b"%d/%d" % (term, i)) for i, term in enumerate(terms, first_index)]


def adding(*node_ids: int, transition: Transition = Transition.AUTO) -> ConfChangeV2:
    """A change that makes voters."""
    changes = tuple([ConfChangeSingle(ConfChangeType.ADD_VOTER, node_id) for node_id in node_ids])
    return ConfChangeV2(changes, transition)


def removing(*node_ids: int, transition: Transition = Transition.AUTO) -> ConfChangeV2:
    """A change that removes members."""
    changes = tuple([ConfChangeSingle(ConfChangeType.REMOVE, node_id) for node_id in node_ids])
    return ConfChangeV2(changes, transition)


class Core:
    """One core, its disk (`storage`: what is durable), and a state machine that keeps what it applies.

    Attributes:
        writes, applies: STORAGE_APPEND and STORAGE_APPLY messages not worked off yet.
        applied: entries applied since the start or the last snapshot, in order.
        reads: answers to `read_index`.
    """

    def __init__(self, node_id: int, storage: MemoryStorage, **settings: Any) -> None:
        settings.setdefault("random", random.Random(node_id))
        settings.setdefault("election_ticks", ELECTION_TICKS)
        settings.setdefault("async_storage_writes", True)
        settings.setdefault("applied", storage.snapshot().index)
        self.id = node_id
        self.storage = storage
        self.raw = RawNode(Config(id=node_id, **settings), storage)
        self.writes: deque[Message] = deque()
        self.applies: deque[Message] = deque()
        self.applied: list[Entry] = []
        self.snapshot = storage.snapshot()
        self.reads: list[ReadState] = []

    @property
    def log(self) -> list[Entry]:
        """All entries, durable or not."""
        log = self.raw.raft.log
        return list(log.slice(log.first_index(), log.last_index() + 1, None))

    @property
    def data(self) -> list[bytes]:
        """What was applied, without empty entries and conf changes."""
        return [e.data for e in self.applied if e.type is EntryType.NORMAL and e.data]

    @property
    def leads(self) -> bool:
        return self.raw.role is StateRole.LEADER

    @property
    def configuration(self) -> ConfState:
        return self.raw.status().configuration

    def lead_alone(self) -> None:
        """Elect this single voter; its first entry is not handed out yet."""
        self.raw.campaign()
        while not self.leads:
            self.hand_out()
            self.write()

    def hand_out(self) -> list[Message]:
        """Take every Ready; keep the storage work, return the messages to other nodes."""
        sent = []
        while self.raw.has_ready():
            ready = self.raw.ready()
            self.reads += ready.read_states
            for message in ready.messages:
                if message.to == APPEND_THREAD:
                    self.writes.append(message)
                elif message.to == APPLY_THREAD:
                    self.applies.append(message)
                else:
                    sent.append(message)
        return sent

    def write(self) -> list[Message]:
        """Make the oldest write durable; returns the responses to other nodes."""
        message = self.writes.popleft()
        if message.snapshot is not None:
            self.storage.apply_snapshot(message.snapshot)
            self.snapshot = message.snapshot
            self.applied = []
        self.storage.append(message.entries)
        if message.term:
            self.storage.set_hard_state(HardState(message.term, message.vote, message.commit))
        return self._deliver(message.responses)

    def apply(self) -> list[Message]:
        """Apply the oldest batch of committed entries."""
        message = self.applies.popleft()
        for entry in message.entries:
            if entry.index <= self.snapshot.index:
                continue  # part of a snapshot that was installed meanwhile
            if entry.type is not EntryType.NORMAL:
                self.raw.apply_conf_change(decode_conf_change(entry))
            self.applied.append(entry)
        return self._deliver(message.responses)

    def _deliver(self, responses: Sequence[Message]) -> list[Message]:
        for response in responses:
            if response.to == self.id:
                try:
                    self.raw.step(response)
                except PeerNotFound:
                    pass  # this node has been removed
        return [response for response in responses if response.to != self.id]


class Network:
    """Cores and the messages between them.

    Attributes:
        wire: messages on their way, oldest first.
        isolated: nodes to and from which every message is lost.
        lost: a further condition under which a message is lost.
    """

    def __init__(self, *, snapshot: Snapshot, members: Iterable[int] | None = None, **settings: Any) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self.cores: dict[int, Core] = {}
        self.wire: deque[Message] = deque()
        self.isolated: set[int] = set()
        self.lost: Callable[[Message], bool] = lambda message: False
        conf = snapshot.conf_state
        for node_id in members or (*conf.voters, *conf.learners):
            self.add(node_id)

    def __getitem__(self, node_id: int) -> Core:
        return self.cores[node_id]

    def add(
        self,
        node_id: int,
        entries: Sequence[Entry] = (),
        hard_state: HardState = BOOTSTRAPPED,
        **settings: Any,
    ) -> Core:
        """A node with this much in its log; in place of the one of that id, if there is one."""
        storage = MemoryStorage(self._snapshot, hard_state, entries)
        self.cores[node_id] = Core(node_id, storage, **{**self._settings, **settings})
        return self.cores[node_id]

    def join(self, node_id: int) -> Core:
        """A node without a log, as one that is to be made a member."""
        self.cores[node_id] = Core(node_id, MemoryStorage(), **self._settings)
        return self.cores[node_id]

    def restart(self, node_id: int) -> Core:
        """Lose all of a node that is not durable, and start it from the rest."""
        old = self.cores[node_id]
        self.cores[node_id] = Core(node_id, old.storage, **self._settings)
        return self.cores[node_id]

    # ------------------------------------------------------------ steps

    def hand_out(self, *node_ids: int) -> None:
        for node_id in node_ids or self.cores:
            self.wire += self.cores[node_id].hand_out()

    def write(self, *node_ids: int) -> None:
        for node_id in node_ids or self.cores:
            while self.cores[node_id].writes:
                self.wire += self.cores[node_id].write()

    def apply(self, *node_ids: int) -> None:
        for node_id in node_ids or self.cores:
            while self.cores[node_id].applies:
                self.wire += self.cores[node_id].apply()

    def deliver(self, message: Message) -> None:
        """Step `message`, or lose it."""
        ends = {message.from_, message.to}
        if ends & self.isolated or message.to not in self.cores or self.lost(message):
            return
        try:
            self.cores[message.to].raw.step(message)
        except PeerNotFound:
            pass  # one of the two has been removed
        except ProposalDropped:
            pass  # a forwarded proposal came to one that does not lead

    def settle(self) -> None:
        """Move everything until nothing is left to do; time stands still."""
        for _ in range(MAX_ROUNDS):
            self.hand_out()
            self.write()
            self.apply()
            if not self.wire and not any(core.raw.has_ready() for core in self.cores.values()):
                return
            for _ in range(len(self.wire)):
                self.deliver(self.wire.popleft())
        raise AssertionError(f"the cores have not come to rest in {MAX_ROUNDS} rounds")

    def tick(self, ticks: int = 1, nodes: Collection[int] | None = None) -> None:
        """Let time pass for `nodes`, or all, and settle after each tick."""
        for _ in range(ticks):
            for node_id in self.cores if nodes is None else nodes:
                self.cores[node_id].raw.tick()
            self.settle()

    def elect(self, node_id: int) -> Core:
        """Let `node_id` lead: everybody's lease runs out, then it campaigns."""
        for core in self.cores.values():
            if not core.leads:
                core.raw.raft.election_elapsed = ELECTION_TICKS
        self.cores[node_id].raw.campaign()
        self.settle()
        assert self.cores[node_id].leads, f"node {node_id} was not elected"
        return self.cores[node_id]

    def propose(self, node_id: int, *data: bytes) -> None:
        self.cores[node_id].raw.propose(*data)
        self.settle()

    def change(self, node_id: int, change: ConfChange | ConfChangeV2) -> None:
        self.cores[node_id].raw.propose_conf_change(change)
        self.settle()

    @property
    def leader(self) -> Core:
        """The only leader that is not isolated."""
        (leader,) = [c for c in self.cores.values() if c.leads and c.id not in self.isolated]
        return leader


def three(**settings: Any) -> Network:
    """Nodes 1 to 3, all voters."""
    return Network(snapshot=bootstrap((1, 2, 3)), **settings)


def kinds(messages: Iterable[Message]) -> list[MessageType]:
    return [message.type for message in messages]


def of_kind(messages: Iterable[Message], kind: MessageType) -> list[Message]:
    return [message for message in messages if message.type is kind]
