"""The network of level 1: frames between nodes; each is delivered, delayed, duplicated or lost on its own.

It stands where `peers/` stands in a real node, and keeps the same promises: a frame offered without a
connection is refused, a Forward or Refused arrives at most once, and a node is told when a connection ends.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from random import Random
from typing import Protocol

from raftkv_trio.payload.levels import Levels
from raftkv_trio.peers.handshake_frames import JoinAnswer
from raftkv_trio.peers.outbox import Item
from raftkv_trio.peers.wire import Forward, ForwardChange, Members, MembersQuery, PeerFrame, Refused
from raftkv_trio.raft.types import Message
from raftkv_trio.testing.world.timeline import Timeline, Trace

#: After this time a sender of a snapshot gives up a peer that says nothing.
SILENT_SNAPSHOT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The conditions of a network.

    Attributes:
        loss, duplication: probabilities for each frame.
        delay_s: shortest and longest transit time.
        stray: the probability of an extra delay.
        stray_delay_s: the longest extra delay.
        reorders: whether a later frame may overtake an earlier one.
        bytes_per_s: how much the link between two nodes carries each way, at level 2; None: any amount.
        silence: the probability that a process ends because its host dies: nobody hears that its connections
            have ended. Those at the other ends stay open, without a word, until somebody sends something.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay_s: tuple[float, float] = (0.0002, 0.002)
    stray: float = 0.0
    stray_delay_s: float = 1.0
    reorders: bool = False
    bytes_per_s: float | None = None
    silence: float = 0.0


class Receiver(Protocol):
    """A node, as the network sees it."""

    def receive(self, sender: int, frame: PeerFrame) -> None:
        """A frame arrives."""
        ...

    def receive_snapshot(self, sender: int, message: Message, data: bytes, arrives_bytes: int) -> None:
        """The first `arrives_bytes` of a snapshot's file arrive; fewer than all if the transfer broke off."""
        ...

    def disconnected(self, peer_id: int) -> None:
        """The connection to a peer ended."""
        ...

    def dials(self, peer_id: int) -> bool:
        """Whether this node wants a connection to a peer."""
        ...

    def meet(self, peer_id: int) -> int | None:
        """A peer connects to this node. Returns the index at which the peer was removed; None: it was not."""
        ...

    def levels(self) -> Levels:
        """What this node tells of feature levels."""
        ...

    def refuses(self, peer_id: int, levels: Levels) -> bool:
        """Whether this node takes no connection with a peer of these levels."""
        ...

    def told_removed(self, peer_id: int, index: int) -> None:
        """A peer says that this node was removed."""
        ...

    def answer(self, asker: int) -> JoinAnswer | None:
        """Which cluster this is; None if the node does not answer."""
        ...


