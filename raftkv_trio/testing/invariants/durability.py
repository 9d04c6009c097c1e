"""What a node must still have when it starts again, after a clean stop or a crash."""

from dataclasses import dataclass

from raftkv_trio.raft.raft import Raft
from raftkv_trio.raft.storage import Storage
from raftkv_trio.raft.types import HardState
from raftkv_trio.testing.invariants.violation import DURABILITY, Violation


@dataclass(frozen=True, slots=True)
class Promise:
    """A node's durable log up to `index`, and its durable term and vote."""

    storage: Storage
    index: int
    hard_state: HardState

    @classmethod
    def of(cls, raft: Raft) -> "Promise":
        """What `raft` knew to be durable when the node ended."""
        storage, unstable = raft.log.storage, raft.log.unstable
        hard_state, _ = storage.initial_state()
        index = min(storage.last_index(), unstable.offset - 1)  # later entries may have been overwritten
        if unstable.snapshot is not None:  # a pending snapshot may replace all that is not committed
            index = min(index, hard_state.commit)
        return cls(storage, index, hard_state)

    def check(self, node_id: int, raft: Raft) -> None:
        """Check what the node has after its next start; raises Violation."""
        hard_state, promised = raft.log.storage.initial_state()[0], self.hard_state
        if hard_state.term < promised.term or (
            hard_state.term == promised.term and promised.vote not in (None, hard_state.vote)
        ):
            raise Violation(
                DURABILITY,
                f"node {node_id} comes back in term {hard_state.term} with a vote for {hard_state.vote}, but"
                f" was in term {promised.term} and had voted for {promised.vote}",
            )
        for index in range(self.storage.first_index(), self.index + 1):
            term = self.storage.term(index)
            if not holds(raft.log.storage, index, term):
                raise Violation(
                    DURABILITY,
                    f"node {node_id} comes back without entry {index} of term {term}, which was durable",
                )


def holds(storage: Storage, index: int, term: int) -> bool:
    """Whether an entry is in a log, or in the snapshot before its first entry."""
    if index < storage.first_index():
        return True
    return index <= storage.last_index() and storage.term(index) == term
