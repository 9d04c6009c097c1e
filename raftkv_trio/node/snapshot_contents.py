"""Whether a snapshot's content is what this node could restore: asked before it replaces anything.

A file whose parts verify can still hold something else than a state: whoever makes a file makes its CRCs.
"""

from collections.abc import Iterator

from raftkv_trio.errors import CorruptLog, RaftKVError
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.levels import HIGHEST
from raftkv_trio.raft.confchange import all_members
from raftkv_trio.state_machine import StateMachine, VerifyingStateMachine
from raftkv_trio.storage import BOOTSTRAP_INDEX, SnapshotMeta


def check_contents(
    machine: StateMachine, meta: SnapshotMeta, parts: Iterator[bytes], *, highest_level: int = HIGHEST
) -> None:
    """Check the parts of a snapshot behind its header: the node's envelope, then the machine's chunks.

    Raises CorruptLog if they cannot be restored by this version. It blocks until all is read, and leaves the
    machine as it is.
    """
    try:
        envelope = Envelope.decode(next(parts, b""), highest_level=highest_level)
        if strangers := set(all_members(meta.conf_state)) - envelope.members.keys():
            raise CorruptLog(f"the envelope has no addresses of members {sorted(strangers)}")
        # The snapshot that a directory begins with is the machine's initial state, and has no chunks.
        if meta.index > BOOTSTRAP_INDEX and isinstance(machine, VerifyingStateMachine):
            machine.verify(parts)
    except (RaftKVError, ValueError) as error:
        raise CorruptLog(f"the snapshot's content cannot be restored: {error}") from error
