"""The flags of `serve`: raftexample's names and defaults, a variable for each, the table in docs/flags.md."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from raftkv_trio._version import __version__
from raftkv_trio.addresses import ClientAddress, PeerAddress
from raftkv_trio.cli.commands import program
from raftkv_trio.cli.serve import serve, server_config
from raftkv_trio.cli.shared_flags import FLAG_OF, WITHOUT_VARIABLE
from raftkv_trio.config import CompactionConfig, NodeConfig, RestConfig, ServerConfig
from raftkv_trio.errors import ConfigError
from tests.cli.program import run, serving

FLAGS_PAGE = (Path(__file__).parents[2] / "docs" / "flags.md").read_text()
TWO = "http://127.0.0.1:9021,http://[::1]:9022"
MEMBERS = {1: PeerAddress("127.0.0.1", 9021), 2: PeerAddress("::1", 9022)}
BASE = ServerConfig(node=NodeConfig(node_id=1, members=MEMBERS, data_dir=Path("raftkv-trio-1")))


class Flag(NamedTuple):
    """A flag, a value that is not its default, and what that makes of `BASE`."""

    name: str
    value: str
    configured: ServerConfig


def node(**changes: Any) -> ServerConfig:
    return replace(BASE, node=replace(BASE.node, **changes))


def rest(**changes: Any) -> ServerConfig:
    return replace(BASE, rest=replace(BASE.rest, **changes))


FLAGS = [
    Flag("--id", "2", node(node_id=2, data_dir=Path("raftkv-trio-2"))),
    Flag("--cluster", f"1={TWO.replace(',', ',7=')}", node(members={1: MEMBERS[1], 7: MEMBERS[2]})),
    Flag("--port", "0", rest(port=0)),
    Flag("--host", "::1", rest(host="::1")),
    Flag("--advertise-client", "b:9", rest(advertise=ClientAddress("b", 9))),
    Flag("--data-dir", "/some/where", node(data_dir=Path("/some/where"))),
    Flag("--listen-peer", "[::]:9", node(listen=PeerAddress("::", 9))),
    Flag("--cluster-token", "a b", node(cluster_token="a b")),
    Flag("--request-timeout", "0.5", rest(request_timeout_s=0.5)),
    Flag("--heartbeat-interval", "150", node(tick_interval_s=0.15, election_ticks=7)),
    Flag("--election-timeout", "2950", node(election_ticks=30)),
    Flag("--snapshot-entries", "7", node(snapshot_entries=7)),
    Flag("--snapshot-log-size", "8", node(snapshot_log_bytes=8)),
    Flag("--catch-up-entries", "0", node(catch_up_entries=0)),
    Flag("--idle-timeout", "0.5", rest(idle_timeout_s=0.5)),
    Flag("--header-timeout", "0.5", rest(header_timeout_s=0.5)),
    Flag("--body-timeout", "0.5", rest(body_timeout_s=0.5)),
    Flag("--send-timeout", "inf", rest(send_timeout_s=float("inf"))),
    Flag("--max-header-size", "1024", rest(max_header_bytes=1024)),
    Flag("--max-value-size", "0", rest(max_value_bytes=0)),
    Flag("--max-receiving-size", "9000000", rest(max_receiving_bytes=9_000_000)),
    Flag("--quota-bytes", "0", rest(quota_bytes=0)),
    Flag("--etcd-port", "0", replace(BASE, etcd_port=0)),
    Flag(
        "--auto-compaction-mode",
        "periodic",
        replace(BASE, compaction=CompactionConfig(retention_revisions=None, retention_s=3600.0)),
    ),
    Flag(
        "--auto-compaction-retention", "7", replace(BASE, compaction=CompactionConfig(retention_revisions=7))
    ),
    Flag("--max-history-bytes", "0", replace(BASE, compaction=CompactionConfig(max_history_bytes=0))),
    Flag("--max-connections", "1", rest(max_connections=1)),
    Flag("--host-whitelist", "a.example, \xe9", rest(host_whitelist=("a.example", "\xe9"))),
    Flag("--listen-metrics", "[::1]:9", rest(listen_metrics=PeerAddress("::1", 9))),
]
#: What TLS needs at least, for clients and for peers.
LEAST_TLS = {
    "tls": {"--cert-file": "c", "--key-file": "k"},
    "peer_tls": {"--peer-cert-file": "c", "--peer-key-file": "k", "--peer-trusted-ca-file": "a"},
}
CLIENT_AUTH = {"--client-cert-auth": "true", "--trusted-ca-file": "a"}
#: The flags of TLS: the field, its value in the configuration and as text, and flags that it needs.
TLS_FLAGS: dict[str, tuple[str, str, Any, str, dict[str, str]]] = {
    "--cert-file": ("tls", "cert_file", Path("x"), "x", {}),
    "--key-file": ("tls", "key_file", Path("x"), "x", {}),
    "--client-cert-auth": ("tls", "client_cert_auth", True, "true", CLIENT_AUTH),
    "--trusted-ca-file": ("tls", "trusted_ca_file", Path("x"), "x", CLIENT_AUTH),
    "--client-crl-file": ("tls", "client_crl_file", Path("x"), "x", CLIENT_AUTH),
    "--tls-min-version": ("tls", "tls_min_version", "1.3", "1.3", {}),
    "--peer-cert-file": ("peer_tls", "peer_cert_file", Path("x"), "x", {}),
    "--peer-key-file": ("peer_tls", "peer_key_file", Path("x"), "x", {}),
    "--peer-trusted-ca-file": ("peer_tls", "peer_trusted_ca_file", Path("x"), "x", {}),
    "--peer-crl-file": ("peer_tls", "peer_crl_file", Path("x"), "x", {}),
    "--peer-cert-allowed-san": ("peer_tls", "peer_cert_allowed_san", ("x", "y"), "x, y", {}),
    "--peer-tls-transition": ("peer_tls", "peer_tls_transition", True, "true", {}),
}
#: Flags without a value or outside the configuration of a server, and a value that is not their default.
OTHERS = {
    "--join": "true",
    "--no-root-members": "true",
    "--insecure": "true",
    "--lease-checkpoints": "true",
    "--auth-token-ttl": "60",
    "--cluster-secret-file": "/no/secret",
    "--log-format": "json",
    "--log-level": "debug",
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in serve.params:
        monkeypatch.delenv(variable(option.opts[0]), raising=False)


def variable(flag: str) -> str:
    return f"RAFTKV_TRIO_{flag.strip('-').replace('-', '_').upper()}"


def parse(*arguments: str) -> dict[str, Any]:
    return serve.make_context("serve", list(arguments)).params


def configured(*arguments: str) -> ServerConfig:
    flags = parse(*arguments)
    del flags["log_format"], flags["log_level"]
    return server_config(**flags)


def test_every_field_that_a_flag_sets_is_in_the_table() -> None:
    """So that an error of the library, which names fields, can name the flag instead."""
    fields_of = {
        flag.name: {
            field
            for part in ("node", "rest")
            for field, value in asdict(getattr(flag.configured, part)).items()
            if value != asdict(getattr(BASE, part))[field]
        }
        for flag in FLAGS
        if flag.name not in ("--etcd-port", "--auto-compaction-mode")
    }
    fields_of["--auto-compaction-retention"] = {"retention_s"}  # or in the other mode, `retention_revisions`
    fields_of["--max-history-bytes"] = {"max_history_bytes"}
    fields_of["--etcd-port"] = {"etcd_port"}
    fields_of["--id"].remove("data_dir")  # its default is made from the id
    fields_of["--heartbeat-interval"].remove("election_ticks")  # which are counted in it
    others = {"--join": {"join"}, "--no-root-members": {"root_members"}}
    others["--cluster-secret-file"] = {"cluster_secret"}  # has tests of its own
    others["--insecure"] = {"insecure"}
    others["--lease-checkpoints"] = {"lease_checkpoints"}
    others["--auth-token-ttl"] = {"auth_token_ttl_s"}
    others |= {flag: {field} for flag, (_, field, *_) in TLS_FLAGS.items()}
    of_commands = {"--cacert": {"ca_file"}, "--cert": {"client_cert_file"}, "--key": {"client_key_file"}}
    others |= of_commands
    assert fields_of | others == {
        flag: {field} for field, flag in FLAG_OF.items() if flag not in WITHOUT_VARIABLE
    }


def test_defaults() -> None:
    """Without a flag it is raftexample's node 1 of a cluster of one, with its ports."""
    assert configured() == ServerConfig(
        node=NodeConfig(
            node_id=1, members={1: PeerAddress("127.0.0.1", 9021)}, data_dir=Path("raftkv-trio-1")
        ),
        rest=RestConfig(host="127.0.0.1", port=9121, request_timeout_s=5.0),
    )
    assert {name: parse()[name] for name in ("join", "log_format", "log_level")} == {
        "join": False,
        "log_format": "text",
        "log_level": "info",
    }


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_flag_and_variable_say_the_same(flag: Flag, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flag configures what it should, and so does its environment variable."""
    base = [] if flag.name == "--cluster" else ["--cluster", TWO]
    assert configured(*base, flag.name, flag.value) == flag.configured != BASE
    monkeypatch.setenv(variable(flag.name), flag.value)
    assert configured(*base) == flag.configured


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ([], "http://127.0.0.1:5"),
        (["--host", "::1"], "http://[::1]:5"),
        (["--host", "0.0.0.0"], "http://me:5"),
        (["--host", "::"], "http://me:5"),
        (["--host", "[::1]"], "http://[::1]:5"),
        (["--host", "::", "--cluster", "http://0.0.0.0:1"], "http://127.0.0.1:5"),
        (["--host", "0", "--cluster", "http://[::]:1"], "http://127.0.0.1:5"),
        (["--host", "0.0.0.0", "--advertise-client", "http://proxy:80"], "http://proxy:80"),
    ],
)
def test_where_clients_reach_it(arguments: list[str], url: str) -> None:
    """A node announces the address at which it listens; if that is all addresses, the one of its peer URL."""
    assert configured("--cluster", "http://me:1", "--insecure", *arguments).client_url(5) == url


@pytest.mark.parametrize("flag", TLS_FLAGS)
def test_flags_of_tls(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sets its field, and so does its variable, together with those that it needs."""
    part, field, value, text, needs = TLS_FLAGS[flag]
    needed = {name: text for name, text in (LEAST_TLS[part] | needs).items() if name != flag}
    base = [word for name, text in needed.items() for word in words_of(name, text)]
    by_flag, other = configured(*base, *words_of(flag, text)), "tls" if part == "peer_tls" else "peer_tls"
    assert getattr(getattr(by_flag, part), field) == value
    assert getattr(by_flag, other) is None
    monkeypatch.setenv(variable(flag), text)
    assert configured(*base) == by_flag


def words_of(flag: str, text: str) -> list[str]:
    return [flag] if text == "true" else [flag, text]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--cert-file", "c"], ("cert_file", "key_file")),
        (["--key-file", "k"], ("key_file", "cert_file")),
        (["--tls-min-version", "1.3"], ("cert_file", "key_file")),
        (["--trusted-ca-file", "a"], ("cert_file", "key_file")),
        (
            ["--cert-file", "c", "--key-file", "k", "--trusted-ca-file", "a"],
            ("trusted_ca_file", "client_cert_auth"),
        ),
        (
            ["--cert-file", "c", "--key-file", "k", "--client-cert-auth"],
            ("client_cert_auth", "trusted_ca_file"),
        ),
        (
            ["--cert-file", "c", "--key-file", "k", "--client-crl-file", "r"],
            ("client_crl_file", "client_cert_auth"),
        ),
        (["--peer-cert-file", "c", "--peer-key-file", "k"], ("peer_trusted_ca_file",)),
        (["--peer-cert-file", "c", "--peer-trusted-ca-file", "a"], ("peer_cert_file", "peer_key_file")),
        (["--peer-trusted-ca-file", "a"], ("peer_cert_file", "peer_key_file")),
        (["--peer-tls-transition"], ("peer_cert_file", "peer_key_file")),
        (["--peer-cert-allowed-san", "x"], ("peer_cert_file", "peer_key_file")),
        (
            ["--cluster", "https://a:1"],
            ("members", "peer_cert_file", "peer_key_file", "peer_trusted_ca_file"),
        ),
        (["--host", "0.0.0.0"], ("host", "cert_file", "key_file", "insecure")),
        (["--host", "node.example"], ("host", "cert_file", "key_file", "insecure")),
    ],
)
def test_half_of_tls_is_none(words: list[str], named: tuple[str, ...]) -> None:
    """Whatever would leave a connection without what was asked for is refused; so is an open port."""
    with pytest.raises(ConfigError) as refused:
        configured(*words)
    assert refused.value.fields == named


