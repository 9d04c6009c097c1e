"""What a start makes of flags that are not those a directory was made with."""

import logging
import random
import re
from pathlib import Path

import pytest

from raftkv_trio.addresses import parse_cluster
from raftkv_trio.config import NodeConfig
from raftkv_trio.kv import Store
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from raftkv_trio.world import World

Given = tuple[str, str]  # members and token


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
    assert [
        words in line and "that began a new cluster, to which /data" in line for line in said if words
    ] == ([True] if words else [])
    assert bool(said) == joins


FIRST = "http://one:1,http://two:2"
MORE = f"{FIRST},http://three:3"
MEMBERS = r"`members` is ignored, except .*: node 2 in /data has the members 1=http://one:1,2=http://two:2;"
NO_TOKEN = "`cluster_token` is ignored: node 2 in /data belongs to a cluster that was made without one"
OTHER_TOKEN = "`cluster_token` is ignored: .* was made with another one, or that began with other members"


@pytest.mark.parametrize(
    ("made_with", "started_with", "said"),
    [
        ((FIRST, "t"), (FIRST, "t"), []),
        ((FIRST, "t"), (MORE, "t"), [MEMBERS]),
        ((FIRST, "t"), (FIRST, "u"), [OTHER_TOKEN]),
        ((FIRST, "t"), (FIRST, ""), []),
        ((FIRST, "t"), (MORE, ""), [MEMBERS]),
        ((FIRST, ""), (FIRST, "u"), [NO_TOKEN]),
        ((FIRST, ""), (MORE, ""), [MEMBERS]),
        ((FIRST, ""), (MORE, "u"), [MEMBERS, NO_TOKEN]),
        ((FIRST, "t"), (MORE, "u"), [MEMBERS, OTHER_TOKEN]),
    ],
)
async def test_which_field_differs(
    caplog: pytest.LogCaptureFixture, made_with: Given, started_with: Given, said: list[str]
) -> None:
    """The log names what is not as at the first start, and nothing else."""
    rng = random.Random(1)
    disk = SimulatedDisk(rng)
    first, later = [
        NodeConfig(node_id=2, members=parse_cluster(cluster), cluster_token=token, data_dir=Path("/data"))
        for cluster, token in (made_with, started_with)
    ]
    open_directory(disk, first, rng).close(clean=True)
    with caplog.at_level(logging.WARNING):
        NodeParts(later, Store(), open_directory(disk, later, rng), World(random=rng))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(said)
    assert all(map(re.match, said, lines))
