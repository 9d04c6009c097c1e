"""PostgreSQL and Patroni as they are installed for the tests, and the user that they run as."""

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INSTALL_S = 300.0
#: Patroni speaks to etcd by code of its own over urllib3, and to PostgreSQL by psycopg.
REQUIREMENTS = ("patroni[etcd3]>=4.1,<4.2", "psycopg[binary]>=3.2,<4")
PROGRAMS = Path("/usr/lib/postgresql/15/bin")


def user() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as, since it refuses to be root; None if the tests are not root either."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def as_user() -> Mapping[str, Any]:
    """Arguments of Popen that drop root's privileges."""
    whom = user()
    return {} if whom is None else {"user": whom.pw_uid, "group": whom.pw_gid, "extra_groups": []}


def environment(packages: Path | None = None) -> Mapping[str, str]:
    """The variables of all processes: none of ours reaches Patroni, and none of libpq."""
    variables = {
        "PATH": f"{PROGRAMS}:{os.defpath}",
        "LC_ALL": "C.UTF-8",
        "HOME": "/",
        "PYTHONUNBUFFERED": "1",
    }
    return variables if packages is None else {**variables, "PYTHONPATH": str(packages)}


def find_python() -> str | None:
    """A Python that the user can run: root's own are often out of reach for others. None if there is none."""
    for python in (sys.executable, "/usr/bin/python3"):
        command = [python, "-c", "import sys, ssl; assert sys.version_info >= (3, 9)"]
        try:
            subprocess.run(command, **as_user(), cwd="/", env=environment(), capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return None


def why_not() -> str | None:
    """Why Patroni cannot run here; None if it can."""
    if not (PROGRAMS / "postgres").exists():
        return "PostgreSQL 15 is not installed (Debian: apt-get install postgresql-15)"
    if find_python() is None:
        return "the user for PostgreSQL can run no Python (Debian: apt-get install python3)"
    return None


def install_patroni(into: Path) -> None:
    """Install Patroni for the Python that `find_python` names, with this one's pip."""
    command = [sys.executable, "-m", "pip", "--python", str(find_python()), "install", "--quiet"]
    command += ["--target", str(into), *REQUIREMENTS]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    assert installed.returncode == 0, installed.stderr
