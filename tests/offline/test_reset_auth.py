"""Users in a stopped directory: they go wherever its state goes, and `auth reset` looks at them."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from raftkv_trio.cli.auth.commands import auth as auth_command
from raftkv_trio.errors import ConfigError
from raftkv_trio.kv import (
    ROOT,
    Actor,
    AddRole,
    AddUser,
    Auth,
    AuthCommand,
    DisableAuth,
    EnableAuth,
    GrantRole,
    Store,
    encode_command,
)
from raftkv_trio.node.recovery import open_directory
from raftkv_trio.offline.force_new_cluster import force_new_cluster
from raftkv_trio.offline.inspection import inspect_directory
from raftkv_trio.offline.replay import replay
from raftkv_trio.offline.report import as_json, as_text
from raftkv_trio.offline.reset_auth import reset_auth
from raftkv_trio.offline.restore import restore_node
from raftkv_trio.payload.envelope import Envelope
from raftkv_trio.payload.levels import AUTH
from raftkv_trio.payload.proposal import ProposalId, encode_proposal
from raftkv_trio.raft.types import Entry, HardState
from raftkv_trio.storage import OsDisk
from raftkv_trio.storage.small_files import AUTH_RESET, read_auth_reset, remove_auth_reset
from tests.offline.test_feature_levels import MEMBERS, META, config

SOMEBODY = Actor(ROOT, 4)
BEGIN: list[AuthCommand] = [
    AddUser(ROOT, b"record"),
    AddUser("ann", None),
    GrantRole(ROOT, ROOT),
    EnableAuth(),
]


def made(path: Path, commands: Sequence[AuthCommand] = ()) -> Path:
    """A directory with users in its snapshot, authentication enabled, and these commands in its log."""
    storage = open_directory(OsDisk(), config(path), random.Random(1))
    store = Store()
    for command in BEGIN:
        store.run_auth_command(command)
    file = storage.begin_snapshot(META, Envelope.of(MEMBERS, level=AUTH, since=3).encode())
    file.write(list(store.snapshot()))
    file.finish()
    storage.continue_from(META)
    entries = [
        Entry(1, at, data=encode_proposal(ProposalId(1, 1, at), encode_command(command, SOMEBODY)))
        for at, command in enumerate(commands, META.index + 1)
    ]
    storage.append(HardState(1, 1, META.index + len(entries)), entries)
    storage.close(clean=True)
    return path


def auth_of(path: Path) -> Auth:
    storage = open_directory(OsDisk(), config(path), random.Random(1))
    try:
        return replay(storage)[0].auth
    finally:
        storage.close(clean=True)


def test_users_go_where_the_state_goes(tmp_path: Path) -> None:
    """Into a directory that is restored from a backup, and into that of a forced cluster, with its log."""
    old = made(tmp_path / "old", [AddRole("reader")])
    restore_node(config(tmp_path / "restored"), old / "snap" / META.id.file_name)
    force_new_cluster(old, tmp_path / "forced")
    for name, revision in (("restored", 4), ("forced", 5)):
        auth = auth_of(tmp_path / name)
        assert (auth.is_enabled, auth.revision, list(auth.users)) == (True, revision, ["ann", ROOT])


def test_a_reset_notes_the_revision_that_the_log_leaves(tmp_path: Path) -> None:
    """So that the server's entry fits the users that there are. A second call notes the same."""
    path = made(tmp_path / "data", [AddRole("reader"), GrantRole("ann", ROOT)])
    assert auth_of(path).is_enabled
    for _ in range(2):
        assert reset_auth(path) == (1, 6, ("ann", ROOT))
        assert read_auth_reset(OsDisk(), path) == 6
    assert auth_of(path).is_enabled  # nothing else has changed
    for _ in range(2):
        remove_auth_reset(OsDisk(), path)
        assert not (path / AUTH_RESET).exists()


def test_names_of_users_do_not_drive_the_terminal(tmp_path: Path) -> None:
    """Whoever was root for a moment may have added any."""
    path = made(tmp_path / "data", [AddUser("\x1b[2J\n", None), GrantRole("\x1b[2J\n", ROOT)])
    answer = CliRunner().invoke(auth_command, ["reset", str(path), "--yes"])
    assert answer.exit_code == 0
    assert r"users with the role root: \x1b[2J\n, root" in answer.stdout


def test_a_check_tells_of_a_reset(tmp_path: Path) -> None:
    """And of one that is damaged, which keeps the node from a start: it must not take another for it."""
    path = made(tmp_path / "data")
    reset_auth(path)
    found = inspect_directory(path, repairs=False, machine=Store())
    assert "its next start disables authentication, if it is still at auth revision 4" in as_text(found)
    assert json.loads(as_json(found))["auth_reset"] == 4
    note = path / AUTH_RESET
    note.write_bytes(note.read_bytes()[:-1] + b"\5")
    (problem,) = inspect_directory(path, repairs=False).findings.problems
    assert (problem.file, problem.what) == (note, "does not verify")


def test_what_is_not_enabled_is_not_reset(tmp_path: Path) -> None:
    """It may be that another member knows more; the sentence names the directory."""
    path = made(tmp_path / "data", [DisableAuth()])
    with pytest.raises(ConfigError, match="data: authentication is not enabled there"):
        reset_auth(path)
    assert read_auth_reset(OsDisk(), path) is None
    (tmp_path / "new").mkdir()
    with pytest.raises(ConfigError, match="no data directory"):
        reset_auth(tmp_path / "new")
    storage = open_directory(OsDisk(), config(path), random.Random(1))
    with pytest.raises(ConfigError, match="in use"):
        reset_auth(path)
    storage.close(clean=True)
