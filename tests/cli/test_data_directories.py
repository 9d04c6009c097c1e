"""Data directories that a node cannot or must not use, and what it says of them."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from raftkv_trio.storage import OsDisk
from raftkv_trio.storage.small_files import FORMAT_VERSION, read_sealed, write_sealed
from tests.cli.program import alone, damage, refusal, run, serving, serving_alone
from tests.conftest import find_free_ports


def refusal_of(path: str, *arguments: str, directory: Path, exit_code: int = 2) -> str:
    _, base = alone()
    return refusal("serve", *base, *arguments, "--data-dir", path, directory=directory, exit_code=exit_code)


def test_a_directory_that_every_user_may_write_to(copied: Path, tmp_path: Path) -> None:
    """It is refused, and opens after the command that the sentence names."""
    (tmp_path / "data").chmod(0o777)
    said = refusal_of("data", "--cluster", "http://127.0.0.1:1", directory=tmp_path)
    assert said.startswith("every user of this machine may write to data, ")
    assert said.endswith("run: chmod o-w data")
    subprocess.run(said.rpartition("run: ")[2], shell=True, cwd=tmp_path, check=True, timeout=60)
    with serving_alone("--data-dir", "data", "--cluster", "http://127.0.0.1:1", directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        node.wait_said("WARNING .*: the group of data may write to it, .* run: chmod g-w data")


@pytest.mark.parametrize("part", ["", "wal", "snap"])
def test_commands_on_a_directory_that_every_user_may_write_to(
    copied: Path, tmp_path: Path, part: str
) -> None:
    """`check` finds that a start would refuse it; what writes to it refuses too, and changes nothing."""
    (copied / part).chmod(0o777)
    name = str(Path("data", part))
    checked = run("check", "data", directory=tmp_path)
    assert (checked.returncode, checked.stderr) == (1, "")
    *_, last = checked.stdout.splitlines()
    assert last.startswith(f"wrong: every user of this machine may write to {name}, ")
    assert last.endswith(f"run: chmod o-w {name}")
    as_json = json.loads(run("check", "data", "-w", "json", directory=tmp_path).stdout)
    assert (as_json["is_sound"], as_json["open_to_all"], as_json["problems"]) == (False, [part or "."], [])
    before = sorted(copied.rglob("*"))
    for command in (
        ("check", "data", "--repair"),
        ("member", "set-addresses", "data", "1=http://127.0.0.1:9"),
        ("member", "force-new-cluster", "data", "--data-dir", "new", "--yes"),
    ):
        said = refusal(*command, directory=tmp_path)
        assert said.startswith(f"every user of this machine may write to {name}, "), command
    assert sorted(copied.rglob("*")) == before
    (copied / part).chmod(0o700)
    assert run("check", "data", directory=tmp_path).stdout.endswith("nothing is wrong\n")


def test_the_directory_of_another_node(copied: Path, tmp_path: Path) -> None:
    """It is said whose it is."""
    said = refusal_of("data", "--cluster", "2=http://127.0.0.1:1", "--id", "2", directory=tmp_path)
    assert said == "data belongs to node 1, not to node 2; check --id and --data-dir"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cluster", "http://127.0.0.1:2"),
        ("--cluster", "1=http://127.0.0.1:2,2=http://127.0.0.1:3", "--join"),
    ],
)
def test_the_directory_of_another_cluster(copied: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """It is refused where --cluster names none of its members, also to join another cluster."""
    said = refusal_of("data", *arguments, directory=tmp_path)
    assert said == (
        "data belongs to another cluster, of which --cluster names no member; check --cluster and --data-dir"
    )


def test_the_directory_of_another_cluster_than_the_one_to_join(copied: Path, tmp_path: Path) -> None:
    """A member of --cluster says that it is of another one: refused, though the own address is the same."""
    member, peer = find_free_ports(2)
    other = f"2=http://127.0.0.1:{peer}"
    with serving(
        "--id", "2", "--cluster", other, "--port", str(member), directory=tmp_path, port=member
    ) as node:
        node.wait_answer(200, "/-/ready")
        said = refusal_of("data", "--cluster", f"1=http://127.0.0.1:1,{other}", "--join", directory=tmp_path)
    assert re.fullmatch(
        rf"data belongs to cluster \w+, and http://127.0.0.1:{peer} of --cluster to cluster \w+; to --join"
        " that one, name another directory with --data-dir",
        said,
    )


def test_the_directory_of_another_first_configuration(copied: Path, tmp_path: Path) -> None:
    """Where --cluster differs but names a member, it is ignored with a warning."""
    with serving_alone(
        "--data-dir", "data", "--cluster", "http://127.0.0.1:1,http://b:2", directory=tmp_path
    ) as node:
        node.wait_answer(200, "/-/ready")
        node.wait_said(
            r"WARNING .*: --cluster is ignored, except .*: node 1 in data has the members 1=http://127.0.0.1:1;"
            " to change them, use raftkv-trio member"
        )


def test_the_directory_of_a_newer_program(copied: Path, tmp_path: Path) -> None:
    """Its format is named, and what to do."""
    _, *rest = read_sealed(OsDisk(), copied / "identity")
    write_sealed(OsDisk(), copied / "identity", [FORMAT_VERSION + 1, *rest])
    said = refusal_of("data", directory=tmp_path)
    assert said == (
        "data has format 2, and this version of raftkv-trio reads formats up to 1: use a newer version"
    )


def test_the_directory_of_a_running_node(tmp_path: Path) -> None:
    """It is refused while the node runs, which does not notice, and free as soon as it is killed."""
    with serving_alone("--data-dir", "data", directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")
        said = refusal_of("data", directory=tmp_path)
        assert said == (
            "data directory data is in use by a running node; stop it, or name another with --data-dir"
        )
        for command in (
            ("auth", "reset", "data", "--yes"),
            ("member", "force-new-cluster", "data", "--data-dir", "new", "--yes"),
        ):  # which take no other one for it
            said = refusal(*command, directory=tmp_path)
            assert said == "data directory data is in use by a running node; stop it"
        node.wait_answer(200, "/-/ready")
    with serving_alone("--data-dir", "data", directory=tmp_path) as node:
        node.wait_answer(200, "/-/ready")


@pytest.mark.parametrize("path", ["file", "file/data", "file/deep/data", "/proc/raftkv-trio", "other"])
def test_no_directory_at_all(tmp_path: Path, path: str) -> None:
    """A file, a path below one, a path that cannot be made, and a foreign directory are not touched."""
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").touch()
    said = refusal_of(path, directory=tmp_path)
    assert said.startswith(
        (f"data directory {path} cannot be used: ", f"{path} is not empty and no data dir")
    )
    assert said.endswith("; name another with --data-dir")
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["precious"]


def test_a_directory_that_is_damaged(copied: Path, tmp_path: Path) -> None:
    """Damage is no usage error: exit code 1, and the file and the place in it."""
    damage(copied)
    said = refusal_of("data", directory=tmp_path, exit_code=1)
    assert re.match(r"data/wal/\S+\.wal is corrupt at offset 0: repair it from the other members", said)
    assert "`raftkv-trio check data --repair --with DIR2 --with DIR3`" in said
