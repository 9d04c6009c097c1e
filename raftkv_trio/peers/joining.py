"""How a node that is to join a cluster asks its members which one it is.

Without a data directory it asks until it is added. With one it asks whether that is of this cluster.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError, PeerProtocolError
from raftkv_trio.foreign_text import printable
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.levels import HIGHEST, RELEASED, Levels, objection_to_levels
from raftkv_trio.peers.connection import CONNECTION_ERRORS
from raftkv_trio.peers.framing import MAX_FRAME_BYTES, FrameKind
from raftkv_trio.peers.handshake import HANDSHAKE_TIMEOUT_S, new_nonce, say_hello
from raftkv_trio.peers.handshake_frames import (
    Hello,
    Introduction,
    JoinAnswer,
    Purpose,
    decode_admission,
    decode_join_answer,
    decode_proof,
    encode_with_levels,
)
from raftkv_trio.peers.proofs import Conversation, secret_objection
from raftkv_trio.peers.trust import quoted
from raftkv_trio.raft.types import ConfState
from raftkv_trio.storage import Bootstrap
from raftkv_trio.world import Clock, Network, reason_of

logger = logging.getLogger(__name__)

ASK_INTERVAL_S = 1.0
#: How long a start waits for the word of members that may be down.
CHECK_S = 2.0


class Joiner:
    """A node that asks members which cluster they are of, under its id.

    Args:
        node_id: its id.
        network, random: what it runs on.
        cluster_secret: what all nodes of the cluster share, if they do.
        highest_level: the highest feature level that this node knows.
    """

    def __init__(
        self,
        node_id: int,
        network: Network,
        random: Random,
        cluster_secret: bytes | None,
        highest_level: int = HIGHEST,
    ) -> None:
        self.node_id = node_id
        self._levels = Levels(highest_level)
        self._network = network
        self._random = random
        self._secret = cluster_secret

    async def ask(self, address: PeerAddress) -> JoinAnswer:
        """Ask the member at that address.

        Raises PeerProtocolError if either side refuses the other, TooSlowError, and what a stream raises.
        Cancellation leaves nothing behind.
        """
        hello = Hello(cluster_id=0, sender=self.node_id, nonce=new_nonce(self._random), receiver=0)
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            async with await self._network.connect(address.host, address.port) as stream:
                # Not the limit of a handshake: the answer has the URLs of all members, however many there
                # are.
                conversation = Conversation(stream, self._secret, MAX_FRAME_BYTES)
                welcome, sealed = await say_hello(conversation, hello)
                certificate, member = conversation.certificate(), welcome.node_id
                levels = decode_proof(sealed.body, welcome.version).levels
                objection = (
                    certificate.objection(member, None, None)
                    or secret_objection(self._secret, sealed, member, self.node_id)
                    # It is in no cluster yet, so it needs no level, and has applied nothing.
                    or objection_to_levels(self.node_id, self._levels, RELEASED, 0, member, levels)
                )
                introduction = Introduction(Purpose.JOIN, 0, None, False, objection, self._levels)
                body = encode_with_levels(introduction, welcome.version)
                await conversation.send(conversation.sealed(FrameKind.INTRODUCTION, body, None))
                if objection is not None:
                    raise PeerProtocolError(objection)
                admission = decode_admission(await self._proved(conversation, FrameKind.ADMISSION, member))
                if admission.refusal is not None:
                    raise PeerProtocolError(quoted("it refused this node", admission.reason))
                answer = decode_join_answer(await self._proved(conversation, FrameKind.JOIN_ANSWER, member))
                # Now the cluster is known, and its certificate may be for another one.
                if (objection := certificate.objection(member, answer.cluster_id, None)) is not None:
                    raise PeerProtocolError(objection)
                return answer

    async def _proved(self, conversation: Conversation, kind: FrameKind, member: int) -> bytes:
        """The body of the next frame, by a node that has the cluster's secret, if there is one."""
        sealed = await conversation.receive_sealed(kind)
        if (objection := secret_objection(self._secret, sealed, member, self.node_id)) is not None:
            raise PeerProtocolError(objection)
        return sealed.body


