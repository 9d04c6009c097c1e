"""The limit of open files is raised for clients; if it cannot be raised, fewer clients are allowed."""

import subprocess
import sys

import pytest

PROGRAM = """\
import resource, sys
from raftkv_trio.cli.open_files import make_room_for_clients
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(make_room_for_clients(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def make_room(soft: int, hard: int, wanted: int) -> subprocess.CompletedProcess[str]:
    arguments = [str(n) for n in (soft, hard, wanted)]
    return subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed", "soft_after"),
    [
        (4000, 4000, 2000, 2000, 4000),
        (1024, 4000, 2000, 2000, 2200),
        (1024, 2200, 2000, 2000, 2200),
        (1024, 2199, 2000, 1999, 2199),
        (1024, 1024, 2000, 824, 1024),
        (201, 201, 2000, 1, 201),
    ],
)
def test_room(soft: int, hard: int, wanted: int, allowed: int, soft_after: int) -> None:
    """The soft limit grows to what is needed and no further; a hard limit decides, with a warning."""
    done = make_room(soft, hard, wanted)
    assert done.stdout == f"{allowed} {soft_after}\n"
    assert ("clients can connect at once" in done.stderr) == (allowed < wanted)


def test_no_room() -> None:
    """A limit that leaves none for clients is an error that names it."""
    assert "only 200 files may be open at once" in make_room(200, 200, 2000).stderr
