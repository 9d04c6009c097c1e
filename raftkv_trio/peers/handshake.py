"""Who may speak to whom: the first frame each way on a peer connection, and what is checked in them.

Both ends check, so that a mismatch is told on both sides. A member is known by the random id of its data
directory: one that comes back with another directory has forgotten its votes, and is refused for ever.
Whoever has the cluster id and is not known to be removed is let in: this node may be the last to hear of it.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from raftkv_trio.errors import DirectoryRefused, PeerProtocolError, RemovedFromCluster
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.framing import FrameDecoder
from raftkv_trio.peers.handshake_frames import (
    PROTOCOL_VERSIONS,
    Hello,
    JoinAnswer,
    JoinQuery,
    Welcome,
    decode_first_frame,
    decode_welcome,
    encode_hello,
    encode_join_answer,
    encode_welcome,
)
from raftkv_trio.storage import Identity

HANDSHAKE_TIMEOUT_S = 5.0
MAX_HANDSHAKE_BYTES = 8192
RECEIVE_BYTES = 256 * 1024

#: Says whether a member's directory id is the one known, learning it durably at first contact.
CheckDirectory = Callable[[int, bytes], Awaitable[bool]]


class LocalMember(NamedTuple):
    """What this node says of itself: whose directory it has, where peers reach it, and where clients do."""

    identity: Identity
    peer_url: str | None
    client_url: str | None


async def introduce(
    stream: trio.abc.Stream,
    local: LocalMember,
    peer_id: int,
    check_directory: CheckDirectory,
    *,
    is_for_snapshot: bool = False,
) -> Welcome:
    """Say Hello on a connection that this node opened to `peer_id`, and check and return the answer.

    Raises:
        DirectoryRefused: the peer knows this node by another data directory.
        RemovedFromCluster: the peer says that this node was removed.
        PeerProtocolError: either side refuses for another reason; the text says which.
        trio.TooSlowError: no answer in time.
        trio.BrokenResourceError: the connection broke.

    After an error or a cancellation the stream is of no use; the caller closes it.
    """
    hello = Hello(
        cluster_id=local.identity.cluster_id,
        sender=local.identity.node_id,
        directory_id=local.identity.directory_id,
        receiver=peer_id,
        peer_url=local.peer_url,
        client_url=local.client_url,
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
    if not await check_directory(peer_id, welcome.directory_id):
        raise PeerProtocolError(other_directory(peer_id))
    return welcome


async def admit(
    stream: trio.abc.Stream, local: LocalMember, envelope: Envelope, check_directory: CheckDirectory
) -> Hello | None:
    """Read the Hello of a connection that this node accepted, answer it, and return it.

    None for a node that only wants to know which cluster this is. Raises and leaves behind the same as
    `introduce`.
    """
    decoder = FrameDecoder(MAX_HANDSHAKE_BYTES)
    with trio.fail_after(HANDSHAKE_TIMEOUT_S):
        hello = decode_first_frame(await receive_payload(stream, decoder))
        if isinstance(hello, JoinQuery):
            await stream.send_all(encode_join_answer(join_answer(hello, local.identity.cluster_id, envelope)))
            return None
        reason = _objection(hello, local.identity, envelope)
        is_other_directory = reason is None and not await check_directory(hello.sender, hello.directory_id)
        if is_other_directory:
            reason = other_directory(hello.sender)
        is_ours = hello.cluster_id == local.identity.cluster_id
        welcome = Welcome(
            version=min(hello.versions[1], PROTOCOL_VERSIONS[1]),
            node_id=local.identity.node_id,
            directory_id=local.identity.directory_id,
            client_url=local.client_url,
            reason=reason,
            is_other_directory=is_other_directory,
            removed_at=envelope.removed.get(hello.sender) if is_ours else None,
        )
        await stream.send_all(encode_welcome(welcome))
    if reason is not None:
        raise PeerProtocolError(f"refused node {hello.sender}: {reason}")
    return hello


def _objection(hello: Hello, identity: Identity, envelope: Envelope) -> str | None:
    lowest, highest = PROTOCOL_VERSIONS
    if hello.versions[0] > highest or hello.versions[1] < lowest:
        return f"protocol versions {hello.versions[0]} to {hello.versions[1]} are not {lowest} to {highest}"
    if hello.cluster_id != identity.cluster_id:
        return f"cluster id {hello.cluster_id:x} is not this cluster's {identity.cluster_id:x}"
    if hello.sender in envelope.removed:
        return f"node {hello.sender} was removed from this cluster"
    if hello.receiver != identity.node_id:
        return f"node {hello.receiver} was expected here, but this is node {identity.node_id}"
    if hello.sender == identity.node_id or (hello.sender not in envelope.members and not hello.peer_url):
        return f"node {hello.sender} is no other member of this cluster"
    return None


def join_answer(query: JoinQuery, cluster_id: int, envelope: Envelope) -> JoinAnswer:
    """What a member tells a node that wants to know which cluster this is."""
    urls = {i: member.address.url for i, member in envelope.members.items()}
    return JoinAnswer(cluster_id, urls, envelope.removed.get(query.node_id))


def other_directory(node_id: int) -> str:
    return (
        f"node {node_id} came back with another data directory and has forgotten its votes; "
        "remove it and add it under a new id"
    )


async def receive_payload(stream: trio.abc.Stream, decoder: FrameDecoder) -> bytes:
    """The next whole frame's payload; raises PeerProtocolError where the stream ends before it."""
    while True:
        for payload in decoder:
            return payload
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            raise PeerProtocolError("the connection ended during the handshake")
        decoder.feed(data)
