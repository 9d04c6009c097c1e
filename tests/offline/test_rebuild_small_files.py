"""`identity`, `peers` and `origin`, damaged or lost, are rebuilt from the log and the other members."""

from pathlib import Path

import pytest

from raftkv_trio.errors import ConfigError, CorruptLog
from raftkv_trio.offline.rebuild_small_files import rebuild_small_files
from raftkv_trio.peers.proofs import key_towards
from raftkv_trio.storage.small_files import read_identity, read_origin, read_peers, write_origin, write_peers
from raftkv_trio.testing.world.simulated_disk import SimulatedDisk
from tests.offline.test_rebuild_log import NODES, four_entries, home

OTHERS = [home(2), home(3)]


def met() -> SimulatedDisk:
    """Three directories of members that know each other's, and were restored from a backup."""
    disk = four_entries((2, 2, 2, 2), clean=True)
    ids = {node_id: read_identity(disk, home(node_id)).directory_id for node_id in NODES}
    for node_id in NODES:
        keys = {i: key_towards(known, node_id) for i, known in ids.items() if i != node_id}
        write_peers(disk, home(node_id), keys)
        write_origin(disk, home(node_id), b"backup")
    return disk


def hit(disk: SimulatedDisk, path: Path) -> None:
    file = disk.open(path)
    file.write_at(5, b"!!")
    file.close()


@pytest.mark.parametrize("name", ["identity", "peers", "origin"])
def test_it_says_again_what_it_said(name: str) -> None:
    """To the byte, after damage and, but for `origin`, which need not be there, after a loss."""
    disk = met()
    before = disk.files(home(1))[home(1) / name]
    assert rebuild_small_files(disk, home(1), OTHERS) == []
    hit(disk, home(1) / name)
    assert rebuild_small_files(disk, home(1), OTHERS) == [f"rebuilt {home(1) / name}"]
    assert disk.files(home(1))[home(1) / name] == before
    if name != "origin":
        disk.unlink(home(1) / name)
        rebuild_small_files(disk, home(1), OTHERS)
        assert disk.files(home(1))[home(1) / name] == before
    assert read_identity(disk, home(1)).node_id == 1
    assert sorted(read_peers(disk, home(1))) == [2, 3]
    assert read_origin(disk, home(1)) == b"backup"


def test_the_key_of_a_member_towards_another_one_is_not_taken() -> None:
    """Nodes 2 and 3 know node 4 by different keys, neither of which it shows to node 1: it is met anew."""
    disk = met()
    before = read_peers(disk, home(1))
    for node_id in (2, 3):
        key = key_towards(b"directory of 4!!", node_id)
        write_peers(disk, home(node_id), {**read_peers(disk, home(node_id)), 4: key})
    disk.unlink(home(1) / "peers")
    rebuild_small_files(disk, home(1), OTHERS)
    assert read_peers(disk, home(1)) == before


def test_an_id_that_version_2_told_becomes_a_key() -> None:
    """Also if only another member has it, and by a key it is known as the same directory."""
    disk = met()
    before = read_peers(disk, home(1))
    told = {i: read_identity(disk, home(i)).directory_id for i in (1, 2)}
    write_peers(disk, home(3), {**told, 4: b"directory of 4!!"})
    write_peers(disk, home(2), {**read_peers(disk, home(2)), 4: key_towards(b"directory of 4!!", 2)})
    disk.unlink(home(1) / "peers")
    rebuild_small_files(disk, home(1), OTHERS)
    assert read_peers(disk, home(1)) == {**before, 4: key_towards(b"directory of 4!!", 1)}


def test_a_member_that_knows_another_directory_is_refused() -> None:
    """By a key that the directory which is there does not give; of the damaged node itself, too."""
    for node_id in (1, 2):
        disk = met()
        write_peers(disk, home(3), {node_id: key_towards(b"another one's id", 3)})
        hit(disk, home(1) / "peers")
        with pytest.raises(ConfigError, match=f"/srv/3 knows another directory of node {node_id}"):
            rebuild_small_files(disk, home(1), OTHERS)


def test_what_cannot_be_known_is_refused() -> None:
    """A member whose directory is another than the others know, and an identity that no segment repeats."""
    disk = met()
    hit(disk, home(1) / "peers")
    write_peers(disk, home(3), {2: b"another"})
    with pytest.raises(ConfigError, match="/srv/3 knows another directory of node 2"):
        rebuild_small_files(disk, home(1), OTHERS)
    hit(disk, home(2) / "identity")
    with pytest.raises(CorruptLog, match="/srv/2/identity is corrupt"):
        rebuild_small_files(disk, home(1), OTHERS)
    (segment,) = disk.files(home(1) / "wal")
    hit(disk, segment)
    hit(disk, home(1) / "identity")
    with pytest.raises(ConfigError, match="no segment of its log says what it was"):
        rebuild_small_files(disk, home(1), OTHERS)
