"""Where a run was made: without it no figure means anything."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.processes import ROOT
from raftkv_trio import __version__

_PACKAGES = ("trio", "httptools", "cbor2", "pysyncobj")


def describe(directory: Path) -> dict[str, str]:
    """What a reader must know, by name. `directory` is where the data of all contestants is."""
    return {
        "raftkv-trio": f"{__version__}, commit {_commit()}",
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load before": _load(),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(directory),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "etcd": _first_line("etcd", "--version"),
        "wrk": _first_line("wrk", "--version"),
    }


def _load() -> str:
    """How busy the machine was. A thread that waits for a processor makes its disk call look slow."""
    load = " ".join(f"{load:.2f}" for load in os.getloadavg())
    is_busy = os.getloadavg()[0] > len(os.sched_getaffinity(0)) / 2
    return f"{load}; the machine was busy, so the figures say little" if is_busy else load


def _commit() -> str:
    """The short hash of the checkout, with a plus if files differ from it, except documents.

    A run that is made in pieces writes into a document, which changes nothing that is measured.
    """
    commit = _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changed = _output(
        "git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"
    )
    return f"{commit}{'+' if changed else ''}" if commit else "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(directory: Path) -> str:
    """The type of the file system that a directory is on: that of the longest mount point above it."""
    path = directory.resolve()
    found = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount_point, kind, *_ = line.split()
        if path.is_relative_to(mount_point) and len(mount_point) >= len(found[0]):
            found = (mount_point, kind)
    return found[1]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"


def _first_line(program: str, flag: str) -> str:
    return _output(program, flag).partition("\n")[0] if shutil.which(program) else "not installed"


def _output(*command: str) -> str:
    # wrk --version ends with 1, and says it all the same.
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
