"""How long a request waits for what it has proposed."""

import trio

from raftkv_trio.config import RestConfig
from raftkv_trio.node.proposals import Applied, Proposal


async def wait_settled(proposal: Proposal, config: RestConfig) -> Applied:
    """Wait until a proposal is applied here, for as long as a request may.

    Raises ProposalError; where the time is up, that which says whether it may still be applied. Cancelled,
    since the client is gone or we stop, it gives the proposal up.
    """
    try:
        with trio.move_on_after(config.request_timeout_s):
            return await proposal.wait()
    except trio.Cancelled:
        proposal.give_up()
        raise
    raise proposal.give_up()
