"""One side of a handshake by hand: as a node of any id, directory, secret or intention takes part in it."""

from dataclasses import replace
from typing import Any

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.payload.levels import HIGHEST, Levels
from raftkv_trio.peers.framing import FrameKind
from raftkv_trio.peers.handshake import say_hello
from raftkv_trio.peers.handshake_frames import (
    PROTOCOL_VERSIONS,
    Admission,
    Hello,
    Introduction,
    Proof,
    Purpose,
    Welcome,
    decode_admission,
    decode_hello,
    decode_introduction,
    decode_proof,
    encode_welcome,
    encode_with_levels,
)
from raftkv_trio.peers.proofs import Conversation, Sealed, key_towards

CLUSTER_ID = 77
NONCE = b"n" * 16


class Side:
    """A node that says what a test wants.

    Args:
        stream: the connection.
        node_id: under which it speaks.
        directory_id: of the directory that it has.
        cluster_id: of the cluster that it says to be of.
        secret: the cluster secret that it has.
        levels: the feature levels that it tells.
        version: the highest version of the protocol that it speaks.

    Attributes:
        welcome, proof, admission: what the dialled node has said, as far as it has come.
        hello, introduction: what the node that dialled has said.
        sealed: the last sealed frame of the other side.
        conversation: all that was said.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        node_id: int = 2,
        *,
        directory_id: bytes = b"d" * 16,
        cluster_id: int = CLUSTER_ID,
        secret: bytes | None = None,
        levels: Levels = Levels(HIGHEST),  # noqa: B008 - it is immutable
        version: int = PROTOCOL_VERSIONS[1],
    ) -> None:
        self._levels = levels
        self._version = version
        self.conversation = Conversation(stream, secret, 4 << 20)
        self._stream = stream
        self._node_id = node_id
        self._directory_id = directory_id
        self._cluster_id = cluster_id
        self.welcome: Welcome | None = None
        self.proof: Proof | None = None
        self.admission: Admission | None = None
        self.hello: Hello | None = None
        self.introduction: Introduction | None = None
        self.sealed: Sealed | None = None

    async def dial(
        self,
        receiver: int = 1,
        *,
        boot_nonce: int = 5,
        purpose: Purpose = Purpose.MESSAGES,
        key: bytes | None = None,
        tells_key: bool = True,
        is_known: bool = False,
        **hello: Any,
    ) -> Admission:
        """Introduce this node to `receiver`, as one that it meets for the first time; returns the answer.

        Raises PeerProtocolError if it answers with a reason in the Welcome.

        Args:
            key: with which it seals, if not its own.
            tells_key: whether it tells its key if it is asked for it.
            is_known: whether it says that it knows the key of the receiver.
            hello: fields of the Hello that are others.
        """
        own_key = key_towards(self._directory_id, receiver) if key is None else key
        said = Hello(
            versions=(PROTOCOL_VERSIONS[0], self._version),
            cluster_id=self._cluster_id,
            sender=self._node_id,
            nonce=NONCE,
            receiver=receiver,
        )
        self.welcome, self.sealed = await say_hello(self.conversation, replace(said, **hello))
        self.proof = decode_proof(self.sealed.body, self.welcome.version)
        told = own_key if tells_key and not self.proof.is_known else None
        introduction = Introduction(purpose, boot_nonce, told, is_known, None, self._levels)
        body = encode_with_levels(introduction, self.welcome.version)
        await self.say(FrameKind.INTRODUCTION, body, own_key)
        self.sealed = await self.conversation.receive_sealed(FrameKind.ADMISSION)
        self.admission = decode_admission(self.sealed.body)
        return self.admission

    async def say(self, kind: FrameKind, body: Any, key: bytes | None) -> None:
        """Send a sealed frame."""
        await self.conversation.send(self.conversation.sealed(kind, body, key))

    async def answer(
        self,
        admission: Admission | None = None,
        *,
        key: bytes | None = None,
        is_known: bool = False,
        tells_key: bool = True,
        **welcome: Any,
    ) -> Introduction:
        """Take part as the dialled node, to the end or until the other one refuses; returns what that said.

        Args:
            admission: what it says in the end; by default it admits the other node.
            key: with which it seals, if not its own.
            is_known: whether it says that it knows the key of the other node.
            tells_key: whether it tells its key if it is asked for it.
            welcome: fields of the Welcome that are others.
        """
        hello = self.hello = decode_hello(await self.conversation.receive())
        own_key = key_towards(self._directory_id, hello.sender) if key is None else key
        said = Welcome(version=min(hello.versions[1], self._version), node_id=self._node_id, nonce=NONCE)
        said = replace(said, **welcome)
        frame = self.conversation.plain(encode_welcome(said))
        body = encode_with_levels(Proof(self._cluster_id, is_known, self._levels), said.version)
        proof = self.conversation.sealed(FrameKind.PROOF, body, own_key)
        await self.conversation.send(frame, proof)
        self.sealed = await self.conversation.receive_sealed(FrameKind.INTRODUCTION)
        introduction = self.introduction = decode_introduction(self.sealed.body, said.version)
        if introduction.reason is None:
            told = own_key if tells_key and not introduction.is_known else None
            answer = admission or Admission(boot_nonce=5, key=told)
            await self.say(FrameKind.ADMISSION, answer, own_key)
        return introduction


async def dialled(
    address: PeerAddress, *, local_host: str | None = None, **node: Any
) -> tuple[trio.SocketStream, Side]:
    """A new connection to a node, perhaps from this address of loopback, and a side for it."""
    stream = await trio.open_tcp_stream(address.host, address.port, local_address=local_host)
    return stream, Side(stream, **node)
