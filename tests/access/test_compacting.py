"""Compactions in steps, on a store without a node."""

import pytest

from raftkv_trio.access.compacting import STEP_REVISIONS, compact
from raftkv_trio.errors import NoLeader, OutcomeUnknown
from raftkv_trio.kv import CompactResult, Put, Store, Txn
from raftkv_trio.node.proposals import Applied
from raftkv_trio.state_machine import Committed


class Log:
    """Stands for a `ReplicatedStore` that takes so many commands, and then has no leader."""

    def __init__(self, takes: int) -> None:
        self.store = Store()
        self.takes = takes
        for _ in range(2 * STEP_REVISIONS):
            self.store.run(Txn(success=(Put(b"a", b""),)))

    async def wait_readable(self) -> None:
        pass

    async def write(self, command: bytes) -> Applied:
        if not self.takes:
            raise NoLeader("there is no leader")
        self.takes -= 1
        return Applied(1, 1, *self.store.apply([Committed(1, 1, command)]))


async def test_a_compaction_that_was_begun_is_not_told_as_refused() -> None:
    """If only its first step is carried out, it is in doubt; without one, certainly nothing was done."""
    log = Log(takes=1)
    with pytest.raises(OutcomeUnknown, match="there is no leader"):
        await compact(log, 1500)  # type: ignore[arg-type]
    assert log.store.compacted_revision == STEP_REVISIONS - 1
    with pytest.raises(NoLeader):
        await compact(log, 1500)  # type: ignore[arg-type]
    log.takes = 2
    assert await compact(log, 1500) == CompactResult(log.store.revision)  # type: ignore[arg-type]
