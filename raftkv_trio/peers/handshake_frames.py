"""The first frames each way on a connection between two nodes, and their form as bytes.

    a member   -> Hello;      a member -> Welcome, or Welcome with the reason of a refusal
    a member   -> Boot;       a member -> BootAnswer, maybe with the reason of a refusal
    a joiner   -> JoinQuery;  a member -> JoinAnswer
    a member   -> AliveQuery; a member -> AliveAnswer

`handshake.py` says what is checked in them. Decoders raise PeerProtocolError for all other bytes.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import NamedTuple

from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.payload.cbor import (
    MAX_INTEGER_KEYS_BYTES,
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
from raftkv_trio.peers.framing import FrameKind, encode_frame, of_a_peer

#: Lowest and highest version of the protocol that this program speaks.
PROTOCOL_VERSIONS = (1, 2)
#: From this version on, large frames travel in parts.
VERSION_WITH_PARTS = 2
#: From this version on, a Welcome without a reason is followed by Boot and BootAnswer.
VERSION_WITH_BOOTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first frame of the node that opened the connection: which node it is, and which node it dialled.

    On the wire the fields of this class and of `Welcome` stand in the order that they have here.

    Attributes:
        versions: lowest and highest protocol version that the sender speaks.
        cluster_id: of the cluster to which the sender's directory belongs.
        sender: the sender's node id.
        directory_id: of the sender's data directory.
        receiver: the node id that the sender expects to reach.
        peer_url: where the sender listens for members, so that a receiver that does not know the sender as a
            member yet can dial it.
        client_url: where the sender listens for clients.
        is_for_snapshot: this connection carries one snapshot; else it carries all other frames.
    """

    versions: tuple[int, int] = PROTOCOL_VERSIONS
    cluster_id: int
    sender: int
    directory_id: bytes
    receiver: int
    peer_url: str | None = None
    client_url: str | None = None
    is_for_snapshot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The answer to a Hello.

    Attributes:
        version: the highest version that both speak, if there is one.
        node_id: of the node that answers.
        directory_id: of its data directory.
        client_url: where it listens for clients.
        reason: why it closes the connection; None if it accepts the sender of the Hello.
        is_other_directory: the reason is that it knows the sender by another data directory.
        removed_at: the index of the entry that has removed the sender from the cluster, if one has.
    """

    version: int
    node_id: int
    directory_id: bytes
    client_url: str | None = None
    reason: str | None = None
    is_other_directory: bool = False
    removed_at: int | None = None


class JoinQuery(NamedTuple):
    """The first frame of a node that has no directory yet and asks which cluster it is to join.

    Attributes:
        versions: lowest and highest protocol version that the joiner speaks.
        node_id: the joiner's.
    """

    versions: tuple[int, int]
    node_id: int


class JoinAnswer(NamedTuple):
    """The answer to a JoinQuery.

    Attributes:
        cluster_id: of the node that answers.
        urls: where its members listen for each other, by node id.
        removed_at: the index of the entry that has removed the joiner's id, if one has.
    """

    cluster_id: int
    urls: Mapping[int, str]
    removed_at: int | None


class BootAnswer(NamedTuple):
    """The answer to a Boot, in which a node says which process it is.

    Attributes:
        boot_nonce: of the process that answers.
        reason: why it closes the connection: another process runs under the id of this one.
    """

    boot_nonce: int
    reason: str | None


class AliveQuery(NamedTuple):
    """The first frame of a member that asks whether a process is still there; the answer is its boot nonce.

    Attributes:
        boot_nonce: of the process that is meant.
        notice: what that process has to know: a second one has come under its id.
    """

    boot_nonce: int
    notice: str


def encode_hello(hello: Hello) -> bytes:
    """A Hello as a frame."""
    return encode_frame([FrameKind.HELLO, *astuple(hello)])


@of_a_peer
def decode_first_frame(payload: bytes) -> Hello | JoinQuery | AliveQuery:
    """What a node says first on a connection that it opened; raises PeerProtocolError."""
    fields = items(decode_payload(payload))
    if len(fields) == 3 and integer(fields[0]) == FrameKind.JOIN_QUERY:
        return JoinQuery(_versions(fields[1]), integer(fields[2]))
    if len(fields) == 3 and fields[0] == FrameKind.ALIVE_QUERY:
        return AliveQuery(integer(fields[1]), sentence(fields[2]))
    kind, versions, cluster_id, sender, directory_id, receiver, *more = items(fields, 9)
    peer_url, client_url, is_for_snapshot = more
    if integer(kind) != FrameKind.HELLO:
        raise PeerProtocolError("the first frame is not a handshake")
    return Hello(
        versions=_versions(versions),
        cluster_id=integer(cluster_id),
        sender=integer(sender),
        directory_id=octets(directory_id),
        receiver=integer(receiver),
        peer_url=optional_url(peer_url),
        client_url=optional_url(client_url),
        is_for_snapshot=boolean(is_for_snapshot),
    )


def encode_welcome(welcome: Welcome) -> bytes:
    """A Welcome as a frame."""
    if welcome.reason is not None:
        welcome = replace(welcome, reason=reason_on_the_wire(welcome.reason))
    return encode_frame([FrameKind.WELCOME, *astuple(welcome)])


@of_a_peer
def decode_welcome(payload: bytes) -> Welcome:
    """The answer to a Hello; raises PeerProtocolError."""
    fields = items(decode_payload(payload), 8)
    kind, version, node_id, directory_id, client_url, reason, is_other_directory, removed_at = fields
    if integer(kind) != FrameKind.WELCOME:
        raise PeerProtocolError("the answer to the handshake is not a Welcome")
    return Welcome(
        version=integer(version),
        node_id=integer(node_id),
        directory_id=octets(directory_id),
        client_url=optional_url(client_url),
        reason=optional_sentence(reason),
        is_other_directory=boolean(is_other_directory),
        removed_at=optional_integer(removed_at),
    )


def encode_boot(boot_nonce: int) -> bytes:
    """Which process this is, as a frame."""
    return encode_frame([FrameKind.BOOT, boot_nonce])


@of_a_peer
def decode_boot(payload: bytes) -> int:
    """The boot nonce of a process; raises PeerProtocolError."""
    kind, boot_nonce = items(decode_payload(payload), 2)
    if integer(kind) != FrameKind.BOOT:
        raise PeerProtocolError("the handshake goes on with another frame than a Boot")
    return integer(boot_nonce)


def encode_boot_answer(answer: BootAnswer) -> bytes:
    """A BootAnswer as a frame."""
    reason = None if answer.reason is None else reason_on_the_wire(answer.reason)
    return encode_frame([FrameKind.BOOT_ANSWER, answer.boot_nonce, reason])


@of_a_peer
def decode_boot_answer(payload: bytes) -> BootAnswer:
    """The answer to a Boot; raises PeerProtocolError."""
    kind, boot_nonce, reason = items(decode_payload(payload), 3)
    if integer(kind) != FrameKind.BOOT_ANSWER:
        raise PeerProtocolError("the answer to a Boot is not a BootAnswer")
    return BootAnswer(integer(boot_nonce), optional_sentence(reason))


def encode_alive_query(query: AliveQuery) -> bytes:
    """An AliveQuery as a frame."""
    return encode_frame([FrameKind.ALIVE_QUERY, query.boot_nonce, reason_on_the_wire(query.notice)])


def encode_alive_answer(boot_nonce: int) -> bytes:
    """The answer to an AliveQuery as a frame: which process this is."""
    return encode_frame([FrameKind.ALIVE_ANSWER, boot_nonce])


@of_a_peer
def decode_alive_answer(payload: bytes) -> int:
    """The boot nonce of the process that answers an AliveQuery; raises PeerProtocolError."""
    kind, boot_nonce = items(decode_payload(payload), 2)
    if integer(kind) != FrameKind.ALIVE_ANSWER:
        raise PeerProtocolError("the answer to an AliveQuery is not an AliveAnswer")
    return integer(boot_nonce)


def encode_join_query(query: JoinQuery) -> bytes:
    """A JoinQuery as a frame."""
    return encode_frame([FrameKind.JOIN_QUERY, *query])


def encode_join_answer(answer: JoinAnswer) -> bytes:
    """A JoinAnswer as a frame."""
    return encode_frame([FrameKind.JOIN_ANSWER, answer.cluster_id, dict(answer.urls), answer.removed_at])


@of_a_peer
def decode_join_answer(payload: bytes) -> JoinAnswer:
    """The answer to a JoinQuery; raises PeerProtocolError."""
    fields = decode_payload(payload, integer_keys=len(payload) <= MAX_INTEGER_KEYS_BYTES)
    kind, cluster_id, urls, removed_at = items(fields, 4)
    if integer(kind) != FrameKind.JOIN_ANSWER or type(urls) is not dict:
        raise PeerProtocolError("the answer to a JoinQuery is not a JoinAnswer")
    members = {integer(i): url(member) for i, member in urls.items()}
    return JoinAnswer(integer(cluster_id), members, optional_integer(removed_at))


def _versions(value: object) -> tuple[int, int]:
    lowest, highest = items(value, 2)
    return integer(lowest), integer(highest)
