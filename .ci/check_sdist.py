"""Builds an sdist from the files that git tracks, and checks that it holds them all and nothing else.

Run in the root of a clone, with setuptools installed: python .ci/check_sdist.py
"""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

BUILD = "from setuptools import build_meta; build_meta.build_sdist('dist')"
#: What the build adds.
MADE = {"PKG-INFO", "setup.cfg"}


def tracked_files(root: Path) -> list[str]:
    """All tracked files that are there; deleted files are tracked until the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, stdout=subprocess.PIPE, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]


def sdist_files(root: Path) -> set[str]:
    """The files of an sdist that is built in `root`."""
    built = subprocess.run([sys.executable, "-c", BUILD], cwd=root, capture_output=True, text=True)
    if built.returncode:
        raise SystemExit(f"the sdist cannot be built:\n{built.stderr}")
    (archive,) = (root / "dist").iterdir()
    with tarfile.open(archive) as sdist:
        names = [member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()]
    return {name for name in names if name not in MADE and ".egg-info/" not in name}


def main() -> int:
    """Say what is missing and what should not be there; the exit code is 1 if anything is."""
    root = Path(__file__).parents[1]
    tracked = tracked_files(root)
    with TemporaryDirectory() as directory:
        for name in tracked:
            copy = Path(directory, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, copy)
        built = sdist_files(Path(directory))
    missing, foreign = sorted(set(tracked) - built), sorted(built - set(tracked))
    for name in missing:
        print(f"{name} is tracked by git and missing in the sdist; add it to MANIFEST.in", file=sys.stderr)
    for name in foreign:
        print(f"{name} is in the sdist and not tracked by git; exclude it in MANIFEST.in", file=sys.stderr)
    print(f"the sdist has {len(built)} files, and git tracks {len(tracked)}")
    return 1 if missing or foreign else 0


if __name__ == "__main__":
    sys.exit(main())
