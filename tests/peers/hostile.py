"""A hostile peer, and real nodes for it to attack.

The peer is built on the wire module: all that it sends are whole frames, so what a node makes of them is a
matter of who says what. It speaks in one of three roles:

- a stranger: it has read the cluster's id and the member's ids, which are no secrets, and no more;
- a joiner: the log has added it as a learner, and its process speaks instead of a correct one;
- a member: a voter of the cluster, which no other process has ever been.

    async with besieged(tmp_path) as siege:
        peer = siege.stranger(to=1)
        async with peer.speaking() as stream:
            await stream.say(peer.message(MessageType.HEARTBEAT, term=2**63 - 1))
        await siege.check_unharmed()

With the fixture `security` all of it is said over TCP, and once more over mutual TLS. There a member and a
joiner have certificates of their own, and a stranger has one that names no node.

A node that `besieged` runs may be stopped and started again (`siege.restart`): what a peer said must not end
its next start either.
"""

import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import trio

from raftkv_trio import Committed, NodeConfig
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import PeerTls
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.peers.connection import receive_payload
from raftkv_trio.peers.framing import FrameDecoder, FrameKind
from raftkv_trio.peers.handshake_frames import Admission, JoinAnswer, Purpose, decode_join_answer
from raftkv_trio.peers.wire import encode_messages
from raftkv_trio.raft.types import Message, MessageType
from raftkv_trio.tls.contexts import Files, make_contexts
from raftkv_trio.tls.stream import TlsStream, Turns
from tests.conftest import find_free_ports
from tests.machines import Commands
from tests.peers.handmade import Side
from tests.restarting import RestartingNode
from tests.tls.certificates import Authority
from tests.tls.configs import peer_tls

#: A chunk that is in no snapshot of the nodes' state machine.
GARBAGE = b"garbage"
#: A command that the nodes' state machine does not know, and so could not apply.
NEWER = b"newer"
#: Whether nodes and peers speak TLS; set by the fixture `security`.
IS_SECURED = False
#: For what must happen soon, on however slow a machine.
PATIENCE_S = 60.0
_hosts = cycle(f"127.0.0.{number}" for number in range(2, 255))


def another_host() -> str:
    """Where to connect from, to loopback: a node lets no host introduce itself too often (`entrance.py`)."""
    return next(_hosts)


class HostilePeer:
    """Connects to one node, and says there what it likes, under one id.

    Args:
        target, target_id: the node that it attacks.
        cluster_id: what it says to be the cluster's.
        node_id: under which it speaks.
        directory_id: of the data directory that it claims to have.
        secret: the cluster secret that it has.
        tls: its certificate, and whom it trusts; None: it speaks without TLS.
        peer_url: where it claims to listen; it does not, unless `listening` is used.
    """

    def __init__(
        self,
        target: PeerAddress,
        *,
        target_id: int,
        cluster_id: int,
        node_id: int,
        directory_id: bytes = b"h" * 16,
        secret: bytes | None = None,
        peer_url: str | None = "http://127.0.0.1:1",
        tls: PeerTls | None = None,
    ) -> None:
        self.tls = tls
        self._context: ssl.SSLContext | None = None
        self.target, self.target_id = target, target_id
        self.cluster_id, self.node_id, self.directory_id = cluster_id, node_id, directory_id
        self.peer_url = peer_url
        self.secret = secret

    def message(self, kind: MessageType, **fields: Any) -> Message:
        """A raft message from this peer to its target."""
        return Message(**({"type": kind, "to": self.target_id, "from_": self.node_id} | fields))

    async def connect(self) -> trio.abc.HalfCloseableStream:
        """A connection on which nothing was said yet."""
        host = another_host() if self.target.host == "127.0.0.1" else None
        stream = await trio.open_tcp_stream(self.target.host, self.target.port, local_address=host)
        if self.tls is None:
            return stream
        self._context = self._context or make_contexts(Files.of_peers(self.tls)).client
        secured = TlsStream(stream, self._context, Turns(), server_side=False)
        await secured.handshake()
        return secured

    def side(self, connection: trio.abc.Stream) -> Side:
        """Its side of a handshake."""
        return Side(
            connection,
            self.node_id,
            directory_id=self.directory_id,
            cluster_id=self.cluster_id,
            secret=self.secret,
        )

    @asynccontextmanager
    async def speaking(self, *, boot_nonce: int = 4711, **dial: Any) -> AsyncIterator["HostileStream"]:
        """A connection after the handshake: see `HostileStream.refusal`, and `Side.dial` for `dial`."""
        async with await self.connect() as connection:
            said = {"peer_url": self.peer_url} | dial
            admission = await self.side(connection).dial(self.target_id, boot_nonce=boot_nonce, **said)
            yield HostileStream(connection, admission)

    async def join_query(self, node_id: int | None = None) -> JoinAnswer:
        """Ask which cluster this is, as a joiner does."""
        async with await self.connect() as connection:
            side = self.side(connection)
            sender = self.node_id if node_id is None else node_id
            await side.dial(self.target_id, purpose=Purpose.JOIN, tells_key=False, sender=sender)
            answer = await side.conversation.receive_sealed(FrameKind.JOIN_ANSWER)
            return decode_join_answer(answer.body)


