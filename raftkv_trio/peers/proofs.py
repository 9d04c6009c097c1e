"""How two nodes prove to each other who they are, without saying what they prove it by.

A data directory has a random id, which never leaves it. Towards each other member it gives one key,
HMAC(directory id, node id of that member), which is told at their first meeting alone (`peer_keys.py`).
So what one member knows of another is of no use towards a third one.

A sealed frame carries HMACs over its own body and over all that was said in this handshake before it, from
the first frame each way on. Those have a nonce of each side, both node ids and the cluster id, so that
nothing said on one connection is of use on another. There is one HMAC by the key under which the receiver
knows the sender, and one by the cluster's secret, if the sender has one.
"""

import hmac
from collections.abc import Sequence
from typing import NamedTuple

import cbor2
import trio

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.cbor import decode_payload, integer, items, octets
from raftkv_trio.peers.certificates import ShownCertificate
from raftkv_trio.peers.connection import receive_payload
from raftkv_trio.peers.framing import HEADER_BYTES, FrameDecoder, FrameKind, encode_frame, of_a_peer

#: Far below the limit of later frames: a node that has not introduced itself yet costs little memory.
MAX_HANDSHAKE_BYTES = 8192
#: Of a key, as `key_towards` makes it.
KEY_BYTES = 32
_LABEL = "raftkv-trio handshake"
_SAME_SECRET = "give all nodes the same one"


def key_towards(directory_id: bytes, peer_id: int) -> bytes:
    """The key by which node `peer_id` knows the node with that directory; 32 bytes."""
    return _digest(directory_id, b"raftkv-trio towards node %d" % peer_id)


class Sealed(NamedTuple):
    """A sealed frame that was received; what it says counts only as far as it is proved.

    Attributes:
        body: CBOR.
        signed: what the HMACs are made of.
        by_secret, by_key: the HMACs; None if the sender has no such thing.
    """

    body: bytes
    signed: bytes
    by_secret: bytes | None
    by_key: bytes | None

    def is_by_key(self, key: bytes) -> bool:
        """Whether the sender has this key."""
        return self.by_key is not None and hmac.compare_digest(self.by_key, _digest(key, self.signed))

    def is_by_secret(self, secret: bytes) -> bool:
        """Whether the sender has this cluster secret."""
        return self.by_secret is not None and hmac.compare_digest(
            self.by_secret, _digest(secret, self.signed)
        )


class Conversation:
    """The frames of one handshake, in the order in which both sides have them.

    Args:
        stream: the connection.
        secret: the cluster's, if this node has one.
        max_frame_bytes: the largest frame that is received.
    """

    def __init__(
        self, stream: trio.abc.Stream, secret: bytes | None, max_frame_bytes: int = MAX_HANDSHAKE_BYTES
    ) -> None:
        self._stream = stream
        self._secret = secret
        self._decoder = FrameDecoder(max_frame_bytes)
        self._said: list[bytes] = []

    def plain(self, frame: bytes) -> bytes:
        """Note a frame that is sent next."""
        self._said.append(frame[HEADER_BYTES:])
        return frame

    def sealed(self, kind: FrameKind, body: Sequence[object], key: bytes | None) -> bytes:
        """A frame around `body` as CBOR, to be sent next to the node that knows this one by `key`."""
        packed = cbor2.dumps(list(body))
        signed = self._signed(kind, packed)
        macs = [None if by is None else _digest(by, signed) for by in (self._secret, key)]
        return self.plain(encode_frame([kind, packed, *macs]))

    async def send(self, *frames: bytes) -> None:
        """Send frames that `plain` and `sealed` have made, in their order. Raises what a stream raises."""
        await self._stream.send_all(b"".join(frames))

    def certificate(self) -> ShownCertificate:
        """What the other end has shown; call this after something was received."""
        return ShownCertificate(self._stream)

    async def receive(self) -> bytes:
        """The next frame's payload. Raises PeerProtocolError, and what a stream raises."""
        payload = await receive_payload(self._stream, self._decoder)
        self._said.append(payload)
        return payload

    async def receive_sealed(self, kind: FrameKind) -> Sealed:
        """The next frame, which must be of this kind; raises as `receive` does. Nothing is proved by that."""
        payload = await receive_payload(self._stream, self._decoder)
        its_kind, body, by_secret, by_key = _decode_sealed(payload)
        if its_kind != kind:
            raise PeerProtocolError(f"the handshake goes on with another frame than {kind.name}")
        sealed = Sealed(body, self._signed(kind, body), by_secret, by_key)
        self._said.append(payload)
        return sealed

    def _signed(self, kind: FrameKind, body: bytes) -> bytes:
        return cbor2.dumps([_LABEL, int(kind), self._said, body])


@of_a_peer
def _decode_sealed(payload: bytes) -> tuple[int, bytes, bytes | None, bytes | None]:
    kind, body, by_secret, by_key = items(decode_payload(payload), 4)
    by_secret, by_key = (None if mac is None else octets(mac) for mac in (by_secret, by_key))
    return integer(kind), octets(body), by_secret, by_key


def secret_objection(secret: bytes | None, sealed: Sealed, peer_id: int, own_id: int) -> str | None:
    """Why a peer is no node of this cluster, by the cluster's secret; None if it may be one.

    Both nodes are named, since the peer quotes the sentence: "this node" would be another one there.

    Args:
        secret: this node's, if it has one.
        peer_id: under which the peer has come, or answers.
        own_id: of this node.
    """
    if secret is None:
        if sealed.by_secret is None:
            return None
        return f"node {peer_id} has a cluster secret, and node {own_id} has none; {_SAME_SECRET}"
    if sealed.by_secret is None:
        return f"node {peer_id} has no cluster secret, and node {own_id} has one; {_SAME_SECRET}"
    if not sealed.is_by_secret(secret):
        return f"node {peer_id} has another cluster secret than node {own_id}; {_SAME_SECRET}"
    return None


def _digest(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
