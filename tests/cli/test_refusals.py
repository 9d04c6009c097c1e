"""What cannot be done as it was asked: exit code 2 and one line that says what is wrong, and no traceback."""

import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from signal import SIGINT

import click
import pytest

from raftkv_trio.cli.exit_codes import usage_sentence
from raftkv_trio.cli.serve import serve
from raftkv_trio.cli.shared_flags import variable_of
from tests.cli.program import refusal, run, serving

THREE = ("--cluster", "http://127.0.0.1:1,http://127.0.0.1:2,http://127.0.0.1:3")
FORM = "is not of the form http://host:port"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--id", "0"], "node id '0' is not a positive integer below 2**63"),
        (["--id", "-1"], "node id '-1' is not a positive integer below 2**63"),
        (["--id", "one"], "node id 'one' is not a positive integer below 2**63"),
        (["--id", ""], "node id '' is not a positive integer below 2**63"),
        (["--id", str(2**63)], f"node id '{2**63}' is not a positive integer below 2**63"),
        (["--id", "4", *THREE], "--id 4 is not in --cluster, which names 1, 2, 3"),
        (["--cluster", ""], "--cluster is empty; name at least one peer URL such as http://127.0.0.1:9021"),
        (
            ["--cluster", "http://a:1,,http://b:2"],
            "--cluster has an empty entry; it would shift the ids, which are the positions",
        ),
        (["--cluster", "http://a"], f"peer URL 'http://a' {FORM}"),
        (["--cluster", "http://:1"], f"peer URL 'http://:1' {FORM}"),
        (["--cluster", "http://a:0"], f"peer URL 'http://a:0' {FORM}"),
        (["--cluster", "http://a:1/path"], f"peer URL 'http://a:1/path' {FORM}"),
        (["--cluster", "http://a:1?"], f"peer URL 'http://a:1?' {FORM}"),
        (["--cluster", "http://a b:1"], f"peer URL 'http://a b:1' {FORM}"),
        (["--cluster", "http://u@a:1"], f"peer URL 'http://u@a:1' {FORM}"),
        (["--cluster", "http://a\nb:1"], f"peer URL 'http://a\\nb:1' {FORM}"),
        (["--cluster", "http://\x1b[31m:1"], None),
        (["--cluster", "http://" + "a" * 64 + ":1"], None),
        (
            ["--cluster", "http://a:65536"],
            "peer URL 'http://a:65536' is malformed (Port out of range 0-65535); write http://host:port",
        ),
        (["--cluster", "http://a:b"], None),
        (["--cluster", "http://[::1:1"], None),
        (
            ["--cluster", "127.0.0.1:9021"],
            "peer URL '127.0.0.1:9021' does not begin with http://, https:// or tcp://; write http://127.0.0.1:9021",
        ),
        (
            ["--cluster", "ftp://a:1"],
            "peer URL 'ftp://a:1' does not begin with http://, https:// or tcp://; write http://host:port",
        ),
        (
            ["--cluster", "https://a:1"],
            "--cluster has a URL with https://, and there is no certificate for peers; name it with"
            " --peer-cert-file, --peer-key-file and --peer-trusted-ca-file, or write http://",
        ),
        (["--cluster", "http://a:1,http://b:1,tcp://a:1"], "--cluster names http://a:1 twice"),
        (["--cluster", "1=http://a:1,1=http://b:1"], "--cluster names id 1 twice"),
        (["--cluster", "0=http://a:1"], "node id '0' is not a positive integer below 2**63"),
        (
            ["--cluster", "1=http://a:1,http://b:1"],
            "--cluster mixes plain URLs and id=url pairs; use one form for all",
        ),
        (["--port", "65536"], "--port 65536 is not a TCP port; use 0 to 65535"),
        (["--port", "-1"], "--port -1 is not a TCP port; use 0 to 65535"),
        (["--port", "http"], None),
        (["--request-timeout", "0"], "--request-timeout must be positive"),
        (["--request-timeout", "nan"], "--request-timeout must be positive"),
        (["--heartbeat-interval", "0"], "--heartbeat-interval must be at least 1"),
        (
            ["--heartbeat-interval", "201"],
            "--election-timeout 1000 must be at least 5 times --heartbeat-interval 201",
        ),
        (
            ["--election-timeout", "499"],
            "--election-timeout 499 must be at least 5 times --heartbeat-interval 100",
        ),
        (["--election-timeout", "50001"], "--election-timeout must be at most 50000"),
        (["--listen-peer", "9021"], "--listen-peer '9021' is not of the form host:port"),
        (["--listen-peer", "http://a"], f"--listen-peer 'http://a' {FORM}"),
        (["--advertise-client", "http://a:1/b"], f"--advertise-client 'http://a:1/b' {FORM}"),
        (["--send-timeout", "-1"], "--send-timeout must be positive"),
        (["--max-header-size", "255"], "--max-header-size must be at least 256"),
        (["--max-value-size", "-1"], "--max-value-size must be at least 0"),
        (["--max-value-size", "2080769"], "--max-value-size must be at most 2080768"),
        (["--max-receiving-size", "1000"], "--max-receiving-size must be at least 1572864"),
        (["--max-connections", "0"], "--max-connections must be at least 1"),
        (
            ["--join"],
            "--join needs the peer URL of a member in --cluster, beside this node's own",
        ),
        (["--log-level", "loud"], None),
        (["--peers"], None),
        (["--port"], None),
        (["9021"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_that_do_not_fit(tmp_path: Path, arguments: Sequence[str], sentence: str | None) -> None:
    """Nothing is started or made on disk, and the line names the value, maybe in a library's words (None)."""
    said = refusal("serve", *arguments, directory=tmp_path)
    assert said == sentence if sentence else repr(arguments[-1])[1:-1] in said
    assert said.isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing command; see raftkv-trio --help"),
        (["swerve"], "No such command 'swerve'.* see raftkv-trio --help"),
        (["local"], "Missing command; see raftkv-trio local --help"),
        (["member"], "Missing command; see raftkv-trio member --help"),
        (["lease"], "Missing command; see raftkv-trio lease --help"),
        (["status", "--endpoint", "foo"], "--endpoint 'foo' is not of the form host:port"),
        (["backup", "--endpoint", "foo", "file"], "--endpoint 'foo' is not of the form host:port"),
        (["member", "list", "--endpoint", "a:1,"], "--endpoint '' is not of the form host:port"),
        (["local", "run"], "Missing argument .* see raftkv-trio local run --help"),
        (["local", "run", "halt"], "Invalid value .*'halt'.* see raftkv-trio local run --help"),
        (["local", "start", "raftkv4"], "no process is named 'raftkv4'; the Procfile names raftkv1"),
        (["local", "start", "-f", "none"], "cannot read none: No such file or directory; name another .*"),
        (["local", "start", "-f", "bad"], "line 1 of the Procfile is not of the form name: command"),
        (["local", "start", "-f", "empty"], "the Procfile names no process"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_that_do_not_fit(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """A command, a name or a Procfile that is not there."""
    (tmp_path / "Procfile").write_text("raftkv1: exit 3\n")
    (tmp_path / "bad").write_text("raftkv1 exit 3\n")
    (tmp_path / "empty").write_text("\n")
    assert re.fullmatch(sentence, refusal(*arguments, directory=tmp_path))


def test_a_local_cluster_that_does_not_run(tmp_path: Path) -> None:
    """`local run` without `local start` is a failure, code 1, and says what to do."""
    said = refusal("local", "run", "list", directory=tmp_path, exit_code=1)
    assert said == f"no local cluster is running from {tmp_path}; start one with raftkv-trio local start"


def test_the_environment_is_refused_alike(tmp_path: Path) -> None:
    """A bad value of a variable is refused like that of its flag."""
    said = refusal("serve", directory=tmp_path, environment={"RAFTKV_TRIO_ID": "0"})
    assert said == "node id '0' is not a positive integer below 2**63"
    said = refusal("serve", *THREE, directory=tmp_path, environment={"RAFTKV_TRIO_ID": "4"})
    assert said == "RAFTKV_TRIO_ID 4 is not in --cluster, which names 1, 2, 3"
    said = refusal("serve", *THREE, "--id=4", directory=tmp_path, environment={"RAFTKV_TRIO_ID": "1"})
    assert said == "--id 4 is not in --cluster, which names 1, 2, 3"
    said = refusal("serve", directory=tmp_path, environment={"RAFTKV_TRIO_PORT": "http"})
    assert "'http' is not a valid integer (from RAFTKV_TRIO_PORT); see raftkv-trio serve --help" in said


@pytest.mark.parametrize(
    "option",
    [o for o in serve.params if not isinstance(o.type, click.types.StringParamType | click.Path)],
    ids=lambda option: option.opts[0],
)
def test_a_variable_is_called_by_its_name(option: click.Option, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error about a variable names the variable that was set, and not one that does not exist."""
    name = variable_of(option.opts[0])
    monkeypatch.setenv(name, "nonsense")
    with pytest.raises(click.UsageError) as raised:
        serve.make_context("serve", [])
    assert f"(from {name})" in usage_sentence(raised.value)


def test_an_empty_variable_is_not_blamed(tmp_path: Path) -> None:
    """An empty variable counts as unset, and so does Kubernetes' RAFTKV_TRIO_PORT: the flag is named."""
    for value in ("", "tcp://10.96.0.12:9121"):
        said = refusal(
            "serve",
            "--cluster",
            "http://127.0.0.1:9121",
            "--log-level",
            "error",
            directory=tmp_path,
            environment={"RAFTKV_TRIO_PORT": value},
        )
        assert said.startswith("--port 9121 is the port for peers too")


@pytest.mark.parametrize(
    "arguments",
    [["serve", "--cluster-token"], ["serve", "--cluster"], ["status", "--endpoint"], ["check"], []],
)
def test_arguments_are_utf_8(tmp_path: Path, arguments: list[str]) -> None:
    """An argument that is not UTF-8 is a wrong request, and no bug."""
    said = refusal(*arguments, os.fsdecode(b"caf\xe9"), directory=tmp_path)
    assert said == r"argument b'caf\xe9' is not UTF-8; write it in UTF-8"
    assert list(tmp_path.iterdir()) == []


def test_variables_are_utf_8(tmp_path: Path) -> None:
    """Likewise a variable of ours; other programs' variables do not matter."""
    bad = os.fsdecode(b"caf\xe9")
    said = refusal("serve", directory=tmp_path, environment={"RAFTKV_TRIO_CLUSTER_TOKEN": bad})
    assert said == r"the variable RAFTKV_TRIO_CLUSTER_TOKEN, b'caf\xe9', is not UTF-8; write it in UTF-8"
    assert run("--version", directory=tmp_path, environment={"OTHER": bad}).returncode == 0


# ------------------------------------------------------------ addresses


@pytest.fixture
def alone(free_ports: Callable[[int], list[int]]) -> list[str]:
    """Arguments of a cluster of one whose ports are free."""
    peer_port, port = free_ports(2)
    return ["--cluster", f"http://127.0.0.1:{peer_port}", "--port", str(port)]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_rest_port_is_in_use(tmp_path: Path, alone: list[str], taken: int) -> None:
    """It is said which port, and no data directory is made."""
    assert refusal("serve", *alone[:2], "--port", str(taken), directory=tmp_path) == (
        f"cannot listen for clients on 127.0.0.1, port {taken}: Address already in use;"
        " choose another --host or --port"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_peer_port_is_in_use(tmp_path: Path, alone: list[str], taken: int) -> None:
    """It is said which address."""
    said = refusal("serve", *alone, "--listen-peer", f"127.0.0.1:{taken}", directory=tmp_path)
    assert said == (
        f"cannot listen for peers at 127.0.0.1:{taken}: Address already in use;"
        " free that address, or name another with --listen-peer"
    )
    assert list(tmp_path.iterdir()) == [], "a directory would remember this --cluster"


def test_one_port_for_peers_and_clients(tmp_path: Path, alone: list[str]) -> None:
    """The error names the two flags, instead of a port that another program uses."""
    port = alone[1].rpartition(":")[2]
    assert refusal("serve", *alone[:2], "--port", port, directory=tmp_path) == (
        f"--port {port} is the port for peers too; choose another for clients"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid", "a" * 64])
def test_addresses_that_are_not_ours(tmp_path: Path, alone: list[str], host: str) -> None:
    """Neither port can be bound at a foreign address or an unknown name."""
    said = refusal("serve", *alone, "--host", host, "--insecure", directory=tmp_path)
    assert said.startswith(f"cannot listen for clients on {host}, port ")
    said = refusal("serve", *alone, "--listen-peer", f"{host}:1", directory=tmp_path)
    assert said.startswith(("cannot listen for peers at", "--listen-peer '"))


# ------------------------------------------------------------ peers


def test_peers_that_are_not_there_are_warned_of(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """A peer whose name is unknown or whose port is closed is a warning; when it comes, all is well."""
    *peer_ports, port, port_2 = free_ports(5)
    members = [f"http://127.0.0.1:{peer_port}" for peer_port in peer_ports[:2]]
    cluster = ",".join([*members, "http://nowhere.invalid:1"])
    with serving("--cluster", cluster, "--port", str(port), directory=tmp_path, port=port) as node:
        node.wait_said(rf"WARNING .*: node 2 at {members[1]}: Connection refused")
        node.wait_said(r"WARNING .*: node 3 at http://nowhere.invalid:1: ")
        assert (
            "no leader is known; node 2: Connection refused; node 3: "
            in node.wait_answer(503, "/-/ready").json()["detail"]
        )
        arguments = ["--id", "2", "--cluster", cluster, "--port", str(port_2)]
        with serving(*arguments, directory=tmp_path, port=port_2):
            node.wait_answer(200, "/-/ready")
        assert node.end(SIGINT) == 0
