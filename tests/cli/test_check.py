"""`raftkv-trio check`: its exit codes, and what it says of directories that nodes have left."""

import json
from pathlib import Path

from tests.cli.program import damage, refusal, run, serving_alone


def test_a_directory_that_is_sound(copied: Path, tmp_path: Path) -> None:
    """`check` prints what the directory holds and that nothing is wrong, and changes nothing."""
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    done = run("check", "data", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "data: node 1 of cluster " in done.stdout
    assert "hard state: term 2, vote 1, commit index 2" in done.stdout
    assert "index 1, term 1, " in done.stdout
    assert "entries 2 to 2" in done.stdout
    assert done.stdout.endswith("nothing is wrong\n")
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_for_programs(copied: Path, tmp_path: Path) -> None:
    """-w json is one object that says the same."""
    done = run("check", "data", "-w", "json", directory=tmp_path)
    said = json.loads(done.stdout)
    assert done.returncode == 0
    assert (said["is_sound"], said["problems"], said["repairs"]) == (True, [], None)
    assert (said["identity"]["node_id"], said["identity"]["format"]) == (1, 1)
    assert said["hard_state"] == {"term": 2, "vote": 1, "commit_index": 2}
    assert said["entries"] == {"first_index": 2, "last_index": 2}
    assert [snapshot["is_whole"] for snapshot in said["snapshots"]] == [True]
    (segment,) = said["segments"]
    assert segment["size_bytes"] == 64 * 1024 * 1024


def test_a_directory_that_is_damaged(copied: Path, tmp_path: Path) -> None:
    """Exit code 1, the file and the offset; a repair does not touch what may have been acknowledged."""
    damage(copied)
    (segment,) = (copied / "wal").glob("*.wal")
    before = segment.read_bytes()
    (copied / "snap" / "0000000000000002-0000000000000002.snap.tmp").touch()
    done = run("check", "data", directory=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"wrong: wal/{segment.name}, offset 0: a record does not verify; the next one " in done.stdout
    assert "to do: repair it from the other members' directories" in done.stdout
    repaired = run("check", "data", "--repair", directory=tmp_path)
    assert (repaired.returncode, repaired.stderr) == (1, "")
    assert "repaired: removed data/snap/0000000000000002-0000000000000002.snap.tmp" in repaired.stdout
    assert "what is wrong is left as it is" in repaired.stdout
    assert segment.read_bytes() == before
    assert "left over" not in run("check", "data", directory=tmp_path).stdout


def test_a_running_node_and_no_directory(tmp_path: Path) -> None:
    """Neither can be checked: one sentence, exit code 2."""
    with serving_alone("--data-dir", "data", directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        said = refusal("check", "data", directory=tmp_path)
        assert said == "data directory data is in use by a running node; stop it first"
    said = refusal("check", "elsewhere", directory=tmp_path)
    assert said == ("elsewhere does not exist")