async def find_cluster(
    joiner: Joiner,
    members: Mapping[int, PeerAddress],
    clock: Clock,
    waits: Callable[[str], None] = lambda reason: None,
) -> Bootstrap:
    """Ask the other `members` which cluster this is, until one of them knows this node as a member.

    Returns how this node's directory begins: without state, which a snapshot of the leader brings, but with
    the cluster's id and the members' addresses.

    Args:
        joiner: this node.
        members: as this node is configured; itself too.
        clock: what this node runs on.
        waits: given the reason why this node has to wait, each time that it is another one.

    Raises ConfigError if this node was removed from the cluster: if two members say so, or the only one that
    it knows. There is no deadline; cancellation leaves nothing behind.
    """
    last_reason: str | None = None
    others = {i: address for i, address in sorted(members.items()) if i != joiner.node_id}
    while True:
        reasons: dict[str, None] = {}  # ordered, and each once
        refusals = 0
        for address in others.values():
            try:
                answer = await joiner.ask(address)
                result = what_to_join(answer, joiner.node_id, members[joiner.node_id])
            except CONNECTION_ERRORS as error:
                logger.debug("%s: %s", address.url, reason_of(error))
                continue
            except PeerProtocolError as error:
                result = f"{address.url}: {error}"
            except ConfigError as error:
                refusals += 1
                if refusals >= min(2, len(others)):
                    raise
                result = str(error)
            if isinstance(result, Bootstrap):
                logger.info("joining cluster %x, as %s says", answer.cluster_id, address.url)
                return result
            reasons[result] = None
        reason = "; ".join(reasons) or "no member can be reached yet"
        if reason != last_reason:
            logger.warning("waiting to join: %s", reason)
            waits(reason)
            last_reason = reason
        await clock.sleep_until(clock.now() + ASK_INTERVAL_S)


async def check_joined(
    joiner: Joiner, cluster_id: int, members: Mapping[int, PeerAddress], data_dir: Path
) -> None:
    """Ask the other `members` whether they are of the cluster that this node's directory belongs to.

    Returns as soon as one says so, or if none answers in time: then they may be down, and the handshake of
    their connections refuses a stranger later. Cancellation leaves nothing behind.

    Raises ConfigError if those that answer are of another cluster.
    """
    other_ids: dict[str, int] = {}

    async def ask(address: PeerAddress) -> None:
        try:
            answer = await joiner.ask(address)
        except (PeerProtocolError, *CONNECTION_ERRORS) as error:
            logger.debug("%s: %s", address.url, reason_of(error))
            return
        if answer.cluster_id != cluster_id:
            other_ids[address.url] = answer.cluster_id
            return
        other_ids.clear()
        nursery.cancel_scope.cancel()

    with trio.move_on_after(CHECK_S):
        async with trio.open_nursery() as nursery:
            for other_id in sorted(members.keys() - {joiner.node_id}):
                nursery.start_soon(ask, members[other_id])
    if other_ids:
        url, other_id = min(other_ids.items())
        raise ConfigError(
            f"{data_dir} belongs to cluster {cluster_id:x}, and {url} of `members` to cluster {other_id:x};"
            " to `join` that one, name another directory with `data_dir`"
        )


def what_to_join(answer: JoinAnswer, node_id: int, address: PeerAddress) -> Bootstrap | str:
    """How this node's directory begins, by a member's answer, or why this node has to wait.

    A member may not have applied yet that this node was added, or that its address was changed: these answers
    are not final. A removal is final: ConfigError.
    """
    if answer.removed_at is not None:
        raise ConfigError(
            f"node {node_id} was removed from cluster {answer.cluster_id:x}, and a removed id is never taken"
            " again; add a node under a new id"
        )
    url = answer.urls.get(node_id)
    if url is None:
        return (
            f"node {node_id} is not a member of cluster {answer.cluster_id:x} yet; add it with POST"
            f" /-/members, or raftkv-trio member add {node_id} {address.url}"
        )
    # Members dial the address that the log has. Under another one this node would join, and hear nobody.
    if url != address.url:
        return (
            f"node {node_id} was added with {printable(url)}, but its configuration says {address.url};"
            " configure the same address, or change it with"
            f" raftkv-trio member update {node_id} {address.url}"
        )
    try:
        envelope = Envelope.of({i: PeerAddress.parse(url) for i, url in answer.urls.items()})
    except ConfigError as error:  # another member may give valid ones
        return f"a member of the cluster gives an address that is not valid: {error}"
    # Index 0 and no voters: nothing that this node could vote or campaign by until the leader's snapshot
    # comes.
    return Bootstrap(
        cluster_id=answer.cluster_id, conf_state=ConfState(), envelope=envelope.encode(), index=0, term=0
    )
