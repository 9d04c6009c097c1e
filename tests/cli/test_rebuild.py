"""`raftkv-trio check --repair --with`: a member's damaged log is rebuilt from the others' directories."""

import shutil
from pathlib import Path

import httpx
import pytest

from tests.cli.cluster import Cluster
from tests.cli.program import DEADLINE_S, NO_TLS, damage, refusal, run

DIRECTORIES = {i: f"raftkv-trio-{i}" for i in (1, 2, 3)}


def put(cluster: Cluster, value: bytes) -> None:
    url = f"{cluster.urls[1]}/{value.decode()}"
    assert httpx.put(url, content=value, timeout=DEADLINE_S, verify=NO_TLS).status_code == 204


def hit(data_dir: Path, text: bytes) -> None:
    """Damage the place in the log where this was written last."""
    (segment,) = (data_dir / "wal").glob("*.wal")
    with segment.open("r+b") as file:
        file.seek(file.read().rindex(text))
        file.write(b"!")


def start(cluster: Cluster) -> None:
    for node_id in DIRECTORIES:
        cluster.start(node_id)
    for node in cluster.nodes.values():
        node.wait_answer(200, "/-/ready")


def written(*directories: Path) -> dict[Path, int]:
    """Every file, and when it was written to."""
    return {p: p.stat().st_mtime_ns for each in directories for p in each.rglob("*") if p.is_file()}


def test_three_members_with_damage_each_are_made_good(cluster: Cluster) -> None:
    """No two of the three are intact, each value is on two: all of it is there again, and served."""
    start(cluster)
    values = [b"first", b"second", b"third"]
    for value in values:
        put(cluster, value)
    for node in cluster.nodes.values():
        node.wait_answer(200, "/third")  # it is in every log
    for node_id in DIRECTORIES:
        cluster.kill(node_id)
    homes = {i: cluster.directory / name for i, name in DIRECTORIES.items()}
    for node_id, value in zip(DIRECTORIES, values, strict=True):
        hit(homes[node_id], value)
    hit(homes[3], b"RKV1")  # with which its last record begins
    said = refusal("check", DIRECTORIES[3], "--repair", "--with", DIRECTORIES[1], directory=cluster.directory)
    assert said == (
        "raftkv-trio-3 cannot be rebuilt: the end of its log is lost, and only with the directories of all"
        " members can it be known what that was: that of node 2 is missing"
    )
    for node_id, name in DIRECTORIES.items():
        others = [other for i, other in DIRECTORIES.items() if i != node_id]
        before = written(*[cluster.directory / other for other in others])
        done = run(
            *["check", name, "--repair", "--with", others[0], "--with", others[1]],
            directory=cluster.directory,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert f"repaired: rebuilt {name}/wal: the snapshot at index 1, and entries 2 to " in done.stdout
        assert f"the damaged one is kept as {name}/wal.replaced-1" in done.stdout
        assert done.stdout.endswith("nothing is wrong\n")
        assert written(*[cluster.directory / other for other in others]) == before
    start(cluster)
    for node in cluster.nodes.values():
        for value in values:
            assert node.wait_answer(200, f"/{value.decode()}").content == value


@pytest.fixture
def others(copied: Path, tmp_path: Path) -> list[str]:
    """Beside `data`, which is damaged, what is no directory to repair it with."""
    shutil.copytree(copied, tmp_path / "same")
    damage(copied)
    return ["check", "data", "--repair"]


def test_what_cannot_be_a_repair(others: list[str], copied: Path, tmp_path: Path) -> None:
    """One sentence each, exit code 2, and nothing has changed."""
    before = written(tmp_path)
    assert refusal("check", "data", "--with", "same", directory=tmp_path) == "--with needs --repair"
    said = refusal(*others, "--with", "./data", directory=tmp_path)
    assert said == "a directory is given twice; --with is for those of the other members"
    said = refusal(*others, "--with", "same", directory=tmp_path)
    assert said == "data and same are both of node 1"
    said = refusal(*others, "--with", "elsewhere", directory=tmp_path)
    assert said.startswith("elsewhere does not exist")
    assert written(tmp_path) == before
