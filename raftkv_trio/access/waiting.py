"""Where requests wait, at most `request_timeout_s`: reads for a quorum, writes until they are applied."""

import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.errors import NoLeader
from raftkv_trio.node.node import Node
from raftkv_trio.node.proposals import Applied, Proposal


async def wait_readable(node: Node, config: RestConfig) -> None:
    """Wait until a quorum has confirmed a read and this node has applied all that the read must see.

    Raises NoLeader, with the reason, if that takes too long or the node stops. Cancellation leaves nothing
    behind.
    """
    if not await node.wait_readable_until(trio.current_time() + config.request_timeout_s):
        raise NoLeader(node.status().health or "No quorum confirmed the read in time")


async def wait_applied(node: Node, proposal: Proposal, config: RestConfig) -> Applied:
    """Wait until a proposal is applied on this node.

    Raises ProposalError; its class says whether the proposal may still be applied when the time is up.
    Cancellation, because the client is gone or the server stops, gives the proposal up.
    """
    proposal.deadline = trio.current_time() + config.request_timeout_s
    try:
        return await proposal.wait()
    except trio.Cancelled:
        proposal.give_up()
        raise
    except NoLeader as error:
        if trio.current_time() >= proposal.deadline and (health := node.status().health) is not None:
            raise NoLeader(f"{error}: {health}") from error  # as for a read: why there is no leader
        raise
