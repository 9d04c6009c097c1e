"""user, role, auth print what etcdctl prints; who asks is in flags, variables or files, or typed."""

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from raftkv_trio.cli.commands import program
from tests.cli.program import DEADLINE_S, PROGRAM, environment_with, typed
from tests.cli.test_keys import common, etcdctl
from tests.etcd.servers import ApiServer, needs_etcd, open_quickly
from tests.etcd.users import ANN, ROOT, add_users
from tests.integration.test_walkthrough import commands

AS_ROOT = ("--user", ":".join(ROOT))
#: Passwords of these tests, none of which may be in any output.
SECRETS = ("root's password", "ann's password", "s3cr3t", "hidden")


def ours(
    server: ApiServer,
    *arguments: str | bytes,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> tuple[int, bytes, str]:
    """Exit code and outputs of one of our commands."""
    variables = {"RAFTKV_TRIO_ENDPOINTS": f"127.0.0.1:{server.port}", **(environment or {})}
    done = subprocess.run(
        [*PROGRAM, *arguments],
        input=stdin,
        capture_output=True,
        timeout=DEADLINE_S,
        env=environment_with(variables),
        check=False,
    )
    errors = done.stderr.decode()
    assert not any(secret in errors for secret in SECRETS), errors
    return done.returncode, done.stdout, errors


#: With what is read from standard input.
COMMANDS: list[tuple[list[str], bytes]] = [
    (["user", "add", "root:hidden"], b""),
    (["user", "add", "ann", "--new-user-password", "hidden"], b""),
    (["user", "add", "bob", "--interactive=false"], b"hidden\n"),
    (["user", "add", "cert", "--no-password", "-w", "json"], b""),
    (["user", "add", "eve:s3cr3t:more", "-w", "fields"], b""),
    (["user", "list"], b""),
    (["user", "list", "-w", "json"], b""),
    (["user", "get", "ann"], b""),
    (["user", "get", "ann", "-w", "json"], b""),
    (["role", "add", "r"], b""),
    (["role", "add", "r2", "-w", "json"], b""),
    (["role", "add", "r3", "-w", "fields"], b""),
    (["role", "list"], b""),
    (["role", "list", "-w", "json"], b""),
    (["role", "list", "-w", "fields"], b""),
    (["role", "grant-permission", "r", "read", "k"], b""),
    (["role", "grant-permission", "r", "write", "w1", "w9", "-w", "json"], b""),
    (["role", "grant-permission", "r", "readwrite", "pre/", "--prefix", "-w", "fields"], b""),
    (["role", "grant-permission", "r", "READWRITE", "from", "--from-key"], b""),
    (["role", "grant-permission", "r", "read", "", "--prefix"], b""),
    (["role", "grant-permission", "r2", "read", "", "--from-key"], b""),
    (["user", "grant-role", "ann", "r"], b""),
    (["user", "grant-role", "ann", "r2", "-w", "json"], b""),
    (["role", "get", "r"], b""),
    (["role", "get", "r", "-w", "json"], b""),
    (["role", "get", "r", "-w", "fields"], b""),
    (["role", "get", "r3"], b""),
    (["user", "get", "ann", "--detail"], b""),
    (["user", "get", "ann", "--detail", "-w", "json"], b""),
    (["role", "revoke-permission", "r", "k"], b""),
    (["role", "revoke-permission", "r", "w1", "w9"], b""),
    (["role", "revoke-permission", "r", "pre/", "--prefix"], b""),
    (["role", "revoke-permission", "r", "from", "--from-key"], b""),
    (["role", "revoke-permission", "r", "", "--prefix", "-w", "json"], b""),
    (["role", "revoke-permission", "r2", "", "--from-key"], b""),
    (["user", "passwd", "ann", "--interactive=false"], b"s3cr3t\n"),
    (["user", "passwd", "ann", "--interactive=false", "-w", "fields"], b"hidden\n"),
    (["user", "revoke-role", "ann", "r"], b""),
    (["user", "revoke-role", "ann", "r2", "-w", "json"], b""),
    (["user", "delete", "bob"], b""),
    (["role", "delete", "r"], b""),
    (["auth", "enable", "--user", "root:hidden"], b""),
    (["user", "get", "root", "--user", "root:hidden"], b""),
    (["role", "list", "--user", "root", "--password", "hidden"], b""),
    (["put", "a", "b", "--user", "root:hidden"], b""),
    (["auth", "disable", "--user", "root:hidden", "-w", "json"], b""),
    (["put", "a", "c"], b""),
]


@needs_etcd
@pytest.mark.parametrize("name", ["etcd", "raftkv-trio"])
def test_the_output_is_that_of_etcdctl(tmp_path: Path, name: str) -> None:
    """Byte for byte, apart from ids and terms. Ours run in this process, since there are so many."""
    runner = CliRunner()
    with open_quickly("etcd", tmp_path / "1") as theirs, open_quickly(name, tmp_path / "2") as server:
        variables = {"RAFTKV_TRIO_ENDPOINTS": f"127.0.0.1:{server.port}"}
        for arguments, stdin in COMMANDS:
            expected = etcdctl(theirs, *arguments, stdin=stdin)
            done = runner.invoke(
                program, arguments, input=stdin, env=variables, standalone_mode=False, catch_exceptions=False
            )
            assert (done.return_value, done.stderr) == (0, ""), arguments
            assert common(done.stdout_bytes) == common(expected), arguments


@needs_etcd
def test_etcdctl_enables_users_of_a_node(tmp_path: Path) -> None:
    """It has asked for its token before it gives root the role root; that token proves root all the same."""
    with open_quickly("raftkv-trio", tmp_path) as server:
        etcdctl(server, "user", "add", "root:hidden")
        assert etcdctl(server, "auth", "enable", "--user", "root:hidden") == b"Authentication Enabled\n"
        assert ours(server, "user", "list")[0] == 2


def test_who_may_enable_users(tmp_path: Path) -> None:
    """Each refusal says what is missing: the user root, a user at all, or root's password."""
    with open_quickly("raftkv-trio", tmp_path) as server:
        etcdctl(server, "user", "add", "ann:hidden")
        etcdctl(server, "role", "add", "a")
        for start, end in (("z", "a"), ("a", "a")):
            empty = ours(server, "role", "grant-permission", "a", "read", start, end)
            assert_refused(empty, "the range is empty: RANGE_END must come after KEY")
            assert "root" not in empty[2]
        for flags, words in (
            ([], "root user does not exist; run `raftkv-trio user add root` first"),
            (["--user", "root:s3cr3t"], "root user does not exist; run"),
        ):
            assert_refused(ours(server, "auth", "enable", *flags), words)
        etcdctl(server, "user", "add", "root:hidden")
        for flags, words in (
            ([], "user name is empty: only who proves to be root"),
            (
                ["--user", "root:hidden", "--password", "hidden"],
                "trio: root has another password, or has not",
            ),
            (
                ["--user", "root:s3cr3t"],
                "trio: root has another password, or has not got the role root; give",
            ),
            (["--user", "ann", "--password", "hidden"], "trio: ann has another password, or has not got"),
        ):
            assert_refused(ours(server, "auth", "enable", *flags), words)
        assert ours(server, "auth", "enable", "--user", "root:hidden")[0] == 0


def assert_refused(done: tuple[int, bytes, str], words: str) -> None:
    """Exit code 2, and one sentence that has these words."""
    code, output, errors = done
    assert (code, output) == (2, b"")
    [line] = errors.splitlines()
    assert words in line


def test_what_etcdctl_does_not_have(users: ApiServer) -> None:
    """Fields of users, tables that are simple text."""
    code, output, _ = ours(users, "user", "get", "ann", "-w", "fields", *AS_ROOT)
    assert (code, output.decode().splitlines()[-1]) == (0, '"Roles" : "a"')
    assert ours(users, "user", "list", "-w", "table", *AS_ROOT)[:2] == (0, b"ann\nroot\n")


@pytest.fixture(scope="module", params=[pytest.param("etcd", marks=needs_etcd)])
def users(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server that checks users."""
    with open_quickly(request.param, tmp_path_factory.mktemp("users")) as running:
        add_users(running)
        yield running


# ---------------------------------------------------------------- who asks


def test_where_the_password_comes_from(users: ApiServer, tmp_path: Path) -> None:
    """The flag --user itself, another flag, a file, or variables; a flag counts more than a variable."""
    name, password = ANN
    file = tmp_path / "password"
    file.write_text(f"{password}\n")
    file.chmod(0o600)
    wrong = {"RAFTKV_TRIO_USER": "root", "RAFTKV_TRIO_PASSWORD": "hidden"}
    for flags, variables in (
        (["--user", f"{name}:{password}"], {}),
        (["--user", name, "--password", password], wrong),
        (["--user", name, "--password-file", str(file)], wrong),
        ([], {"RAFTKV_TRIO_USER": name, "RAFTKV_TRIO_PASSWORD": password}),
        ([], {"RAFTKV_TRIO_USER": name, "RAFTKV_TRIO_PASSWORD_FILE": str(file)}),
        ([], {"RAFTKV_TRIO_USER": f"{name}:{password}"}),
    ):
        assert ours(users, "put", "a/1", "one", *flags, environment=variables) == (0, b"OK\n", ""), flags


NO_USER = "user name is empty: the cluster checks who asks, and no user was given; give --user"
NOT_KNOWN = "etcdserver: authentication failed, invalid user ID or password"
NO_TERMINAL = "there is no password of user ann, and standard input is no terminal"
AS_ANN = ("--user", ":".join(ANN))
WRONG: list[tuple[list[str], dict[str, str], str]] = [
    (["put", "a/1", ""], {}, NO_USER),
    (["lock", "b", *AS_ANN], {}, "etcdserver: permission denied"),
    (
        ["watch", "b", *AS_ANN],
        {},
        "permission denied); what ann may do is told by `raftkv-trio user get ann --detail --user ann`",
    ),
    (["watch", "a/1", "--user", "ann:s3cr3t"], {}, NOT_KNOWN),
    (["get", "a/1", "--user", "ann"], {}, NO_TERMINAL),
    (["get", "a/1", "--password", "s3cr3t"], {}, "--password is the password of a user; give --user too"),
    (["get", "a/1", "--user", "ann", "--password", "s3cr3t", "--password-file", "f"], {}, "give one of them"),
    (["get", "a/1", "--user", "ann", "--password-file", "none"], {}, "--password-file none does not exist"),
    (["get", "a/1", "--user", ":s3cr3t"], {}, "the name of a user is empty"),
    (["lease", "list", "--user", "ann:s3cr3t\udcff"], {}, "the value of --user is not UTF-8"),
    (["lease", "list"], {"RAFTKV_TRIO_PASSWORD": "s3cr3t\udcff"}, "RAFTKV_TRIO_PASSWORD is not UTF-8"),
    (["user", "add", "eve:s3cr3t\udcff", *AS_ROOT], {}, "the password is not UTF-8"),
    (
        ["get", "b", *AS_ANN],
        {},
        "; what ann may do is told by `raftkv-trio user get ann --detail --user ann`",
    ),
    (["user", "add", ":s3cr3t", *AS_ROOT], {}, "the name of the user is empty; give one"),
    (["user", "delete", "root", *AS_ROOT], {}, "its role root and that role stay as long as"),
    (["user", "passwd", "ann", "s3cr3t", *AS_ROOT], {}, "the password is asked for"),
    (["user", "passwd", "ann", *AS_ROOT], {}, "with --interactive=false it is read from standard input"),
    (["user", "passwd", "ann", "--interactive=false", *AS_ROOT], {}, "standard input has no password"),
    (["role", "grant-permission", "a", "read", "", *AS_ROOT], {}, "KEY is empty"),
    (["role", "get", "\udcff", *AS_ROOT], {}, "is not UTF-8"),
]


@pytest.mark.parametrize(("arguments", "variables", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_input(users: ApiServer, arguments: list[str], variables: dict[str, str], words: str) -> None:
    """Exit code 2, one sentence, and no password in it."""
    code, output, errors = ours(users, *arguments, environment=variables)
    assert (code, output) == (2, b"")
    [line] = errors.splitlines()
    assert line.startswith("raftkv-trio: ")
    assert words in line


def test_a_password_file_that_others_can_read(users: ApiServer, tmp_path: Path) -> None:
    """Or that has several lines, or none: it is refused, without its content."""
    file = tmp_path / "password"
    for content, mode, words in (
        ("s3cr3t", 0o644, "can be read or changed by other users"),
        ("s3cr3t\nmore\n", 0o600, "has more than a line"),
        ("\n", 0o600, "has no password"),
    ):
        file.write_text(content)
        file.chmod(mode)
        code, _, errors = ours(users, "get", "a/1", "--user", "ann", "--password-file", str(file))
        assert code == 2
        assert words in errors


# ---------------------------------------------------------------- at a terminal


def typed_to(server: ApiServer, *arguments: str, answers: list[str]) -> tuple[int, str]:
    """What `typed` returns, of a command that asks this server."""
    return typed(
        *arguments, answers=answers, environment={"RAFTKV_TRIO_ENDPOINTS": f"127.0.0.1:{server.port}"}
    )


def test_the_walk_of_the_readme(tmp_path: Path) -> None:
    """Users and roles from nothing to a refusal, word for word; each password is asked for."""
    with open_quickly("raftkv-trio", tmp_path) as server:
        answers = [["root's"] * 2, ["ann's"] * 2, [], [], [], ["root's"], ["ann's"], ["ann's"]]
        for line, typed_lines in zip(commands("users"), answers, strict=True):
            program_name, *arguments = shlex.split(line, comments=True)
            assert program_name == "raftkv-trio"
            code, shown = typed_to(server, *arguments, answers=typed_lines)
            assert typed_lines == []
            told = line.partition("#")[2].strip()
            assert told in shown or told.startswith("asks for"), line
            assert code == (2 if "denied" in told else 0), shown


def test_passwords_at_a_terminal(users: ApiServer) -> None:
    """They are asked for, and not shown; new ones twice."""
    name, password = ANN
    code, shown = typed_to(users, "put", "a/1", "one", "--user", name, answers=[password])
    assert (code, shown) == (0, "Password: <typed>\nOK\n")
    again = "Type password of new again for confirmation: <typed>\n"
    code, shown = typed_to(users, "user", "add", "new", *AS_ROOT, answers=["s3cr3t", "s3cr3t"])
    assert (code, shown) == (0, f"Password of new: <typed>\n{again}User new created\n")
    code, shown = typed_to(users, "user", "passwd", "new", *AS_ROOT, answers=["s3cr3t", "another"])
    assert code == 2
    assert shown.endswith("raftkv-trio: the passwords are different; type the same one twice\n")
    code, shown = typed_to(users, "user", "passwd", "new", *AS_ROOT, answers=[""])
    assert code == 2
    assert shown.endswith("raftkv-trio: the password is empty; type one\n")
    assert ours(users, "user", "delete", "new", *AS_ROOT)[0] == 0
