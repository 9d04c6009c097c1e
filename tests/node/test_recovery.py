"""What a start makes of flags that are not those a directory was made with."""

import logging
import random
from pathlib import Path

import pytest

from raftkv_trio.addresses import parse_cluster
from raftkv_trio.config import NodeConfig
from raftkv_trio.kv import Store
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.world import World


@pytest.mark.parametrize(("joins", "words"), [(True, "`join` is ignored"), (False, None)])
async def test_join_comes_too_late(caplog: pytest.LogCaptureFixture, joins: bool, words: str | None) -> None:
    """A directory that was made without --join stays what it is, and the log says what to do."""
    rng = random.Random(1)
    disk = SimulatedDisk(rng)
    members = parse_cluster("http://one:1,http://two:2")
    open_directory(disk, NodeConfig(node_id=2, members=members, data_dir=Path("/data")), rng).close(
        clean=True
    )
    config = NodeConfig(node_id=2, members=members, data_dir=Path("/data"), join=joins)
    with caplog.at_level(logging.WARNING):
        NodeParts(config, Store(), open_directory(disk, config, rng), World(random=rng))
    said = [record.getMessage() for record in caplog.records]
    assert [words in line for line in said if words] == ([True] if words else [])
    assert bool(said) == joins
