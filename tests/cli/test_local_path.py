"""`local start` finds its own program, wherever it is installed and whatever PATH says."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_without_its_program_in_path(tmp_path: Path) -> None:
    """An interpreter without a script of ours, as after `pip install --user`, finds the program."""
    (tmp_path / "Procfile").write_text("node: exec raftkv-trio --version\n")
    python = sys._base_executable  # type: ignore[attr-defined]  # that of the virtual environment has the script
    libraries = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    done = subprocess.run(
        [python, "-m", "raftkv_trio", "local", "start"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(libraries)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "node  | raftkv-trio " in done.stdout
