"""The connections between a node and the other members: who may speak, what arrives, what is lost.

Between two members, A and B, are two streams for messages, and for a moment one connection for a snapshot:

    A  --- messages: raft, Forward, Refused --->  B      dialled by A; only A speaks after the handshake
    A  <-- messages: raft, Forward, Refused ----  B      dialled by B; only B speaks after the handshake
    A  --- one snapshot -- and its progress --->  B      dialled by A, the leader

One stream a direction, so that each node alone decides where it dials and when it retries: no rule has to say
which of two simultaneous connections stays, and neither direction waits behind the other. A connection of its
own for a snapshot, so that heartbeats do not wait behind a file.

The path of a message, and where each step is:

    driver -> Peers.offer -> Outbox -> frame -> TCP -> admitted stream -> checks -> inbox -> driver
              peers.py       outbox.py  wire.py         incoming.py

- `peers.py`: `Peers`, all of it as the node sees it: which members there are, and what is for them.
- `outgoing.py`: dialling one member and dialling again; its stream, and the snapshots for it.
- `incoming.py`: the listener, the limit of handshakes, who may say what, received snapshots.
- `handshake.py`, `handshake_frames.py`: the first frames of a connection, and what both ends check in them.
- `proofs.py`, `trust.py`, `certificates.py`: how both ends prove who they are, and what follows from that.
- `peer_keys.py`: by which data directory each member is known; another one is refused.
- `processes.py`: which process each member is; a second one under its id is refused while the first lives.
- `newcomers.py`: how many links there are to nodes that are no members yet, and which one gives way.
- `joining.py`: how a node without a directory finds its cluster.
- `outbox.py`: what waits for one stream, bounded in bytes; and `PeerTransport`, which the driver sends with.
- `snapshot_streams.py`: the transfer of one snapshot, resumed where it broke; `snapshot_sender.py`: when
  a member is sent one, and when again.
- `framing.py`, `wire.py`, `connection.py`: frames of bytes; what members say in them; how they are read.

Failures. An error of a connection ends that connection, and Raft repairs the loss of messages. Only an error
of this node's own disk (StorageError), and the news that this node was removed or has lost its directory, end
the node. On one stream, each message arrives at most once and in order; when a stream ends, what was on its
way is lost.
"""
