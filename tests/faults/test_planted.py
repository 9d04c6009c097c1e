"""The mixed run and its checks can fail: nodes that are broken on purpose are found."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from raftkv_trio.testing import NotLinearizable
from tests.faults.mixed import Fault, halt, kill_9_of_one, partition, run_mixed
from tests.faults.namespaced import open_namespaced
from tests.faults.test_mixed import ARGUMENTS

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("bug", "kinds"),
    [("acknowledge-before-quorum", [partition]), ("forward-twice", [kill_9_of_one, halt])],
)
async def test_a_planted_bug_is_found(tmp_path: Path, bug: str, kinds: Sequence[Fault]) -> None:
    """A fault of the right kind a few times is enough to tell.

    If two leaders commit different entries at one index, the history shows it, or a node takes no entry any
    more: it can follow no leader without the entry that it has committed.
    """
    is_found = False
    async with open_namespaced(tmp_path, 3, ARGUMENTS, bug=bug) as (cluster, http):
        try:
            await run_mixed(cluster, http, seed=1, seconds=25.0, streams=[kinds])
        except* (NotLinearizable, trio.TooSlowError):
            is_found = True
    assert is_found
