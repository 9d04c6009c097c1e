"""A program around `run_node` speaks TLS with what is public."""

import subprocess
import sys
from pathlib import Path

from tests.cli.program import run

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


def counter(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "counter_over_tls.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={"PYTHONPATH": str(ROOT)},
    )


def test_the_counter_over_tls(tmp_path: Path) -> None:
    """It counts with the certificates that the commands of docs/embedding.md make, and says what it lacks."""
    done = counter(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot read `peer_cert_file` certs/node-1.crt" in done.stderr
    assert "Traceback" not in done.stderr
    page = (ROOT / "docs" / "embedding.md").read_text()
    (init,) = [line.split()[1:] for line in page.splitlines() if "raftkv-trio cert init" in line]
    assert run(*init, directory=tmp_path).returncode == 0
    for node_id in ("1", "2", "3"):
        assert run("cert", "node", node_id, "127.0.0.1", directory=tmp_path).returncode == 0
    done = counter(tmp_path)
    assert (done.returncode, done.stdout) == (0, "2 42\n"), done.stderr
    assert counter(tmp_path).stdout == "44 84\n"
    (tmp_path / "certs" / "node-2.crt").unlink()
    assert "cannot read `peer_cert_file` certs/node-2.crt" in counter(tmp_path).stderr
