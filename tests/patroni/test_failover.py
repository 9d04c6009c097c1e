"""Fail-over of PostgreSQL by Patroni, whose state three of our nodes keep; beside etcd in the same test."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.patroni.checks import longest_gap_s, lost, two_primaries
from tests.patroni.coordinators import Coordinator, Etcd, Nodes
from tests.patroni.databases import PATIENCE_S, SETTINGS, Pair
from tests.patroni.installed import install_patroni, why_not
from tests.patroni.writers import TABLE, Writers

pytestmark = pytest.mark.patroni

#: How much longer than with etcd a fail-over may take.
MOST_TIMES = 1.3
FAILOVER_S = 90.0
#: Patroni gives up a primary whose state is out of reach for longer.
RETRY_S = float(str(SETTINGS["retry_timeout"]))


class Seen(NamedTuple):
    """What clients felt, in seconds.

    Attributes:
        primary: after the kill of the primary, until the next row was committed.
        leader: the longest time without a committed row after the kill of the leader.
        both: as `primary`, when both were killed at once.
    """

    primary: float
    leader: float
    both: float


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="raftkv-trio-patroni-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


class Trial:
    """Two databases, their writers, and what keeps their state."""

    def __init__(self, pair: Pair, coordinator: Coordinator, writers: Writers) -> None:
        self._pair = pair
        self._coordinator = coordinator
        self._writers = writers

    def kill_primary(self, *, leader: bool) -> float:
        """Kill the primary, and the leader too; returns the time until a row was committed on a new timeline.

        What was killed is started again, and follows at the end.
        """
        database, leader_id = self._pair.primary(), self._coordinator.leader()
        before = self._writers.wait(time.monotonic(), PATIENCE_S)
        assert before.database == database.name
        if leader:
            self._coordinator.kill(leader_id)
        database.kill()
        killed_s = time.monotonic()
        after = self._writers.wait(killed_s, FAILOVER_S, after_timeline=before.timeline)
        assert after.database != database.name
        if leader:
            self._coordinator.start(leader_id)
        database.start()
        self._pair.primary()
        return after.end_s - killed_s

    def kill_leader(self) -> float:
        """Kill the leader; returns the longest time without a commit until Patroni has met the next one."""
        database, leader_id = self._pair.primary(), self._coordinator.leader()
        self._writers.wait(time.monotonic(), PATIENCE_S)
        self._coordinator.kill(leader_id)
        killed_s = time.monotonic()
        self._coordinator.leader()
        self._pair.wait_seen(time.time())
        after = self._writers.wait(time.monotonic(), FAILOVER_S)
        self._coordinator.start(leader_id)
        print(f"the primary was {database.name}, and is {after.database}")
        return longest_gap_s(self._writers.writes, killed_s, after.end_s)


def fail_over(directory: Path, packages: Path, coordinator: Coordinator) -> Seen:
    """Kill the primary, then the leader, then both at once; checks the rows at the end."""
    pair = Pair(directory, packages, coordinator.hosts)
    try:
        coordinator.start()
        pair.start()
        assert pair.primary().run_sql(TABLE, PATIENCE_S) is not None
        writers = Writers(pair.both)
        with writers.run():
            trial = Trial(pair, coordinator, writers)
            seen = Seen(
                primary=trial.kill_primary(leader=False),
                leader=trial.kill_leader(),
                both=trial.kill_primary(leader=True),
            )
        rows = pair.primary().run_sql("select id from written", PATIENCE_S)
        assert rows is not None
        assert not lost(writers.writes, rows.split())
        assert not list(two_primaries(writers.writes))
        print(f"{coordinator.name}: {len(writers.writes)} rows acknowledged, {seen}")
    finally:
        pair.stop()
        coordinator.stop()
    return seen


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed (Debian: etcd-server)")
def test_fail_over(directory: Path, tmp_path: Path) -> None:
    """No row that was acknowledged is lost, no two primaries write, and it takes no longer than with etcd."""
    packages = directory / "packages"
    install_patroni(packages)
    for name in ("etcd", "ours"):
        (directory / name).mkdir()
    theirs = fail_over(directory / "etcd", packages, Etcd(tmp_path / "etcd"))
    ours = fail_over(directory / "ours", packages, Nodes(tmp_path / "ours"))
    assert ours.primary <= MOST_TIMES * theirs.primary
    assert ours.leader <= MOST_TIMES * max(theirs.leader, RETRY_S)
    assert ours.both <= MOST_TIMES * theirs.both