def test_the_port_for_clients_is_open_or_secured() -> None:
    """To other hosts only with TLS, or if it was said that it may be without."""
    assert configured("--host", "0.0.0.0", "--insecure").is_open
    assert not configured("--host", "0.0.0.0", "--cert-file", "c", "--key-file", "k").is_open
    assert not any(configured("--host", host).is_open for host in ("127.0.0.2", "::1", "localhost"))


def test_tls_changes_no_cluster() -> None:
    """The scheme of a peer URL is no part of the cluster's id, nor of a member's address."""
    secured = configured(
        "--cluster",
        TWO.replace("http", "https"),
        *(w for f, t in LEAST_TLS["peer_tls"].items() for w in (f, t)),
    )
    assert secured.node == BASE.node
    assert secured.node.cluster_id == BASE.node.cluster_id


@pytest.mark.parametrize("flag", OTHERS)
def test_the_other_flags_have_variables_too(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags without a value and those of the log are set by their environment variables."""
    name = flag.strip("-").replace("-", "_")
    before = parse()[name]
    monkeypatch.setenv(variable(flag), OTHERS[flag])
    assert str(parse()[name]).lower() == OTHERS[flag] != str(before).lower()


def test_members_at_the_root() -> None:
    """They can be changed there, as in raftexample, unless that is switched off."""
    assert configured().rest.root_members
    assert not configured("--no-root-members").rest.root_members


@pytest.mark.parametrize("name", ["http://a", "a:80", "[::1]", "a b", "\xe9_"])
def test_a_host_name_of_the_whitelist_is_no_more_than_that(name: str) -> None:
    """A scheme or a port would never be the host of a request, so the mistake is told."""
    with pytest.raises(ConfigError, match="is no host name; leave out scheme and port"):
        configured("--host-whitelist", name)


@pytest.mark.parametrize(
    ("mode", "retention", "expected"),
    [
        ("revision", "0", CompactionConfig(retention_revisions=None)),
        ("periodic", "0", CompactionConfig(retention_revisions=None)),
        ("periodic", "2", CompactionConfig(retention_revisions=None, retention_s=7200.0)),
        ("periodic", "1h30m", CompactionConfig(retention_revisions=None, retention_s=5400.0)),
        ("periodic", "1.5s250ms", CompactionConfig(retention_revisions=None, retention_s=1.75)),
    ],
)
def test_what_is_kept_of_the_history(mode: str, retention: str, expected: CompactionConfig) -> None:
    """etcd's two flags: 0 keeps all, and a number alone is hours in the periodic mode."""
    arguments = ("--auto-compaction-mode", mode, "--auto-compaction-retention", retention)
    assert configured(*arguments).compaction == expected


@pytest.mark.parametrize(
    ("mode", "retention"),
    [("revision", "1h"), ("revision", "-1"), ("periodic", "soon"), ("periodic", "1h1"), ("periodic", "-1h")],
)
def test_a_retention_that_is_none(mode: str, retention: str) -> None:
    """The error says what the mode takes."""
    with pytest.raises(ConfigError, match=r"is no number of revisions|is no duration; write it as"):
        configured("--auto-compaction-mode", mode, "--auto-compaction-retention", retention)


def test_the_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both are there, the flag counts and not the variable."""
    monkeypatch.setenv("RAFTKV_TRIO_PORT", "1")
    assert configured("--port", "2").rest.port == 2


@pytest.mark.parametrize("scheme", ["tcp", "udp", "sctp"])
def test_what_kubernetes_sets_is_no_port(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """The variables that Kubernetes sets for a Service named raftkv-trio change no flag."""
    monkeypatch.setenv("RAFTKV_TRIO_PORT", f"{scheme}://10.96.0.12:9121")
    monkeypatch.setenv("RAFTKV_TRIO_PORT_9121_TCP", f"{scheme}://10.96.0.12:9121")
    monkeypatch.setenv("RAFTKV_TRIO_PORT_9121_TCP_PORT", "9121")
    monkeypatch.setenv("RAFTKV_TRIO_SERVICE_PORT", "9121")
    monkeypatch.setenv("RAFTKV_TRIO_SERVICE_HOST", "10.96.0.12")
    assert configured() == replace(BASE, node=replace(BASE.node, members={1: MEMBERS[1]}))
    assert configured("--port", "2").rest.port == 2


def test_a_node_beside_a_kubernetes_service(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """The node starts, and warns that the variable is not its own."""
    peer_port, port = free_ports(2)
    environment = {"RAFTKV_TRIO_PORT": "tcp://10.96.0.12:9121"}
    arguments = ["--cluster", f"http://127.0.0.1:{peer_port}", "--port", str(port)]
    with serving(*arguments, directory=tmp_path, port=port, environment=environment) as node:
        node.wait_answer(200, "/-/ready")
        node.wait_said(r"WARNING .*: RAFTKV_TRIO_PORT is 'tcp://10.96.0.12:9121'.* Kubernetes")
        assert node.end(signal.SIGINT) == 0


@pytest.mark.parametrize("flag", ["--log-level", "--log-format"])
def test_words_in_any_case(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LOG_LEVEL=INFO` is as good as `info`, by flag and by variable."""
    name = flag.strip("-").replace("-", "_")
    assert parse(flag, OTHERS[flag].upper())[name] == OTHERS[flag]
    monkeypatch.setenv(variable(flag), OTHERS[flag].upper())
    assert parse()[name] == OTHERS[flag]


def test_no_flag_is_forgotten_here() -> None:
    """The tests above name every flag that there is."""
    named = {*(flag.name for flag in FLAGS), *OTHERS, *TLS_FLAGS}
    assert {option.opts[0] for option in serve.params} == named


def test_the_page_of_flags_has_every_flag() -> None:
    """docs/flags.md names each flag in the order of --help, with its variable and its default."""
    section = FLAGS_PAGE.partition("## raftkv-trio serve\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(--[a-z-]+)` \| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE)
    special = {
        "--join": "off",
        "--advertise-client": "where it listens",
        "--data-dir": "./raftkv-trio-ID",
        "--etcd-port": "none",
        "--auto-compaction-retention": "10000, or 1h",
        "--listen-peer": "its URL in --cluster",
        "--cluster-token": "none",
        "--host-whitelist": "none",
        "--lease-checkpoints": "off",
        "--no-root-members": "off",
        "--listen-metrics": "none",
        "--cluster-secret-file": "none",
        **dict.fromkeys(TLS_FLAGS, "none"),
        **dict.fromkeys(("--client-cert-auth", "--peer-tls-transition", "--insecure"), "off"),
        "--tls-min-version": "1.2",
    }
    expected = []
    for option in serve.params:
        assert isinstance(option, click.Option)
        flag = option.opts[0]
        expected.append((flag, variable(flag), special.get(flag, str(option.default))))
    assert [(flag, name, default.replace("`", "")) for flag, name, default in rows] == expected


@pytest.mark.parametrize("command", ["serve", "status", "local start", "local run", "simulate"])
def test_help_is_there(command: str, tmp_path: Path) -> None:
    """Every command has --help and -h, with exit code 0, and the help of the group names it."""
    done = [run(*command.split(), flag, directory=tmp_path) for flag in ("--help", "-h")]
    assert [(d.returncode, d.stderr) for d in done] == [(0, ""), (0, "")]
    assert done[0].stdout == done[1].stdout
    assert done[0].stdout.startswith(f"Usage: raftkv-trio {command} ")


def test_the_program_s_help_has_every_command(tmp_path: Path) -> None:
    """The commands are listed by what they are for, each of them once."""
    done = run("--help", directory=tmp_path)
    listed = re.findall(r"^  (\w+)  +\w", done.stdout.partition("Run nodes:")[2], re.MULTILINE)
    assert sorted(listed) == sorted(program.commands)


def test_version_and_module(tmp_path: Path) -> None:
    """`raftkv-trio` and `python -m raftkv_trio` are one program and say the same version."""
    script = Path(sys.executable).parent / "raftkv-trio"
    says = [
        subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
        for command in ([script], [sys.executable, "-m", "raftkv_trio"])
    ]
    assert says == [f"raftkv-trio {__version__}\n"] * 2
    commands = (
        "auth backup bench cert check compact del elect get lease local lock member put restore role serve"
        " simulate snapshot status txn user watch"
    )
    assert sorted(program.commands) == commands.split()


def test_a_node_told_by_variables_alone(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    """A process that has no argument serves where its environment says, and logs as that says."""
    peer_port, port = free_ports(2)
    environment = {
        "RAFTKV_TRIO_ID": "2",
        "RAFTKV_TRIO_CLUSTER": f"2=tcp://localhost:{peer_port}",
        "RAFTKV_TRIO_LISTEN_PEER": f"127.0.0.1:{peer_port}",
        "RAFTKV_TRIO_PORT": str(port),
        "RAFTKV_TRIO_DATA_DIR": "there",
        "RAFTKV_TRIO_LOG_FORMAT": "json",
    }
    with serving(directory=tmp_path, port=port, environment=environment) as node:
        node.wait_answer(200, "/-/ready")
        assert node.wait_answer(200, "/-/status").json()["id"] == 2
        assert node.wait_answer(200, "/-/members").json()[0]["url"] == f"http://localhost:{peer_port}"
        assert (tmp_path / "there" / "identity").exists()
        assert node.end(signal.SIGTERM) == 0
        assert all(line.startswith('{"timestamp": ') for line in node.said.splitlines())
