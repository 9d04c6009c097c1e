"""etcd 3.4's own end-to-end tests of etcdctl: which pass with our servers, and why the others do not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path("/usr/share/gocode")
TESTS = SOURCES / "src/go.etcd.io/etcd/tests/e2e"
ROOT = Path(__file__).parents[3]
BUILD_S, RUN_S = 900.0, 3600.0
SNAPSHOT = "`etcdctl snapshot status` reads etcd's own database, and a snapshot of ours is none"
USERS = "TestCtlV3(Auth|User|Role)"
#: They fail with our servers, and are to fail.
FAILING = {
    "TestCtlV3GetFormat": "it knows the id of etcd's cluster; ours is another one",
    "TestCtlV3GetRevokedCRL": "its CRL has ended in 2021, and is no PEM; such a one is refused",
    "TestCtlV3Migrate": "it fails with etcd too: Debian's etcdctl has no `migrate`",
    "TestCtlV3Snapshot": SNAPSHOT,
    "TestCtlV3SnapshotStatusBeforeRestore": SNAPSHOT,
    "TestCtlV3AuthSnapshot": SNAPSHOT,
    "TestCtlV3AuthSnapshotJWT": SNAPSHOT,
    "TestCtlV3AuthTestCacheReload": "it enables authentication by Go's client, without proof that it is root",
}
#: It puts one key until the store is full, which ours never is of that: the quota is for what is there, and
#: the past is compacted. There are no alarms either. Its end by time would end all others with it.
NOT_RUN = "TestCtlV3Alarm"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not TESTS.is_dir() or shutil.which("go") is None or shutil.which("etcdctl") is None,
        reason="etcd's sources, Go or etcdctl are missing"
        " (Debian: apt-get install golang-go golang-etcd-server-dev etcd-client)",
    ),
]


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with all of etcd's end-to-end tests."""
    directory = tmp_path_factory.mktemp("e2e")
    environment = os.environ | {
        "GOPATH": str(SOURCES),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOCACHE": str(directory / "cache"),
    }
    built = subprocess.run(
        ["go", "test", "-c", "-o", directory / "e2e.test", "go.etcd.io/etcd/tests/e2e"],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    assert built.returncode == 0, built.stderr
    return directory / "e2e.test"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with what the tests call: our server as `etcd`, and Debian's etcdctl.

    The users' tests enable authentication without proof that they are root, which our server wants.
    """
    directory = tmp_path / "bin"
    directory.mkdir()
    server = f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.etcd.e2e.as_etcd "$@"\n'
    client = (
        'case "$*" in\n*--user*) ;;\n*"auth enable") set -- --user=root:root "$@" ;;\nesac\n'
        f'exec "{shutil.which("etcdctl")}" "$@"\n'
    )
    for name, script in (("etcd", server), ("etcdctl", client)):
        (directory / name).write_text(f"#!/bin/sh\n{script}")
        (directory / name).chmod(0o755)
    return directory


@pytest.mark.parametrize("of_users", [False, True], ids=["without users", "with users"])
def test_end_to_end(tests: Path, programs: Path, tmp_path: Path, of_users: bool) -> None:
    """Each passes, unless it is known why it cannot."""
    listed = subprocess.run([tests, "-test.list", "TestCtlV3"], cwd=TESTS, capture_output=True, text=True)
    known = [name for name in listed.stdout.split() if name.startswith("TestCtlV3") and name != NOT_RUN]
    names = [name for name in known if bool(re.match(USERS, name)) is of_users]
    assert len(names) > 50
    output = tmp_path / "output"
    command = [str(tests), "-test.v", f"-test.timeout={RUN_S:.0f}s", f"-bin-dir={programs}", "-test.run"]
    with output.open("wb") as file:
        subprocess.run(
            [*command, f"^({'|'.join(names)})$"],
            env=os.environ | {"TMPDIR": str(tmp_path)},
            cwd=TESTS,
            stdout=file,
            stderr=file,
            timeout=RUN_S,
        )
    said = output.read_text(errors="replace")
    verdicts = {name: verdict for verdict, name in re.findall(r"^--- (\w+): (\w+)", said, re.MULTILINE)}
    assert set(verdicts) == set(names), said[-2000:]
    failed = {name for name, verdict in verdicts.items() if verdict == "FAIL"}
    assert failed == {name for name in names if name in FAILING}, said
