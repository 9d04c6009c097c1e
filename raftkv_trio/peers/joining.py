"""How a node without a directory finds the cluster that it is to join: it asks, until it has been added."""

import logging
from collections.abc import Callable, Mapping

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError, PeerProtocolError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.peers.connection import receive_payload
from raftkv_trio.peers.framing import FrameDecoder
from raftkv_trio.peers.handshake import HANDSHAKE_TIMEOUT_S, MAX_HANDSHAKE_BYTES
from raftkv_trio.peers.handshake_frames import (
    PROTOCOL_VERSIONS,
    JoinAnswer,
    JoinQuery,
    decode_join_answer,
    encode_join_query,
)
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage import Bootstrap
from raftkv_trio.world import Clock, Network, reason_of

logger = logging.getLogger(__name__)

ASK_INTERVAL_S = 1.0


async def find_cluster(
    node_id: int,
    members: Mapping[int, PeerAddress],
    network: Network,
    clock: Clock,
    waits: Callable[[str], None] = lambda reason: None,
) -> Bootstrap:
    """Ask the others of `members` for their cluster until one of them knows this node as a member.

    Returns what its directory is to begin with: nothing, and the addresses to begin with. `waits` is told why
    that takes longer, each time that it is for another reason.

    Raises ConfigError where this node was removed. Without a deadline of its own; cancellation leaves nothing
    behind.
    """
    said: str | None = None
    while True:
        doubts: dict[str, None] = {}  # ordered, and each once
        for other_id in sorted(members.keys() - {node_id}):
            address = members[other_id]
            try:
                answer = await _ask(network, address, node_id)
            except (PeerProtocolError, OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                logger.debug("%s: %s", address.url, reason_of(error))
                continue
            told = what_to_join(answer, node_id, members[node_id])
            if isinstance(told, Bootstrap):
                logger.info("joining cluster %x, of which %s told", answer.cluster_id, address.url)
                return told
            doubts[told] = None
        doubt = "; ".join(doubts) or "no member can be reached yet"
        if doubt != said:
            logger.warning("waiting to join: %s", doubt)
            waits(doubt)
            said = doubt
        await clock.sleep_until(clock.now() + ASK_INTERVAL_S)


def what_to_join(answer: JoinAnswer, node_id: int, address: PeerAddress) -> Bootstrap | str:
    """What a member's answer makes of this node's directory, or why nothing yet.

    Who answers may not have heard yet that this node was added, or that its address was changed; only that it
    was removed is final: ConfigError.
    """
    if answer.removed_at is not None:
        raise ConfigError(
            f"node {node_id} was removed from cluster {answer.cluster_id:x}, and a removed id is never taken"
            " again; add a node under a new id"
        )
    url = answer.urls.get(node_id)
    if url is None:
        return (
            f"node {node_id} is no member of cluster {answer.cluster_id:x} yet; add it with POST /-/members,"
            f" or raftkv-trio member add {node_id} {address.url}"
        )
    if url != address.url:
        return (
            f"node {node_id} was added with {url}, but its configuration says {address.url}; configure the"
            f" same address, or change it with raftkv-trio member update {node_id} {address.url}"
        )
    return _bootstrap(answer)


async def _ask(network: Network, address: PeerAddress, node_id: int) -> JoinAnswer:
    with trio.fail_after(HANDSHAKE_TIMEOUT_S):
        async with await network.connect(address.host, address.port) as stream:
            await stream.send_all(encode_join_query(JoinQuery(PROTOCOL_VERSIONS, node_id)))
            return decode_join_answer(await receive_payload(stream, FrameDecoder(MAX_HANDSHAKE_BYTES)))


def _bootstrap(answer: JoinAnswer) -> Bootstrap:
    try:
        envelope = Envelope.of({i: PeerAddress.parse(url) for i, url in answer.urls.items()})
    except ConfigError as error:
        raise ConfigError(f"a member of the cluster gives an address that is none: {error}") from error
    return Bootstrap(
        cluster_id=answer.cluster_id, conf_state=ConfState(), envelope=envelope.encode(), index=0, term=0
    )
