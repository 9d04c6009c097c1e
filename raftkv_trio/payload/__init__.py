"""What the log's entries and the snapshots carry of the node's own, below what the wire or the disk says.

A state machine's commands and chunks are bytes to this room. Around them the node puts:

- `proposal.py`: the id of a proposal, in front of the command in each NORMAL entry;
- `membership.py`: a request to change members, in the context of each conf change; and `Membership`, the
  members as of what is applied;
- `entries.py`: the check of entries that a peer sends;
- `envelope.py`: the members' addresses and the removed ids, in front of the machine's chunks in a snapshot.

`cbor.py` encodes these, and raft's own types, for the log (`storage/record.py`), for snapshots and for the
wire (`peers/wire.py`). The bytes are formats: what this version writes, later ones have to read. Each has a
version number, except raft's types, whose version is that of the log or of the protocol around them.

This room knows the core's types and errors. It knows no Trio, no disk and no network.
"""