class HostileStream:
    """A connection of the hostile peer.

    Attributes:
        admission: the node's answer to the handshake.
    """

    def __init__(self, connection: trio.abc.HalfCloseableStream, admission: Admission) -> None:
        self.connection = connection
        self.admission = admission
        self._decoder = FrameDecoder()

    @property
    def refusal(self) -> str | None:
        """Why the node has refused the handshake; None if it has not."""
        return self.admission.reason

    async def say(self, *messages: Message) -> None:
        """Send raft messages, in one frame."""
        await self.send(encode_messages(messages))

    async def send(self, frame: bytes) -> None:
        """Send bytes; that the node has closed the connection is no error."""
        try:
            await self.connection.send_all(frame)
        except trio.BrokenResourceError:
            pass  # the node reads nothing more; what became of it, it shows itself

    async def receive(self) -> bytes:
        """The next frame's payload; raises PeerProtocolError at the end of the stream."""
        return await receive_payload(self.connection, self._decoder)

    async def end(self) -> None:
        """Say no more, and wait until the node has read all that it will."""
        try:
            await self.connection.send_eof()
        except trio.BrokenResourceError:
            pass  # it has closed the connection
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Until the node closes the connection."""
        try:
            while await self.connection.receive_some():
                pass
        except trio.BrokenResourceError:
            pass  # closed all the same


@asynccontextmanager
async def listening(
    address: PeerAddress, answer: Callable[[trio.SocketStream], Any]
) -> AsyncIterator[trio.Nursery]:
    """Listen where a member, or a stranger, is said to listen: `answer` is an async function."""
    (listener,) = await trio.open_tcp_listeners(address.port, host=address.host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield nursery
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------- the nodes


class CheckedCommands(Commands):
    """A state machine that tells whether a command, or a snapshot, is one of its own."""

    def apply(self, batch: Sequence[Committed]) -> list[int]:
        for committed in batch:
            self.check_command(committed.command)
        return super().apply(batch)

    def check_command(self, command: bytes) -> None:
        if command == NEWER:
            raise ValueError("a newer command")

    def verify(self, chunks: Iterable[bytes]) -> None:
        if any(chunk == GARBAGE for chunk in chunks):
            raise ValueError("garbage")


class BesiegedNode(RestartingNode):
    """A node that runs, with all its tasks, from its directory.

    Attributes:
        machine: its state machine, since its last start.
    """

    def __init__(self, config: NodeConfig, tls: PeerTls | None = None) -> None:
        super().__init__(config, tls)
        self.machine = CheckedCommands()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """As `run_with`, with a state machine that is made for it."""
        self.machine = CheckedCommands()
        await self.run_with(self.machine, task_status=task_status)


class Siege:
    """The nodes that are attacked, and what they were before.

    Attributes:
        nodes: those that run, by id.
        addresses: of all members, the hostile one included.
        cluster_id: theirs.
        authority: the CA of their certificates; None without TLS.
    """

    def __init__(
        self,
        nodes: Mapping[int, BesiegedNode],
        addresses: Mapping[int, PeerAddress],
        nursery: trio.Nursery,
        authority: Authority | None,
    ) -> None:
        self.nodes = nodes
        self.authority = authority
        self.addresses = addresses
        self.cluster_id = nodes[min(nodes)].config.cluster_id
        self._nursery = nursery
        self._joiners: dict[int, PeerAddress] = {}
        self.acknowledged: list[bytes] = []

    # ------------------------------------------------------------ the attackers

    def stranger(self, to: int, *, node_id: int = 99) -> HostilePeer:
        """One who is no member."""
        authority = self.authority
        tls = (
            None if authority is None else peer_tls(authority, authority.issue("stranger", [], ["127.0.0.1"]))
        )
        return self._peer(to, node_id, peer_url="http://127.0.0.1:1", tls=tls)

    def member(self, to: int) -> HostilePeer:
        """The voter that does not run: no node has met it before."""
        (node_id,) = self.addresses.keys() - self.nodes.keys()
        return self._peer(to, node_id, peer_url=self.addresses[node_id].url)

    async def joiner(self, to: int, *, node_id: int = 50) -> HostilePeer:
        """One that is added as a learner first, unless it is one already; the nodes know it then."""
        if node_id in self._joiners:
            return self._peer(to, node_id, peer_url=self._joiners[node_id].url)
        (port,) = find_free_ports(1)
        address = self._joiners[node_id] = PeerAddress("127.0.0.1", port)
        change = MemberChange(Action.ADD, node_id, address, is_promoted_by_hand=True)
        leader = await self.leader()
        await leader.running.change_members(ChangeRequest((change,), is_forced=True)).wait()
        await self.until(
            lambda: all(
                any(member.id == node_id for member in node.running.members()) for node in self.nodes.values()
            )
        )
        return self._peer(to, node_id, peer_url=address.url)

    def _peer(self, to: int, node_id: int, *, peer_url: str, tls: PeerTls | None = None) -> HostilePeer:
        if tls is None and self.authority is not None:
            tls = peer_tls(self.authority, self.authority.node(node_id))
        return HostilePeer(
            self.addresses[to],
            target_id=to,
            cluster_id=self.cluster_id,
            node_id=node_id,
            peer_url=peer_url,
            tls=tls,
        )

    # ------------------------------------------------------------ the nodes

    async def leader(self) -> BesiegedNode:
        """The one that leads, once it is known to all."""
        ids = self.nodes.keys()

        def known() -> set[int | None]:
            return {node.running.status().leader_id for node in self.nodes.values()}

        await self.until(lambda: len(known()) == 1 and known() <= ids)
        (leader_id,) = known()
        assert leader_id is not None
        return self.nodes[leader_id]

    async def follower(self) -> BesiegedNode:
        """One that does not lead."""
        leader = await self.leader()
        return next(node for node in self.nodes.values() if node is not leader)

    def terms(self) -> dict[int, int]:
        """The term of each node."""
        return {i: node.running.status().term for i, node in self.nodes.items()}

    async def propose(self, command: bytes) -> None:
        """A client's command; it must be there until the end."""
        await (await self.leader()).running.propose(command)
        self.acknowledged.append(command)

    async def start(self, config: NodeConfig) -> BesiegedNode:
        """Start one more node, in a directory of its own."""
        tls = member_tls(self.authority, config.node_id)
        node = BesiegedNode(replace(config, data_dir=config.data_dir.with_name(str(config.node_id))), tls)
        await self._nursery.start(node.run)
        return node

    async def restart(self, node_id: int) -> None:
        """Stop a node and start it again from its directory."""
        await self.nodes[node_id].stop()
        await self._nursery.start(self.nodes[node_id].run)

    async def check_unharmed(self, *, terms: Mapping[int, int] | None = None) -> None:
        """All nodes run, have all that was acknowledged and nothing else, and go on, in these terms."""
        await self.propose(b"after %d" % len(self.acknowledged))
        await self.until(
            lambda: all(node.machine.commands == self.acknowledged for node in self.nodes.values())
        )
        if terms is not None:
            assert self.terms() == terms

    async def check_starts_again(self) -> None:
        """Each node starts again from its directory, one after the other, and all is as it was."""
        for node_id in self.nodes:
            await self.restart(node_id)
            await self.check_unharmed()

    async def until_refused(self, node: BesiegedNode, reason: str, before: int) -> None:
        """Until a node's metric shows more refusals for this reason than `before`."""
        await self.until(lambda: node.running.measures().refusals[reason] > before)

    async def until(self, condition: Callable[[], object]) -> None:
        """Poll: what is waited for shows in a node's status, where no event can be awaited."""
        with trio.fail_after(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - see above
                await trio.sleep(0.01)


def member_tls(authority: Authority | None, node_id: int) -> PeerTls | None:
    """A member's certificate, and whom it trusts; None without a CA."""
    return None if authority is None else peer_tls(authority, authority.node(node_id))


@asynccontextmanager
async def besieged(directory: Path, *, running: int = 2, **settings: Any) -> AsyncIterator[Siege]:
    """Nodes 1 and 2 of a cluster of three, which lead and follow; the last voter does not run.

    A node that ends raises here. `settings` are of every node's configuration.

    Args:
        running: so many nodes run, and the cluster has one more.
    """
    ports = find_free_ports(running + 1)
    addresses = {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(ports, start=1)}
    settings = {"segment_bytes": 1024 * 1024} | settings
    configs = [
        NodeConfig(node_id=i, members=addresses, data_dir=directory / str(i), **settings)
        for i in list(addresses)[:running]
    ]
    cluster_id = configs[0].cluster_id
    authority = Authority(directory, cluster_id=cluster_id) if IS_SECURED else None
    nodes = {
        config.node_id: BesiegedNode(config, member_tls(authority, config.node_id)) for config in configs
    }
    async with trio.open_nursery() as nursery:
        for node in nodes.values():
            await nursery.start(node.run)
        siege = Siege(nodes, addresses, nursery, authority)
        await siege.propose(b"before")
        yield siege
        nursery.cancel_scope.cancel()
