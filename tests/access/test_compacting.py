"""Compactions in steps, on a store without a node."""

import pytest

from raftkv_trio.access.compacting import STEP_CHANGES, compact
from raftkv_trio.errors import NoLeader, OutcomeUnknown
from raftkv_trio.kv import (
    SERVER,
    Actor,
    AddUser,
    CompactResult,
    EnableAuth,
    Failed,
    Failure,
    GrantRole,
    Put,
    Store,
    Txn,
)
from raftkv_trio.node.proposals import Applied
from raftkv_trio.state_machine import Committed


class Log:
    """Stands for a `ReplicatedStore` that takes so many commands, and then has no leader."""

    def __init__(self, takes: int, revisions: int = 2 * STEP_CHANGES, keys: int = 1) -> None:
        self.store = Store()
        self.takes = takes
        for _ in range(revisions):
            self.store.run(Txn(success=tuple([Put(b"%d" % key, b"") for key in range(keys)])))

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
    assert log.store.compacted_revision == STEP_CHANGES + 1  # the store began at revision 1
    with pytest.raises(NoLeader):
        await compact(log, 1500)  # type: ignore[arg-type]
    log.takes = 2
    assert await compact(log, 1500) == CompactResult(log.store.revision)  # type: ignore[arg-type]


async def test_a_step_that_is_refused_is_the_last_one() -> None:
    """While authentication is enabled, nobody compacts but who may write all keys, and the server itself."""
    log = Log(takes=8)
    for command in (AddUser("root", b"record"), GrantRole("root", "root"), EnableAuth()):
        log.store.run_auth_command(command)
    assert await compact(log, 1500) == Failed(Failure.USER_EMPTY)  # type: ignore[arg-type]
    assert log.takes == 7
    for revision, actor in ((1400, SERVER), (1500, Actor("root", log.store.auth.revision))):
        done = await compact(log, revision, actor)  # type: ignore[arg-type]
        assert done == CompactResult(log.store.revision)


async def test_a_step_is_as_large_as_what_it_passes() -> None:
    """What counts is how many keys have changed: revisions of many keys take more time. None is divided."""
    log = Log(takes=3, revisions=40, keys=100)
    with pytest.raises(OutcomeUnknown):
        await compact(log, 40)  # type: ignore[arg-type]
    assert log.store.compacted_revision == 1 + 3 * STEP_CHANGES / 100
    assert log.store.compaction_step(99) == 32
    assert log.store.compaction_step(200) == 33
    assert log.store.compaction_step(10**9) == log.store.revision
    log.store.compact(log.store.revision)
    assert log.store.compaction_step(1) == log.store.revision
    assert Store().compaction_step(1) == 1
