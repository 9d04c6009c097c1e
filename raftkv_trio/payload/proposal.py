"""A proposal as the log holds it: the id of whoever proposed, then the command of the state machine."""

import struct
from typing import NamedTuple

from raftkv_trio.errors import PeerProtocolError


class ProposalId(NamedTuple):
    """Names one proposal for ever: the proposing node, a random number of its start, a counter."""

    node_id: int
    boot_nonce: int
    sequence: int


_PROPOSAL_HEADER = struct.Struct(">BQQQ")


_PROPOSAL_VERSION = 1


def encode_proposal(proposal_id: ProposalId, command: bytes) -> bytes:
    """The data of a NORMAL entry: a fixed header naming the proposal, then the command as it is."""
    return _PROPOSAL_HEADER.pack(_PROPOSAL_VERSION, *proposal_id) + command


def decode_proposal(data: bytes) -> tuple[ProposalId, bytes]:
    """What `encode_proposal` made; raises PeerProtocolError for another version or a short header."""
    if len(data) < _PROPOSAL_HEADER.size or data[0] != _PROPOSAL_VERSION:
        raise PeerProtocolError("an entry's data does not begin with a proposal header of version 1")
    _, node_id, boot_nonce, sequence = _PROPOSAL_HEADER.unpack_from(data)
    return ProposalId(node_id, boot_nonce, sequence), data[_PROPOSAL_HEADER.size :]
