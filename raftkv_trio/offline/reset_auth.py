"""`raftkv-trio auth reset`: nobody can prove to be root any more, so users are to be checked no longer.

All members must have the same users, and whether they are checked is part of the state, which only entries of
the log change. So a directory is not changed by itself. It only gets a note, and the node that starts on it
proposes the change, as the server itself, when there is a leader (`access/resetting.py`).

The note names the auth revision that the directory holds. If users have changed since, the change is refused:
a note that is found late undoes nothing, and none has an effect twice.
"""

from pathlib import Path
from random import SystemRandom
from typing import NamedTuple

from raftkv_trio.errors import ConfigError
from raftkv_trio.kv import ROOT
from raftkv_trio.offline.replay import replay
from raftkv_trio.storage import BOOTSTRAP_INDEX, Disk, OsDisk, is_new, open_storage
from raftkv_trio.storage.data_directory import check_writers
from raftkv_trio.storage.small_files import read_identity, write_auth_reset


class Reset(NamedTuple):
    """What the directory has been asked for.

    Attributes:
        revision: of auth.
        roots: the users with the role root.
    """

    node_id: int
    revision: int
    roots: tuple[str, ...]


def reset_auth(directory: Path, *, disk: Disk | None = None) -> Reset:
    """Ask the node of a stopped member's directory to disable authentication when it runs again.

    Raises:
        ConfigError: the directory is in use, is not that of a member that has run, or is writable for every
            user; or authentication is not enabled in what it holds.
        StorageError, OSError: the directory cannot be read or written.
    """
    disk = disk or OsDisk()
    if is_new(disk, directory):
        raise ConfigError(f"{directory} is no data directory of a node that has run")
    check_writers(disk, directory)
    node_id = read_identity(disk, directory).node_id
    # Opened as at a start: locked, verified, and refused if any of it is damaged.
    storage = open_storage(disk, directory, node_id=node_id, bootstrap=None, rng=SystemRandom())
    try:
        machine, _, own, meta, _ = replay(storage)
        if meta.index < BOOTSTRAP_INDEX or own is None:
            raise ConfigError(f"{directory} is of no member of a cluster; take the directory of one")
        auth = machine.auth
        if not auth.is_enabled:
            raise ConfigError(f"{directory}: authentication is not enabled there; there is nothing to reset")
        write_auth_reset(disk, directory, auth.revision)
        roots = tuple([name for name, user in auth.users.items() if ROOT in user.roles])
        return Reset(node_id, auth.revision, roots)
    finally:
        storage.close(clean=True)
