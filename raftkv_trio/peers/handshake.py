"""Which nodes may speak to each other: what both ends prove and check in the first frames of a connection.

- The ends speak a common protocol version, belong to the same cluster, and have the same cluster secret, if
  any.
- With TLS, the certificate of each is for the node that it says to be (`certificates.py`).
- The dialled node is the one that the dialling node expects; the dialling node is not removed.
- Each member has the data directory by which the other one knows it (`peer_keys.py`).
- The dialling node is the process by which the dialled one knows it, or that one is gone (`processes.py`).
- Each node knows the feature level of the other one's cluster (`payload/levels.py`).

Both ends check, and tell each other the reason, so that a mismatch is logged on both sides. Only what is
proved (`proofs.py`) has consequences beyond the connection. A node that has the cluster id and is not removed
is let in even if it is not a member yet: this node may be behind in its log, and that node may be the leader
from which it will hear so. It is told no key, and none is learnt of it, until it is a member.
"""

from collections.abc import Awaitable, Callable
from random import Random
from typing import NamedTuple, Protocol

import trio

from raftkv_trio.errors import (
    DirectoryRefused,
    PeerProtocolError,
    RemovedFromCluster,
    SecondProcessRefused,
)
from raftkv_trio.payload.cbor import reason_on_the_wire
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.levels import Levels
from raftkv_trio.peers.certificates import ShownCertificate
from raftkv_trio.peers.connection import StreamEnded
from raftkv_trio.peers.framing import FrameKind
from raftkv_trio.peers.handshake_frames import (
    NONCE_BYTES,
    PROTOCOL_VERSIONS,
    Admission,
    Hello,
    Introduction,
    JoinAnswer,
    Proof,
    Purpose,
    RefusalKind,
    Welcome,
    decode_admission,
    decode_hello,
    decode_introduction,
    decode_notice,
    decode_proof,
    decode_welcome,
    encode_hello,
    encode_join_answer,
    encode_welcome,
    encode_with_levels,
)
from raftkv_trio.peers.peer_keys import PeerKeys
from raftkv_trio.peers.proofs import Conversation, Sealed
from raftkv_trio.peers.trust import Refusal, Trust, other_cluster, other_directory, quoted
from raftkv_trio.storage import Identity

HANDSHAKE_TIMEOUT_S = 5.0


class Met(NamedTuple):
    """A node that this node has introduced itself to.

    Attributes:
        client_url, etcd_url: where it listens for clients, and for those of etcd's API.
        boot_nonce: which process it is.
        highest_level: the highest feature level that it knows.
    """

    client_url: str | None
    etcd_url: str | None
    boot_nonce: int
    highest_level: int


class Caller(NamedTuple):
    """A node that has introduced itself to this one.

    Attributes:
        sender: its node id.
        peer_url, client_url, etcd_url: where it listens for members, clients, and those of etcd's API.
        boot_nonce: which process it is.
        is_for_snapshot: whether the connection carries one snapshot; else it carries all other frames.
        is_of_cluster: whether it has proved to be a node of this cluster, by the cluster's secret or by a
            certificate that names it.
    """

    sender: int
    peer_url: str | None
    client_url: str | None
    etcd_url: str | None
    boot_nonce: int
    is_for_snapshot: bool
    is_of_cluster: bool


class CallerRefused(PeerProtocolError):
    """A node that introduced itself was refused, or has refused this one after its Hello.

    Attributes:
        node_id: under which it came; it need not be that node.
    """

    def __init__(self, node_id: int, sentence: str) -> None:
        super().__init__(sentence)
        self.node_id = node_id


class PeerLevels(Protocol):
    """This node's feature levels, in handshakes."""

    def told(self) -> Levels:
        """What this node tells other nodes."""
        ...

    def objection(self, peer_id: int, peer: Levels) -> str | None:
        """Why a node with these levels cannot be a member together with this one, and what to do."""
        ...


async def _no_objection(caller: Caller) -> str | None:
    return None


