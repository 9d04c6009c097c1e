"""`etcdctl snapshot save` takes a backup of a node, and `raftkv-trio restore` takes what it has saved."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import find_free_ports
from tests.etcd.servers import HOST, PATIENCE_S, needs_etcd, open_node
from tests.etcd.test_etcdctl import etcdctl


@needs_etcd
def test_a_saved_snapshot_is_restored(tmp_path: Path) -> None:
    """Keys, revisions and history are there again; a damaged trailer is refused."""
    saved = tmp_path / "saved"
    with open_node(tmp_path / "first") as node:
        for value in ("one", "two", "x" * 100_000):
            assert etcdctl(node, "put", "key", value)[0] == 0
        assert etcdctl(node, "snapshot", "save", str(saved))[0] == 0
    assert saved.stat().st_size % 512 == 32

    [peer_port] = find_free_ports(1)
    directory = tmp_path / "second" / "node"
    cluster = f"http://{HOST}:{peer_port}"

    def restore(file: Path) -> subprocess.CompletedProcess[str]:
        command = [
            *(sys.executable, "-m", "raftkv_trio", "restore", str(file)),
            *("--id", "1", "--cluster", cluster, "--data-dir", str(directory)),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    for place in (-1, -33, -len(saved.read_bytes()) // 2):
        damaged = bytearray(saved.read_bytes())
        damaged[place] ^= 1
        (tmp_path / "damaged").write_bytes(damaged)
        done = restore(tmp_path / "damaged")
        assert (done.returncode, "is no backup, or a damaged one" in done.stderr) == (2, True), done
        assert not directory.exists()
    done = restore(saved)
    assert done.returncode == 0, done.stderr
    with open_node(tmp_path / "second", "--cluster", cluster) as again:
        assert etcdctl(again, "get", "key", "--rev", "2")[1] == "key\none\n"
        assert '"mod_revision":4,"version":3' in etcdctl(again, "get", "key", "-w", "json")[1]
    shutil.rmtree(directory)
