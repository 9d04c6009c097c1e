"""The state that a stopped member's directory holds, with all entries of its log, committed or not."""

from raftkv_trio.kv import Store
from raftkv_trio.node.applier import apply_entries
from raftkv_trio.node.recovery import read_envelope, restore_machine
from raftkv_trio.payload.envelope import Envelope, Member
from raftkv_trio.payload.membership import Membership
from raftkv_trio.storage import NodeStorage, SnapshotMeta


def replay(storage: NodeStorage) -> tuple[Store, Envelope, Member | None, SnapshotMeta, int]:
    """Apply all that a directory holds.

    Returns the store, the members, this node as the member that it was last, the entry up to which all is
    applied, and the number of entries behind the last one that is known to be committed.
    """
    machine, meta = Store(), storage.snapshot
    restore_machine(machine, storage)
    node_id = storage.identity.node_id
    envelope = read_envelope(storage)
    own = envelope.members.get(node_id)

    # If its own removal is among the entries, its address is known from before that.
    def changed(envelope: Envelope) -> None:
        nonlocal own
        own = envelope.members.get(node_id, own)

    membership = Membership(envelope, meta.conf_state, changed)
    entries = storage.take_entries()
    apply_entries(machine, membership, entries)
    if entries:
        meta = SnapshotMeta(entries[-1].index, entries[-1].term, membership.conf_state)
    committed = max(storage.hard_state.commit, storage.snapshot.index)
    return machine, membership.envelope, own, meta, max(0, meta.index - committed)
