"""A proposal as the log has it: its id, then the command of the state machine."""

import struct
from typing import NamedTuple

from raftkv_trio.errors import DecodeError


class ProposalId(NamedTuple):
    """Identifies one proposal for ever, also among those of earlier runs of the same node.

    By it the proposing node recognizes its own entry in the log, and answers the client who waits for it.

    Attributes:
        node_id: of the node that a client gave the command to.
        boot_nonce: a random number that the node draws when it starts.
        sequence: counts the node's proposals since then.
    """

    node_id: int
    boot_nonce: int
    sequence: int


#: The proposer of what the leader changes by itself. No node has id 0.
LEADER_ITSELF = ProposalId(0, 0, 0)

_PROPOSAL_HEADER = struct.Struct(">BQQQ")
_PROPOSAL_VERSION = 1


def encode_proposal(proposal_id: ProposalId, command: bytes) -> bytes:
    """The data of a NORMAL entry: a header of fixed size with the id, then the command as it is."""
    return _PROPOSAL_HEADER.pack(_PROPOSAL_VERSION, *proposal_id) + command


def check_proposal(data: bytes) -> None:
    """Raise DecodeError unless `decode_proposal` decodes this."""
    if len(data) < _PROPOSAL_HEADER.size or data[0] != _PROPOSAL_VERSION:
        raise DecodeError("an entry's data does not begin with a proposal header of version 1")


def decode_proposal(data: bytes) -> tuple[ProposalId, bytes]:
    """The id and the command of an entry's data; raises DecodeError for any other data."""
    check_proposal(data)
    _, node_id, boot_nonce, sequence = _PROPOSAL_HEADER.unpack_from(data)
    return ProposalId(node_id, boot_nonce, sequence), data[_PROPOSAL_HEADER.size :]
