"""All kinds of faults at once on real nodes under load."""

from pathlib import Path

import pytest

from tests.faults.mixed import run_mixed
from tests.faults.namespaced import open_namespaced

pytestmark = pytest.mark.faults

NODES = 5
# Snapshots all the time, and hardly anything kept behind them; a request tells soon that it fails.
ARGUMENTS = ("--snapshot-entries", "200", "--catch-up-entries", "50", "--request-timeout", "2")


async def test_mixed_faults_lose_nothing_acknowledged(
    tmp_path: Path, faults_seed: int, faults_seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """What clients were told is linearizable; when all heals all nodes take writes, and all are equal."""
    print(f"--faults-seed {faults_seed} --faults-seconds {faults_seconds:g}")
    async with open_namespaced(tmp_path, NODES, ARGUMENTS) as (cluster, http):
        report = await run_mixed(cluster, http, seed=faults_seed, seconds=faults_seconds)
    with capsys.disabled():
        print(f"\n{report}")
