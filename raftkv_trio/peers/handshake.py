"""Which nodes may speak to each other: what both ends check in the first frames each way of a connection.

- The ends speak a common protocol version, and belong to the same cluster.
- The dialled node is the one that the dialling node expects; the dialling node is not removed.
- Each member has the data directory by which the other one knows it (`directory_ids.py`).
- The dialling node is the process by which the dialled one knows it, or that one is gone (`processes.py`).

Both ends check, and the dialled node answers with its reason, so that a mismatch is logged on both sides. A
node that has the cluster id and is not removed is let in even if it is not a member yet: this node may be
behind in its log, and that node may be the leader from which it will hear so.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from raftkv_trio.errors import (
    DirectoryRefused,
    PeerProtocolError,
    RemovedFromCluster,
    SecondProcessRefused,
)
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.connection import receive_payload
from raftkv_trio.peers.directory_ids import DirectoryIds
from raftkv_trio.peers.framing import FrameDecoder
from raftkv_trio.peers.handshake_frames import (
    PROTOCOL_VERSIONS,
    VERSION_WITH_BOOTS,
    AliveQuery,
    BootAnswer,
    Hello,
    JoinAnswer,
    JoinQuery,
    Welcome,
    decode_boot,
    decode_boot_answer,
    decode_first_frame,
    decode_welcome,
    encode_alive_answer,
    encode_boot,
    encode_boot_answer,
    encode_hello,
    encode_join_answer,
    encode_welcome,
)
from raftkv_trio.storage import Identity

HANDSHAKE_TIMEOUT_S = 5.0
#: Far below the limit of later frames: a node that has not introduced itself yet costs little memory.
MAX_HANDSHAKE_BYTES = 8192


class Met(NamedTuple):
    """A node that this node has introduced itself to.

    Attributes:
        welcome: its answer.
        boot_nonce: which process it is; None if its protocol version does not tell.
    """

    welcome: Welcome
    boot_nonce: int | None


async def _no_objection(hello: Hello, boot_nonce: int) -> str | None:
    return None


class Handshake:
    """This node's part in the handshakes of all its connections.

    Args:
        identity: of this node's data directory.
        boot_nonce: the number of this process.
        client_url: told to the other end: where this node listens for clients.
        envelope: see Attributes.
        directory_ids: by which the members are known.
        second_process: told the sentence of a member that knows a second process under this node's id.

    Attributes:
        envelope: the members and the removed ids at present, as far as this node knows.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        boot_nonce: int,
        client_url: str | None,
        envelope: Envelope,
        directory_ids: DirectoryIds,
        second_process: Callable[[str], None],
    ) -> None:
        self.identity = identity
        self._boot_nonce = boot_nonce
        self._second_process = second_process
        self.envelope = envelope
        self._client_url = client_url
        self._directory_ids = directory_ids

    async def introduce(self, stream: trio.abc.Stream, peer_id: int, *, is_for_snapshot: bool = False) -> Met:
        """Say Hello on a connection that this node has opened to `peer_id`; check the answer and return it.

        Raises:
            SecondProcessRefused: the peer knows another process with this node's id, which is alive.
            DirectoryRefused: the peer knows this node by another data directory.
            RemovedFromCluster: the peer says that this node was removed.
            PeerProtocolError: either end refuses the other for another reason, which the text gives.
            StorageError, OSError: the peer's directory id could not be written down.
            trio.TooSlowError: no answer in time.
            trio.BrokenResourceError: the connection broke.

        After an error or a cancellation the stream cannot be used any more; the caller closes it.
        """
        own = self.envelope.members.get(self.identity.node_id)
        hello = Hello(
            cluster_id=self.identity.cluster_id,
            sender=self.identity.node_id,
            directory_id=self.identity.directory_id,
            receiver=peer_id,
            peer_url=own and own.address.url,
            client_url=self._client_url,
            is_for_snapshot=is_for_snapshot,
        )
        decoder = FrameDecoder(MAX_HANDSHAKE_BYTES)
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            await stream.send_all(encode_hello(hello))
            welcome = decode_welcome(await receive_payload(stream, decoder))
        if welcome.reason is not None:
            sentence = f"node {peer_id} refused this node: {welcome.reason}"
            if welcome.removed_at is not None:
                raise RemovedFromCluster(sentence, welcome.removed_at)
            raise (DirectoryRefused if welcome.is_other_directory else PeerProtocolError)(sentence)
        if not PROTOCOL_VERSIONS[0] <= welcome.version <= PROTOCOL_VERSIONS[1]:
            raise PeerProtocolError(f"node {peer_id} answers in protocol version {welcome.version}")
        if welcome.node_id != peer_id:
            raise PeerProtocolError(
                f"expected node {peer_id} at this address, but node {welcome.node_id} answers"
            )
        # Before anything else is said: what a voter without its old votes answers must not be counted.
        if not await self._is_known_directory(peer_id, welcome.directory_id):
            raise PeerProtocolError(other_directory(peer_id))
        if welcome.version < VERSION_WITH_BOOTS:
            return Met(welcome, None)
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            await stream.send_all(encode_boot(self._boot_nonce))
            boot_nonce, reason = decode_boot_answer(await receive_payload(stream, decoder))
        if reason is not None:
            raise SecondProcessRefused(reason)
        return Met(welcome, boot_nonce)

    async def admit(
        self,
        stream: trio.abc.Stream,
        objection: Callable[[Hello], str | None] = lambda hello: None,
        boot_objection: Callable[[Hello, int], Awaitable[str | None]] = _no_objection,
    ) -> Hello | None:
        """Read the Hello on a connection that this node has accepted; check it, answer it and return it.

        Returns None if the node asked only which cluster or which process this is; it has its answer.

        Args:
            objection: a reason to refuse a Hello that passes all checks, if the caller has one.
            boot_objection: the same, once the node has said which process it is.

        Raises PeerProtocolError if the node is refused, which it has been told, and otherwise what
        `introduce` raises. The stream is left as `introduce` leaves it.
        """
        decoder = FrameDecoder(MAX_HANDSHAKE_BYTES)
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            hello = decode_first_frame(await receive_payload(stream, decoder))
            if isinstance(hello, JoinQuery):
                answer = join_answer(hello, self.identity.cluster_id, self.envelope)
                await stream.send_all(encode_join_answer(answer))
                return None
            if isinstance(hello, AliveQuery):
                if hello.boot_nonce == self._boot_nonce:  # whoever does not know it is not believed
                    self._second_process(hello.notice)
                await stream.send_all(encode_alive_answer(self._boot_nonce))
                return None
            reason = self._objection(hello) or objection(hello)
            # Only behind the other checks: an id is learnt from a node of this cluster, not from a stranger.
            is_other_directory = reason is None and not await self._is_known_directory(
                hello.sender, hello.directory_id
            )
            if is_other_directory:
                reason = other_directory(hello.sender)
            # The word of another cluster about the removal of a node would be a lie to that node.
            is_ours = hello.cluster_id == self.identity.cluster_id
            welcome = Welcome(
                version=min(hello.versions[1], PROTOCOL_VERSIONS[1]),
                node_id=self.identity.node_id,
                directory_id=self.identity.directory_id,
                client_url=self._client_url,
                reason=reason,
                is_other_directory=is_other_directory,
                removed_at=self.envelope.removed.get(hello.sender) if is_ours else None,
            )
            await stream.send_all(encode_welcome(welcome))
        if reason is not None:
            raise PeerProtocolError(f"refused node {hello.sender}: {reason}")
        if welcome.version < VERSION_WITH_BOOTS:
            return hello
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            boot_nonce = decode_boot(await receive_payload(stream, decoder))
            reason = await boot_objection(hello, boot_nonce)
            await stream.send_all(encode_boot_answer(BootAnswer(self._boot_nonce, reason)))
        if reason is not None:
            raise SecondProcessRefused(reason)
        return hello

    async def _is_known_directory(self, node_id: int, directory_id: bytes) -> bool:
        """Whether that node may have this directory.

        A member's first one is learnt. Nothing is learnt of a node that is not a member: its id is still
        free, and whoever came first could keep the node away that is added under this id later.
        """
        if node_id in self.envelope.members:
            return await self._directory_ids.check(node_id, directory_id)
        return not self._directory_ids.is_other(node_id, directory_id)

    def _objection(self, hello: Hello) -> str | None:
        identity, envelope = self.identity, self.envelope
        lowest, highest = PROTOCOL_VERSIONS
        if hello.versions[0] > highest or hello.versions[1] < lowest:
            return (
                f"protocol versions {hello.versions[0]} to {hello.versions[1]} are not {lowest} to {highest}"
            )
        if hello.cluster_id != identity.cluster_id:
            return f"cluster id {hello.cluster_id:x} is not this cluster's {identity.cluster_id:x}"
        if hello.sender in envelope.removed:
            return f"node {hello.sender} was removed from this cluster"
        if hello.receiver != identity.node_id:
            return f"node {hello.receiver} was expected here, but this is node {identity.node_id}"
        if hello.sender == identity.node_id:
            return f"node {hello.sender} is this node itself"
        if hello.sender not in envelope.members and not hello.peer_url:  # it could not be answered
            return f"node {hello.sender} is not a member of this cluster, and does not say where it listens"
        return None


def join_answer(query: JoinQuery, cluster_id: int, envelope: Envelope) -> JoinAnswer:
    """What a member tells a node that asks which cluster this is."""
    urls = {i: member.address.url for i, member in envelope.members.items()}
    return JoinAnswer(cluster_id, urls, envelope.removed.get(query.node_id))


def other_directory(node_id: int) -> str:
    """Why a node with another data directory is refused, and what to do, as one sentence."""
    return (
        f"node {node_id} came back with another data directory and has forgotten its votes; "
        "remove it and add it under a new id"
    )
