"""Which process each member is. If two run under one node id, the first one stays, and both are told.

A copy of a running node's data directory that is started elsewhere has the id and the directory id of that
node. Both processes would throw each other off every connection, since the newest connection of a member
counts. And together they could vote twice in one term (paper, section 5.2).

So each process draws a number at its start, its boot nonce, and says it in every handshake. A member that
introduces itself with a new number was restarted, or is a second process. To find out, this node asks at the
address at which it knows the first process. If that one answers, the second one is refused. If it does not,
it has ended, and its connections are dead, whether TCP has noticed that or not.
"""

import logging
from typing import NamedTuple

import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import PeerProtocolError
from raftkv_trio.peers.connection import CONNECTION_ERRORS
from raftkv_trio.peers.handshake import Handshake
from raftkv_trio.world import Clock, Network

logger = logging.getLogger(__name__)

#: How long a process may take to answer; and how long it counts as alive when it has.
ALIVE_S = 2.0
#: How long it is told that there are two: a refused process tries again every second.
TOLD_S = 15.0
LOG_INTERVAL_S = 60.0


class Process(NamedTuple):
    """One process of a member.

    Attributes:
        boot_nonce: its number.
        place: where it is, for people.
    """

    boot_nonce: int
    place: str


class SecondProcess:
    """What this node knows of a second process under a node id, its own or a member's.

    Attributes:
        is_refused: whether this process is the one that the members refuse.

    Args:
        clock: of the node.
    """

    def __init__(self, clock: Clock) -> None:
        self.is_refused = False
        self._clock = clock
        self._sentence: str | None = None
        self._told_at = self._logged_at = 0.0

    @property
    def reason(self) -> str | None:
        """What is wrong and what to do; None if nobody has told of two processes lately."""
        if self._sentence is None or self._clock.now() - self._told_at > TOLD_S:
            return None
        return self._sentence

    def told(self, sentence: str, *, is_refused: bool = False) -> None:
        """There are two processes; logged once a minute while they last."""
        now, is_news = self._clock.now(), self.reason is None
        self._sentence, self._told_at, self.is_refused = sentence, now, is_refused
        if is_news or now - self._logged_at >= LOG_INTERVAL_S:
            logger.error("%s", sentence)
            self._logged_at = now


def two_processes(node_id: int, first: Process, second: Process) -> str:
    """What both are told, as one sentence."""
    return (
        f"two processes run as node {node_id}: one at {first.place}, which stays connected, and a second one"
        f" at {second.place}, which is refused; stop one of them, and remove its copy of the data directory"
    )


async def is_alive(
    handshake: Handshake, network: Network, peer_id: int, address: PeerAddress, process: Process, notice: str
) -> bool:
    """Whether that process of a member answers at this address within `ALIVE_S`.

    It is told the `notice`. Another process, which may listen there instead, is not the one that is meant.
    Cancellation leaves nothing behind.
    """
    try:
        with trio.fail_after(ALIVE_S):
            async with await network.connect(address.host, address.port) as stream:
                return await handshake.is_process(stream, peer_id, process.boot_nonce, notice)
    except (PeerProtocolError, *CONNECTION_ERRORS) as error:
        logger.debug("the process at %s does not answer: %s", address.url, error)
        return False