class Handshake:
    """This node's part in the handshakes of all its connections.

    Args:
        identity: of this node's data directory.
        boot_nonce: the number of this process.
        client_url, etcd_url: told to the other end: where this node listens for clients, and for those of
            etcd's API.
        envelope: see Attributes.
        peer_keys: by which the members are known.
        cluster_secret: what all nodes of the cluster share, if they do.
        random: gives nonces, which nobody may foresee.
        levels: the feature levels of this node.
        second_process: told the sentence of a member that knows a second process under this node's id.

    Attributes:
        envelope: the members and the removed ids at present, as far as this node knows.
        peer_keys: as given.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        boot_nonce: int,
        client_url: str | None,
        etcd_url: str | None,
        envelope: Envelope,
        peer_keys: PeerKeys,
        cluster_secret: bytes | None,
        random: Random,
        levels: PeerLevels,
        second_process: Callable[[str], None],
    ) -> None:
        self.identity = identity
        self.envelope = envelope
        self.peer_keys = peer_keys
        self._boot_nonce = boot_nonce
        self._secret = cluster_secret
        self._trust = Trust(identity.node_id, peer_keys, cluster_secret)
        self._random = random
        self._levels = levels
        self._second_process = second_process
        self._client_url = client_url
        self._etcd_url = etcd_url

    # ------------------------------------------------------------ the node that dials

    async def introduce(self, stream: trio.abc.Stream, peer_id: int, *, is_for_snapshot: bool = False) -> Met:
        """Introduce this node on a connection that it has opened to `peer_id`, and check who is there.

        Raises:
            SecondProcessRefused: the peer knows another process with this node's id, which is alive.
            DirectoryRefused: the peer knows this node by another data directory. The peer of either refusal
                has proved who it is, or is met for the first time.
            RemovedFromCluster: the peer, which has proved who it is, says that this node was removed.
            PeerProtocolError: either end refuses the other for another reason, which the text gives, or has
                not proved its word.
            StorageError, OSError: the peer's key could not be written down.
            trio.TooSlowError: no answer in time.
            trio.BrokenResourceError: the connection broke.

        After an error or a cancellation the stream cannot be used any more; the caller closes it.
        """
        conversation = Conversation(stream, self._secret)
        purpose = Purpose.SNAPSHOT if is_for_snapshot else Purpose.MESSAGES
        return await self._introduce(conversation, peer_id, purpose)

    async def is_process(self, stream: trio.abc.Stream, peer_id: int, boot_nonce: int, notice: str) -> bool:
        """Whether this process of a peer is at the other end of a connection; then it is told the `notice`.

        Raises as `introduce`, which also says what becomes of the stream.
        """
        conversation = Conversation(stream, self._secret)
        met = await self._introduce(conversation, peer_id, Purpose.ALIVE)
        if met.boot_nonce != boot_nonce:
            return False
        key = self.peer_keys.key_towards(peer_id)
        await conversation.send(conversation.sealed(FrameKind.NOTICE, [reason_on_the_wire(notice)], key))
        return True

    async def _introduce(self, conversation: Conversation, peer_id: int, purpose: Purpose) -> Met:
        own = self.envelope.members.get(self.identity.node_id)
        key = self.peer_keys.key_towards(peer_id)
        hello = Hello(
            cluster_id=self.identity.cluster_id,
            sender=self.identity.node_id,
            nonce=self._nonce(),
            receiver=peer_id,
            peer_url=own and own.address.url,
            client_url=self._client_url,
        )
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            welcome, sealed = await say_hello(conversation, hello)
            proof = decode_proof(sealed.body, welcome.version)
            certificate = conversation.certificate()
            objection = self._objection_to_dialled(peer_id, welcome, proof, sealed)
            objection = objection or certificate.objection(peer_id, self.identity.cluster_id, self.envelope)
            is_told = objection is None and not proof.is_known and peer_id in self.envelope.members
            introduction = Introduction(
                purpose,
                self._boot_nonce,
                key if is_told else None,
                self.peer_keys.key_of(peer_id) is not None,
                objection and reason_on_the_wire(objection),
                self._levels.told(),
                self._etcd_url,
            )
            body = encode_with_levels(introduction, welcome.version)
            await conversation.send(conversation.sealed(FrameKind.INTRODUCTION, body, key))
        if objection is not None:
            raise PeerProtocolError(objection)
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            sealed = await conversation.receive_sealed(FrameKind.ADMISSION)
        admission = decode_admission(sealed.body)
        self._check_admitted(peer_id, admission, sealed, certificate)
        # Before anything else is said: what a voter without its old votes answers must not be counted.
        if not await self._is_learnt(peer_id, admission.key, sealed):
            raise PeerProtocolError(other_directory(peer_id))
        return Met(welcome.client_url, proof.etcd_url, admission.boot_nonce, proof.levels.highest)

    def _objection_to_dialled(
        self, peer_id: int, welcome: Welcome, proof: Proof, sealed: Sealed
    ) -> str | None:
        if proof.cluster_id != self.identity.cluster_id:
            return other_cluster(proof.cluster_id, self.identity.cluster_id)
        if welcome.node_id != peer_id:
            return f"node {peer_id} was expected at this address, but node {welcome.node_id} answers"
        if (refusal := self._trust.unproved(peer_id, sealed)) is not None:
            return refusal.reason
        return self._levels.objection(peer_id, proof.levels)

    def _check_admitted(
        self, peer_id: int, admission: Admission, sealed: Sealed, certificate: ShownCertificate
    ) -> None:
        """Raise what `introduce` raises if the dialled node refuses this one, or has not proved its word."""
        if (unproved := self._trust.unproved(peer_id, sealed)) is not None:
            raise PeerProtocolError(unproved.reason)
        if admission.refusal is None:
            return
        sentence = quoted(f"node {peer_id} refused this node", admission.reason)
        if admission.refusal is RefusalKind.DIRECTORY:
            raise DirectoryRefused(sentence)
        if admission.refusal is RefusalKind.PROCESS:
            raise SecondProcessRefused(str(admission.reason))
        # Whoever is met for the first time is trusted, but not as far as this.
        is_proved = self._trust.is_proof(peer_id) or certificate.names(peer_id, self.identity.cluster_id)
        is_removal = admission.refusal is RefusalKind.REMOVED and is_proved
        if is_removal and admission.removed_at is not None:
            raise RemovedFromCluster(sentence, admission.removed_at)
        raise PeerProtocolError(sentence)

    # ------------------------------------------------------------ the node that is dialled

    async def admit(
        self,
        stream: trio.abc.Stream,
        objection: Callable[[Caller], str | None] = lambda caller: None,
        process_objection: Callable[[Caller], Awaitable[str | None]] = _no_objection,
    ) -> Caller | None:
        """Let a node introduce itself on a connection that this node has accepted; check it, and return it.

        Returns None if the node asked only which cluster or which process this is; it has its answer.

        Args:
            objection: a reason to refuse a node that passes all checks, if the caller has one.
            process_objection: a reason to refuse this process of such a node, whose key is learnt by then.

        Raises SecondProcessRefused or PeerProtocolError if the node is refused, which it has been told, and
        otherwise what `introduce` raises. The stream is left as `introduce` leaves it.
        """
        conversation = Conversation(stream, self._secret)
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            hello, version = await self._welcome(conversation)
            sealed = await conversation.receive_sealed(FrameKind.INTRODUCTION)
        introduction = decode_introduction(sealed.body, version)
        certificate = conversation.certificate()
        if introduction.reason is not None:
            raise CallerRefused(
                hello.sender, quoted(f"node {hello.sender} refuses this node", introduction.reason)
            )
        caller = Caller(
            hello.sender,
            hello.peer_url,
            hello.client_url,
            introduction.etcd_url,
            introduction.boot_nonce,
            introduction.purpose is Purpose.SNAPSHOT,
            self._trust.has_proved_secret(sealed)
            or certificate.names(hello.sender, self.identity.cluster_id),
        )
        refusal = self._refusal(hello, introduction, sealed, certificate)
        is_peer = introduction.purpose in (Purpose.MESSAGES, Purpose.SNAPSHOT)
        if refusal is None and is_peer and (reason := objection(caller)) is not None:
            refusal = Refusal(reason)
        if refusal is None and not await self._is_learnt(hello.sender, introduction.key, sealed):
            refusal = Refusal(other_directory(hello.sender), RefusalKind.DIRECTORY)
        # Last: it ends the connections with the process that this node knows, for one that is let in.
        if refusal is None and is_peer and (reason := await process_objection(caller)) is not None:
            refusal = Refusal(reason, RefusalKind.PROCESS)
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            await self._answer(conversation, caller, introduction, refusal)
            if introduction.purpose is Purpose.ALIVE:
                await self._take_notice(conversation, caller)
        return caller if is_peer else None

    async def _welcome(self, conversation: Conversation) -> tuple[Hello, int]:
        """Read a Hello, and answer it with a Welcome and this node's proof. Raises as `admit`.

        Returns the Hello, and the version of the protocol that both speak.
        """
        hello = decode_hello(await conversation.receive())
        lowest, highest = PROTOCOL_VERSIONS
        reason = None
        if hello.versions[0] > highest or hello.versions[1] < lowest:
            reason = (
                f"protocol versions {hello.versions[0]} to {hello.versions[1]} are not {lowest} to {highest};"
                " run the same version of raftkv-trio on all nodes"
            )
        welcome = Welcome(
            version=min(hello.versions[1], highest),
            node_id=self.identity.node_id,
            nonce=self._nonce(),
            client_url=self._client_url,
            reason=reason,
        )
        frame = conversation.plain(encode_welcome(welcome))
        if reason is not None:
            await conversation.send(frame)
            raise PeerProtocolError(f"refused node {hello.sender}: {reason}")
        is_known = self.peer_keys.key_of(hello.sender) is not None
        proof = Proof(self.identity.cluster_id, is_known, self._levels.told(), self._etcd_url)
        body = encode_with_levels(proof, welcome.version)
        key = self.peer_keys.key_towards(hello.sender)
        await conversation.send(frame, conversation.sealed(FrameKind.PROOF, body, key))
        return hello, welcome.version

    def _refusal(
        self, hello: Hello, introduction: Introduction, sealed: Sealed, certificate: ShownCertificate
    ) -> Refusal | None:
        identity, envelope = self.identity, self.envelope
        sender, cluster_id = hello.sender, identity.cluster_id
        if introduction.purpose is Purpose.JOIN:  # it knows neither the cluster nor this node, and has no key
            if (reason := certificate.objection_to_joiner(sender, cluster_id, envelope)) is not None:
                return Refusal(reason)
            return self._trust.lacks_secret(sender, sealed) or self._refusal_of_levels(sender, introduction)
        if hello.cluster_id != cluster_id:
            return Refusal(other_cluster(hello.cluster_id, cluster_id))
        reason = certificate.objection(sender, cluster_id, envelope, hello.peer_url)
        if reason is not None:
            return Refusal(reason)
        if hello.sender in envelope.removed:
            return Refusal(
                f"node {hello.sender} was removed from this cluster",
                RefusalKind.REMOVED,
                envelope.removed[hello.sender],
            )
        if hello.receiver != identity.node_id:
            return Refusal(f"node {hello.receiver} was expected here, but this is node {identity.node_id}")
        if hello.sender == identity.node_id:
            return Refusal(f"node {hello.sender} is this node itself")
        if hello.sender not in envelope.members and not hello.peer_url:  # it could not be answered
            return Refusal(
                f"node {hello.sender} is not a member of this cluster, and does not say where it listens"
            )
        return self._trust.unproved(hello.sender, sealed) or self._refusal_of_levels(sender, introduction)

    def _refusal_of_levels(self, sender: int, introduction: Introduction) -> Refusal | None:
        reason = self._levels.objection(sender, introduction.levels)
        return None if reason is None else Refusal(reason)

    async def _answer(
        self,
        conversation: Conversation,
        caller: Caller,
        introduction: Introduction,
        refusal: Refusal | None,
    ) -> None:
        """Admit the caller, or refuse it, and then raise that."""
        key = self.peer_keys.key_towards(caller.sender)
        # Only to a member that has shown its own key just now: no other node has a use for this one's.
        is_told = (
            introduction.purpose is not Purpose.JOIN
            and not introduction.is_known
            and caller.sender in self.envelope.members
            and self.peer_keys.key_of(caller.sender) is not None
        )
        if refusal is None:
            admission = Admission(self._boot_nonce, key if is_told else None)
        else:
            reason = reason_on_the_wire(refusal.reason)
            admission = Admission(self._boot_nonce, None, refusal.kind, reason, refusal.removed_at)
        frames = [conversation.sealed(FrameKind.ADMISSION, admission, key)]
        if refusal is None and introduction.purpose is Purpose.JOIN:
            answer = join_answer(caller.sender, self.identity.cluster_id, self.envelope)
            frames.append(conversation.sealed(FrameKind.JOIN_ANSWER, encode_join_answer(answer), key))
        await conversation.send(*frames)
        if refusal is None:
            return
        if refusal.kind is RefusalKind.PROCESS:
            raise SecondProcessRefused(refusal.reason)
        raise CallerRefused(caller.sender, f"refused node {caller.sender}: {refusal.reason}")

    async def _take_notice(self, conversation: Conversation, caller: Caller) -> None:
        """Take what a member says of a second process, if it says anything: if this is the one it means."""
        try:
            sealed = await conversation.receive_sealed(FrameKind.NOTICE)
        except StreamEnded:
            return  # it means another process, which has ended: this one has taken its place
        is_proved = caller.is_of_cluster or self._trust.is_proof(caller.sender)
        if is_proved and self._trust.unproved(caller.sender, sealed) is None:
            self._second_process(decode_notice(sealed.body))

    # ------------------------------------------------------------ both

    async def _is_learnt(self, peer_id: int, key: bytes | None, sealed: Sealed) -> bool:
        """Learn the key that a member tells, if it tells one; False if it is known by another.

        Nothing is learnt of a node that is not a member: its id is still free, and whoever came first could
        keep the node away that is added under this id later.
        """
        if key is None or peer_id not in self.envelope.members:
            return True
        return await self._trust.learns(peer_id, key, sealed)

    def _nonce(self) -> bytes:
        return new_nonce(self._random)


async def say_hello(conversation: Conversation, hello: Hello) -> tuple[Welcome, Sealed]:
    """Send a Hello, and return what answers it: a Welcome, and the sealed Proof that comes with it.

    Raises PeerProtocolError if there is no common version, and what a stream raises.
    """
    await conversation.send(conversation.plain(encode_hello(hello)))
    welcome = decode_welcome(await conversation.receive())
    if not PROTOCOL_VERSIONS[0] <= welcome.version <= PROTOCOL_VERSIONS[1]:
        raise PeerProtocolError(
            f"node {welcome.node_id} speaks version {welcome.version} of the peer protocol, and this node"
            f" version {PROTOCOL_VERSIONS[1]}; run the same version of raftkv-trio on all nodes"
        )
    if welcome.reason is not None:
        raise PeerProtocolError(quoted(f"node {welcome.node_id} refused this node", welcome.reason))
    return welcome, await conversation.receive_sealed(FrameKind.PROOF)


def new_nonce(random: Random) -> bytes:
    """What makes one side's part of a handshake like no other."""
    return random.getrandbits(8 * NONCE_BYTES).to_bytes(NONCE_BYTES, "big")


def join_answer(node_id: int, cluster_id: int, envelope: Envelope) -> JoinAnswer:
    """What a member tells a joiner that asks, under this id, which cluster this is."""
    urls = {i: member.address.url for i, member in envelope.members.items()}
    return JoinAnswer(cluster_id, urls, envelope.removed.get(node_id))