class MessageNetwork:
    """Carries frames between the nodes of one cluster.

    Attributes:
        conditions: the conditions from now on.
        delivered, lost, duplicated: numbers of frames so far.
    """

    def __init__(self, timeline: Timeline, random: Random, trace: Trace, conditions: Conditions) -> None:
        self.conditions = conditions
        self.delivered = self.lost = self.duplicated = 0
        self._timeline = timeline
        self._random = random
        self._trace = trace
        self._receivers: dict[int, Receiver] = {}
        self._lives: Counter[int] = Counter()  # by node: a frame does not arrive after a restart
        self._connections: dict[tuple[int, int], int] = {}  # sender, receiver -> number
        self._count = 0
        self._cuts: dict[int, Sequence[tuple[int, int]]] = {}
        self._cut: set[tuple[int, int]] = set()
        self._latest: dict[tuple[int, int], float] = {}
        self._dead_hosts: set[int] = set()
        self._unanswered: dict[tuple[int, int], Callable[[bool], None]] = {}  # snapshots; sender, receiver

    # ------------------------------------------------------------ nodes come and go

    def join(self, node_id: int, receiver: Receiver) -> None:
        """A node is up; it and the others connect to each other soon."""
        self._receivers[node_id] = receiver
        self._dead_hosts.discard(node_id)
        self._lives[node_id] += 1
        for other in list(self._receivers):
            if other != node_id:
                self._reconnect(node_id, other)
                self._reconnect(other, node_id)

    def leave(self, node_id: int) -> None:
        """A node is down; the others notice soon, and frames to and from it are lost."""
        del self._receivers[node_id]
        self._note_death(node_id)
        self._lives[node_id] += 1
        for pair in [pair for pair in self._unanswered if pair[0] == node_id]:
            del self._unanswered[pair]
        for pair in [pair for pair in self._connections if node_id in pair]:
            del self._connections[pair]
            sender, receiver = pair
            if receiver == node_id:
                self._timeline.after(self._random.uniform(0, 0.05), self._tell, sender, receiver)

    def _note_death(self, node_id: int) -> None:
        """Draw whether a process ends with its host."""
        if self.conditions.silence and self._random.random() < self.conditions.silence:
            self._trace.note(f"node {node_id}", "its host is dead")
            self._dead_hosts.add(node_id)

    def disconnect(self, sender: int, receiver: int) -> None:
        """Break one connection; its frames are lost, and it is made again."""
        if self._connections.pop((sender, receiver), None) is not None:
            self._tell(sender, receiver)
            self._reconnect(sender, receiver)

    def cut_off(self, node_id: int, removed: Iterable[int]) -> None:
        """A node parts with removed members; they learn the reason when they connect again."""
        for other in removed:
            self.disconnect(other, node_id)
            self._connections.pop((node_id, other), None)

    def _tell(self, sender: int, receiver: int) -> None:
        if sender in self._receivers:
            self._receivers[sender].disconnected(receiver)

    def _reconnect(self, sender: int, receiver: int) -> None:
        lives = self._lives[sender], self._lives[receiver]
        self._timeline.after(self._random.uniform(0.001, 0.2), self._connect, sender, receiver, lives)

    def _connect(self, sender: int, receiver: int, lives: tuple[int, int]) -> None:
        if (self._lives[sender], self._lives[receiver]) != lives:
            return
        if not self._cut.isdisjoint({(sender, receiver), (receiver, sender)}):
            self._reconnect(sender, receiver)
            return
        near = self._receivers[sender]
        if not near.dials(receiver):
            self._reconnect(sender, receiver)
            return
        far = self._receivers[receiver]
        removed_at = far.meet(sender)
        if removed_at is not None:
            near.told_removed(receiver, removed_at)
            self._reconnect(sender, receiver)
            return
        if near.refuses(receiver, far.levels()) or far.refuses(sender, near.levels()):
            self._reconnect(sender, receiver)
            return
        self._count += 1
        self._connections[sender, receiver] = self._count
        # It has come back as another process, which waits for no snapshot of the one before.
        if (ended := self._unanswered.pop((receiver, sender), None)) is not None:
            ended(False)

    def highest_level(self, sender: int, receiver: int) -> int | None:
        """The highest feature level of the process that a node is connected to; None if it is not."""
        is_connected = (sender, receiver) in self._connections
        return self._receivers[receiver].levels().highest if is_connected else None

    def ask(self, asker: int, levels: Levels) -> list[JoinAnswer]:
        """The answers of all nodes that a newcomer with these feature levels can reach."""
        answers = [
            receiver.answer(asker)
            for other, receiver in sorted(self._receivers.items())
            if self._cut.isdisjoint({(asker, other), (other, asker)})
            and not receiver.refuses(asker, levels)
            and receiver.levels().level <= levels.highest
        ]
        return [answer for answer in answers if answer is not None]

    # ------------------------------------------------------------ cuts

    def cut(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Lose every frame of these pairs (sender, receiver), until `mend` gets the returned number."""
        self._count += 1
        self._cuts[self._count] = pairs
        self._cut.update(pairs)
        return self._count

    def mend(self, number: int) -> None:
        """End one cut; a second call does nothing."""
        self._cuts.pop(number, None)
        self._cut = {pair for pairs in self._cuts.values() for pair in pairs}

    def mend_all(self) -> None:
        """End all cuts."""
        self._cuts.clear()
        self._cut.clear()

    # ------------------------------------------------------------ frames

    def offer(self, sender: int, receiver: int, items: Sequence[Item]) -> bool:
        """Send frames, as `Peers.offer` does; False without a connection."""
        if (sender, receiver) not in self._connections:
            return False
        messages = [item for item in items if isinstance(item, Message)]
        if messages:
            self._send(sender, receiver, messages)
            if self._random.random() < self.conditions.duplication:
                self.duplicated += 1
                self._send(sender, receiver, [copy(message) for message in messages])
        for item in items:
            if not isinstance(item, Message):
                self._send(sender, receiver, item)
        return True

    def inject(self, sender: int, receiver: int, frame: PeerFrame) -> None:
        """A frame arrives from somebody who is no node of this network."""
        if receiver in self._receivers:
            self._trace.note(f"{sender}->{receiver}", describe_frame(frame))
            self._receivers[receiver].receive(sender, frame)

    def send_snapshot(self, message: Message, data: bytes, ended: Callable[[bool], None]) -> None:
        """Carry a SNAP message with its file; `ended` is called with whether the whole file has arrived."""
        lives = self._lives[message.from_], self._lives[message.to]
        delay_s = self._random.uniform(0.001, 0.5)
        self._timeline.after(delay_s, self._arrive_snapshot, message, data, ended, lives)

    def _arrive_snapshot(
        self, message: Message, data: bytes, ended: Callable[[bool], None], lives: tuple[int, int]
    ) -> None:
        sender, receiver = message.from_, message.to
        if receiver in self._dead_hosts and self._lives[sender] == lives[0]:
            self._unanswered[sender, receiver] = ended
            self._timeline.after(SILENT_SNAPSHOT_S, self._give_up, (sender, receiver), ended)
            return
        if (self._lives[sender], self._lives[receiver]) != lives or receiver not in self._receivers:
            ended(False)
            return
        if self._receivers[receiver].meet(sender) is not None:
            ended(False)
            return
        is_cut = (sender, receiver) in self._cut or self._random.random() < 0.1 + self.conditions.loss
        arrives_bytes = self._random.randrange(len(data)) if is_cut else len(data)
        self._trace.note(f"{sender}->{receiver}", f"snapshot, {arrives_bytes} of {len(data)} bytes")
        self._receivers[receiver].receive_snapshot(sender, message, data, arrives_bytes)
        ended(not is_cut)

    def _give_up(self, pair: tuple[int, int], ended: Callable[[bool], None]) -> None:
        if self._unanswered.get(pair) is ended:
            del self._unanswered[pair]
            ended(False)

    def _send(self, sender: int, receiver: int, frame: PeerFrame) -> None:
        pair, conditions, random = (sender, receiver), self.conditions, self._random
        if pair in self._cut or (conditions.loss and random.random() < conditions.loss):
            self.lost += 1
            self._trace.note(f"{sender}->{receiver}", f"lost {describe_frame(frame)}")
            return
        arrival = self._timeline.now + random.uniform(*conditions.delay_s)
        if conditions.stray and random.random() < conditions.stray:
            arrival += random.uniform(0, conditions.stray_delay_s)
        if not conditions.reorders:
            arrival = self._latest[pair] = max(arrival, self._latest.get(pair, 0.0))
        self._timeline.at(arrival, self._arrive, pair, self._connections[pair], frame)

    def _arrive(self, pair: tuple[int, int], connection: int, frame: PeerFrame) -> None:
        sender, receiver = pair
        if self._connections.get(pair) != connection or pair in self._cut:
            self.lost += 1
            self._trace.note(f"{sender}->{receiver}", f"lost {describe_frame(frame)}")
            return
        self.delivered += 1
        self._trace.note(f"{sender}->{receiver}", describe_frame(frame))
        self._receivers[receiver].receive(sender, frame)


def describe_frame(frame: PeerFrame) -> str:
    """A frame in a few words."""
    if isinstance(frame, Forward):
        return f"forwards {len(frame.proposals)} in term {frame.term}"
    if isinstance(frame, ForwardChange):
        return f"forwards a change in term {frame.term}"
    if isinstance(frame, Refused):
        return f"refuses {len(frame.ids)} of term {frame.term}: {frame.reason}"
    if isinstance(frame, MembersQuery):
        return "asks for the members"
    if isinstance(frame, Members):
        return f"says that the members are {', '.join(map(str, frame.addresses))}"
    return "; ".join([describe_message(message) for message in frame])


def describe_message(m: Message) -> str:
    """A message in a few words: kind, term, the entry before, how many entries, commit index."""
    text = f"{m.type.name} t{m.term} {m.log_term}/{m.index}"
    if m.entries:
        text += f" +{len(m.entries)}"
    if m.commit:
        text += f" c{m.commit}"
    if m.reject:
        text += f" refused {m.reject_hint}"
    if m.context:
        text += f" ctx {m.context[-4:].hex()}"
    return text
