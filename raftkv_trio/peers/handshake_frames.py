"""The frames of a handshake, and their form as bytes; `handshake.py` says what is checked in them.

    the node that dials   -> Hello                     the dialled node -> Welcome, Proof
                          -> Introduction                               -> Admission
                                                                           JoinAnswer, to a joiner
                          -> Notice, about a second process

Hello and Welcome have the same form in all versions of the protocol, so that nodes of different versions can
tell each other why they do not talk: what a version adds stands in later frames. All later ones are sealed
(`proofs.py`). Decoders raise PeerProtocolError for all other bytes.

Version 4 adds the feature levels (`payload/levels.py`) to Proof and Introduction, so that each end knows
those of the other before it has to say whether it refuses it; and the URL of etcd's API.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.cbor import (
    MAX_MEMBERS,
    boolean,
    decode_payload,
    integer,
    items,
    octets,
    optional_integer,
    optional_sentence,
    optional_url,
    reason_on_the_wire,
    sentence,
    url,
)
from raftkv_trio.payload.levels import UNTOLD, Levels, unpack_levels
from raftkv_trio.peers.framing import FrameKind, encode_frame, of_a_peer
from raftkv_trio.peers.proofs import KEY_BYTES

#: Lowest and highest version of the protocol that this program speaks.
PROTOCOL_VERSIONS = (3, 4)
#: The first version in which nodes tell their feature levels.
_TELLS_LEVELS = 4
NONCE_BYTES = 16


class Purpose(IntEnum):
    """What a connection is for. The numbers are part of the protocol."""

    MESSAGES = 0
    SNAPSHOT = 1
    #: To ask whether the dialled process is still the one that is meant.
    ALIVE = 2
    #: The sender has no directory yet, and asks which cluster it is to join.
    JOIN = 3


class RefusalKind(IntEnum):
    """What follows from a refusal for the node that is refused. The numbers are part of the protocol."""

    #: Nothing: it tries again.
    OTHER = 0
    #: It was removed from the cluster.
    REMOVED = 1
    #: It is known by another data directory.
    DIRECTORY = 2
    #: Another process runs under its id.
    PROCESS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first frame of the node that opened the connection: which node it is, and which node it dialled.

    Attributes:
        versions: lowest and highest protocol version that the sender speaks.
        cluster_id: of the cluster to which the sender's directory belongs; 0 if it is a joiner.
        sender: the sender's node id.
        nonce: random. Up to version 2 of the protocol, the sender's directory id.
        receiver: the node id that the sender expects to reach.
        peer_url: where the sender listens for members, so that a receiver that does not know the sender as a
            member yet can dial it.
        client_url: where the sender listens for clients.
    """

    versions: tuple[int, int] = PROTOCOL_VERSIONS
    cluster_id: int
    sender: int
    nonce: bytes
    receiver: int
    peer_url: str | None = None
    client_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The answer to a Hello. A Proof comes with it, unless it refuses the sender.

    Attributes:
        version: the highest version that both speak, if there is one.
        node_id: of the node that answers.
        nonce: random. Up to version 2, its directory id.
        client_url: where it listens for clients.
        reason: why it closes the connection. From version 3 on, only that there is no common version: all
            other reasons come in the Admission, which is sealed.
    """

    version: int
    node_id: int
    nonce: bytes
    client_url: str | None = None
    reason: str | None = None


class Proof(NamedTuple):
    """By its seal, the dialled node shows who it is.

    Attributes:
        cluster_id: of the cluster to which its directory belongs.
        is_known: whether it knows the key of the sender of the Hello already.
        levels: its feature levels.
        etcd_url: where it serves etcd's API; None if it does not, or does not tell.
    """

    cluster_id: int
    is_known: bool
    levels: Levels = UNTOLD
    etcd_url: str | None = None


class Introduction(NamedTuple):
    """By its seal, the node that dials shows who it is; and it says what it wants.

    Attributes:
        purpose: what the connection is for.
        boot_nonce: which process it is.
        key: its key, if the dialled node does not know it.
        is_known: whether it knows the key of the dialled node already.
        reason: why it refuses the dialled node, and closes the connection.
        levels: its feature levels.
        etcd_url: where it serves etcd's API; None if it does not, or does not tell.
    """

    purpose: Purpose
    boot_nonce: int
    key: bytes | None
    is_known: bool
    reason: str | None
    levels: Levels = UNTOLD
    etcd_url: str | None = None


class Admission(NamedTuple):
    """The answer to an Introduction.

    Attributes:
        boot_nonce: which process the dialled node is.
        key: its key, if the other node does not know it.
        refusal: what follows for the other node if it is refused; None if it is admitted.
        reason: why it is refused.
        removed_at: the index of the entry that has removed the other node from the cluster, if one has.
    """

    boot_nonce: int
    key: bytes | None = None
    refusal: RefusalKind | None = None
    reason: str | None = None
    removed_at: int | None = None


class JoinAnswer(NamedTuple):
    """What a joiner asks for.

    Attributes:
        cluster_id: of the node that answers.
        urls: where its members listen for each other, by node id.
        removed_at: the index of the entry that has removed the joiner's id, if one has.
    """

    cluster_id: int
    urls: Mapping[int, str]
    removed_at: int | None


# ---------------------------------------------------------------- the first frame each way


def encode_hello(hello: Hello) -> bytes:
    """A Hello as a frame."""
    return encode_frame(
        [
            FrameKind.HELLO,
            hello.versions,
            hello.cluster_id,
            hello.sender,
            hello.nonce,
            hello.receiver,
            hello.peer_url,
            hello.client_url,
            False,  # up to version 2, whether the connection is for a snapshot
        ]
    )


@of_a_peer
def decode_hello(payload: bytes) -> Hello:
    """What a node says first on a connection that it opened; raises PeerProtocolError."""
    fields = items(decode_payload(payload))
    if fields and fields[0] == FrameKind.JOIN_QUERY:
        raise PeerProtocolError("a joiner of an older version of raftkv-trio asks; upgrade it")
    kind, versions, cluster_id, sender, nonce, receiver, peer_url, client_url, is_old = items(fields, 9)
    if integer(kind) != FrameKind.HELLO or len(octets(nonce)) != NONCE_BYTES:
        raise PeerProtocolError("the first frame is not a handshake")
    boolean(is_old)
    lowest, highest = items(versions, 2)
    return Hello(
        versions=(integer(lowest), integer(highest)),
        cluster_id=integer(cluster_id),
        sender=integer(sender),
        nonce=nonce,
        receiver=integer(receiver),
        peer_url=optional_url(peer_url),
        client_url=optional_url(client_url),
    )


def encode_welcome(welcome: Welcome) -> bytes:
    """A Welcome as a frame."""
    reason = welcome.reason and reason_on_the_wire(welcome.reason)
    return encode_frame(
        [
            FrameKind.WELCOME,
            welcome.version,
            welcome.node_id,
            welcome.nonce,
            welcome.client_url,
            reason,
            False,  # up to version 2, whether the reason is another directory, and then
            None,  # the index at which the other node was removed
        ]
    )


@of_a_peer
def decode_welcome(payload: bytes) -> Welcome:
    """The answer to a Hello; raises PeerProtocolError."""
    kind, version, node_id, nonce, client_url, reason, is_old, removed_at = items(decode_payload(payload), 8)
    if integer(kind) != FrameKind.WELCOME:
        raise PeerProtocolError("the answer to the handshake is not a Welcome")
    boolean(is_old)
    optional_integer(removed_at)
    return Welcome(
        version=integer(version),
        node_id=integer(node_id),
        nonce=octets(nonce),
        client_url=optional_url(client_url),
        reason=optional_sentence(reason),
    )


# ---------------------------------------------------------------- the bodies of sealed frames


def encode_with_levels(frame: Proof | Introduction, version: int) -> Sequence[object]:
    """The body of a sealed frame, in the form of this version of the protocol."""
    return frame if version >= _TELLS_LEVELS else frame[:-2]


def _items_and_levels(body: bytes, version: int, length: int) -> tuple[list[object], Levels, str | None]:
    """The fields before the levels, so many, the levels, and the URL after them."""
    if version < _TELLS_LEVELS:
        return items(decode_payload(body), length), UNTOLD, None
    *fields, levels, etcd_url = items(decode_payload(body), length + 2)
    return fields, unpack_levels(levels), optional_url(etcd_url)


@of_a_peer
def decode_proof(body: bytes, version: int = PROTOCOL_VERSIONS[1]) -> Proof:
    """The Proof in a sealed frame, in the form of this version; raises PeerProtocolError, as all below."""
    (cluster_id, is_known), levels, etcd_url = _items_and_levels(body, version, 2)
    return Proof(integer(cluster_id), boolean(is_known), levels, etcd_url)


@of_a_peer
def decode_introduction(body: bytes, version: int = PROTOCOL_VERSIONS[1]) -> Introduction:
    """The Introduction in a sealed frame, in the form of this version."""
    (purpose, boot_nonce, key, is_known, reason), levels, etcd_url = _items_and_levels(body, version, 5)
    try:
        known_purpose = Purpose(integer(purpose))
    except ValueError as error:
        raise PeerProtocolError(f"unknown purpose {purpose} of a connection") from error
    return Introduction(
        known_purpose,
        integer(boot_nonce),
        _optional_key(key),
        boolean(is_known),
        optional_sentence(reason),
        levels,
        etcd_url,
    )


@of_a_peer
def decode_admission(body: bytes) -> Admission:
    """The Admission that is the body of a sealed frame."""
    boot_nonce, key, refusal, reason, removed_at = items(decode_payload(body), 5)
    try:
        kind = None if refusal is None else RefusalKind(integer(refusal))
    except ValueError as error:
        raise PeerProtocolError(f"unknown kind {refusal} of a refusal") from error
    return Admission(
        integer(boot_nonce),
        _optional_key(key),
        kind,
        optional_sentence(reason),
        optional_integer(removed_at),
    )


def encode_join_answer(answer: JoinAnswer) -> list[object]:
    """The body of a sealed frame."""
    return [
        answer.cluster_id,
        [[node_id, peer_url] for node_id, peer_url in answer.urls.items()],
        answer.removed_at,
    ]


@of_a_peer
def decode_join_answer(body: bytes) -> JoinAnswer:
    """The JoinAnswer that is the body of a sealed frame."""
    cluster_id, urls, removed_at = items(decode_payload(body), 3)
    pairs = [items(pair, 2) for pair in items(urls)]
    if len(pairs) > MAX_MEMBERS:
        raise PeerProtocolError(f"{len(pairs)} members are more than {MAX_MEMBERS}")
    members = {integer(node_id): url(peer_url) for node_id, peer_url in pairs}
    return JoinAnswer(integer(cluster_id), members, optional_integer(removed_at))


@of_a_peer
def decode_notice(body: bytes) -> str:
    """The sentence that is the body of a sealed frame."""
    (notice,) = items(decode_payload(body), 1)
    return sentence(notice)


def _optional_key(value: object) -> bytes | None:
    # A shorter one would be written down, and read as the directory id of an older version after a restart.
    if value is not None and len(octets(value)) != KEY_BYTES:
        raise PeerProtocolError(f"a key of {len(octets(value))} bytes, and a key has {KEY_BYTES}")
    return None if value is None else octets(value)
