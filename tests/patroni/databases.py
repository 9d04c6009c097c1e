"""Two PostgreSQL servers, each with its Patroni, which run as a user without privileges."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import find_free_ports
from tests.patroni.installed import PROGRAMS, as_user, environment, find_python, user

PATIENCE_S = 120.0
POLL_S = 0.1
HOST = "127.0.0.1"
SCOPE = "tested"

#: What Patroni keeps in the cluster's state. It raises ttl to 20 s, the least that it allows. The least
#: retry_timeout is 3 s, and the least loop_wait 1 s.
SETTINGS = {
    "ttl": 10,
    "loop_wait": 1,
    "retry_timeout": 3,
    "synchronous_mode": True,
    "postgresql": {
        "use_pg_rewind": True,
        "parameters": {"shared_buffers": "16MB", "max_connections": 40, "wal_log_hints": "on"},
    },
}


class Database:
    """A PostgreSQL server and its Patroni, over restarts.

    Attributes:
        name: as Patroni knows it.
        port: of PostgreSQL.
        log: what Patroni has said.
    """

    def __init__(self, directory: Path, packages: Path, name: str, coordinators: Sequence[str]) -> None:
        self._packages = packages
        self.name = name
        self.port, self._rest_port = find_free_ports(2)
        self.log = directory / f"{name}.log"
        self._data = directory / name
        self._config = directory / f"{name}.json"
        self._patroni: subprocess.Popen[bytes] | None = None
        self._write_config(directory, coordinators)

    def _write_config(self, directory: Path, coordinators: Sequence[str]) -> None:
        trusted = [
            "local all all trust",
            f"host all all {HOST}/32 trust",
            f"host replication all {HOST}/32 trust",
        ]
        config = {
            "scope": SCOPE,
            "name": self.name,
            "restapi": {
                "listen": f"{HOST}:{self._rest_port}",
                "connect_address": f"{HOST}:{self._rest_port}",
            },
            "etcd3": {"hosts": list(coordinators)},
            "bootstrap": {"dcs": SETTINGS, "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}]},
            "postgresql": {
                "listen": f"{HOST}:{self.port}",
                "connect_address": f"{HOST}:{self.port}",
                "data_dir": str(self._data),
                "bin_dir": str(PROGRAMS),
                "pgpass": str(directory / f"{self.name}.pgpass"),
                "pg_hba": trusted,
                "parameters": {"unix_socket_directories": str(directory)},
                "authentication": {
                    "superuser": {"username": "postgres", "password": "-"},
                    "replication": {"username": "replicator", "password": "-"},
                    "rewind": {"username": "rewinder", "password": "-"},
                },
            },
        }
        self._config.write_text(json.dumps(config))  # which is YAML too
        self._config.chmod(0o644)

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        with self.log.open("ab") as log:
            self._patroni = subprocess.Popen(
                [str(find_python()), "-m", "patroni", str(self._config)],
                cwd=self._config.parent,
                env=environment(self._packages),
                stdout=log,
                stderr=log,
                **as_user(),
            )

    def kill(self) -> None:
        """SIGKILL to Patroni and to all processes of PostgreSQL at once, and wait for their end."""
        assert self._patroni is not None
        postmaster = self._postmaster()
        self._patroni.kill()
        children = [
            pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == postmaster
        ]
        for pid in [postmaster, *children]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended since it was listed
        self._patroni.wait(PATIENCE_S)
        self._patroni = None
        deadline = time.monotonic() + PATIENCE_S
        while any(_parent(pid) is not None for pid in [postmaster, *children]):
            assert time.monotonic() < deadline, f"processes of {self.name} go on"
            time.sleep(POLL_S)

    def _postmaster(self) -> int:
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    def stop(self) -> None:
        """End Patroni, which ends PostgreSQL."""
        if self._patroni is not None:
            self._patroni.terminate()
            try:
                self._patroni.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def state(self) -> Mapping[str, Any]:
        """What Patroni says of itself; empty if it does not answer."""
        try:
            return dict(httpx.get(f"http://{HOST}:{self._rest_port}/patroni", timeout=PATIENCE_S).json())
        except httpx.TransportError:
            return {}

    @property
    def is_primary(self) -> bool:
        state = self.state()
        return (state.get("role"), state.get("state")) == ("primary", "running")

    def run_sql(self, sql: str, timeout_s: float) -> str | None:
        """Run a statement in a session of its own; returns what it prints, None if it did not succeed.

        After None it may have been committed all the same. The session is killed after `timeout_s`, and not
        cancelled: PostgreSQL reports a commit whose wait for the standby was cancelled as a success.
        """
        command = [
            *(str(PROGRAMS / "psql"), "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", HOST),
            *("-p", str(self.port), "-U", "postgres", "-d", "postgres", "-c", sql),
        ]
        try:
            done = subprocess.run(
                command, env=environment(), capture_output=True, text=True, timeout=timeout_s, cwd="/"
            )
        except subprocess.TimeoutExpired:
            return None
        # A warning tells of a commit that did not wait for the standby.
        return done.stdout.strip() if done.returncode == 0 and not done.stderr else None


def _parent(pid: int) -> int | None:
    """The parent of a process; None if there is no such process, or only its exit code is left of it."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(parent)


class Pair:
    """Two databases in a directory of their own, of which one follows the other."""

    def __init__(self, directory: Path, packages: Path, coordinators: Sequence[str]) -> None:
        whom = user()
        if whom is not None:
            shutil.chown(directory, whom.pw_uid, whom.pw_gid)
        self.both = [Database(directory, packages, name, coordinators) for name in ("a", "b")]

    def start(self) -> None:
        for database in self.both:
            database.start()

    def stop(self) -> None:
        for database in self.both:
            database.stop()

    def primary(self) -> Database:
        """The primary, once the other one streams from it and is its synchronous standby."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for primary, standby in (self.both, self.both[::-1]):
                if primary.is_primary and standby.state().get("sync_standby"):
                    query = "select count(*) from pg_stat_replication where sync_state = 'sync'"
                    if primary.run_sql(query, PATIENCE_S) == "1":
                        return primary
            time.sleep(POLL_S)
        raise AssertionError(f"no synchronous standby: {[database.state() for database in self.both]}")

    def wait_seen(self, time_s: float) -> None:
        """Return when each Patroni has read the cluster's state after this time of day."""
        deadline = time.monotonic() + PATIENCE_S
        while any(database.state().get("dcs_last_seen", 0) <= time_s for database in self.both):
            assert time.monotonic() < deadline, "Patroni does not reach the cluster's state"
            time.sleep(POLL_S)
