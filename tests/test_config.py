"""Configurations are checked when they are made, and their errors name fields, not flags."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from raftkv_trio.addresses import MAX_HOST_BYTES, ClientAddress, PeerAddress, parse_cluster
from raftkv_trio.config import NodeConfig, RestConfig, ServerConfig
from raftkv_trio.errors import ConfigError

PACKAGE = Path(__file__).parents[1] / "raftkv_trio"
MEMBERS = {1: PeerAddress("127.0.0.1", 9021)}
FIELDS = {field.name for kind in (NodeConfig, RestConfig) for field in fields(kind)}


def node(node_id: Any = 1, **values: Any) -> NodeConfig:
    return NodeConfig(**{"node_id": node_id, "members": MEMBERS, "data_dir": Path("data"), **values})


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: node(4), ("node_id", "members")),
        (lambda: node("1"), ("node_id",)),
        (lambda: node(data_dir=None), ("data_dir",)),
        (lambda: node(members="http://127.0.0.1:9021"), ("members",)),
        (lambda: node(members={1: "http://127.0.0.1:9021"}), ("members",)),
        (lambda: node(join=True), ("join", "members")),
        (lambda: node(max_command_bytes=2**30), ("max_command_bytes", "max_message_bytes")),
        (lambda: node(segment_bytes=1), ("segment_bytes",)),
        (lambda: node(snapshot_entries=0), ("snapshot_entries", "snapshot_log_bytes")),
        (lambda: node(catch_up_bytes=-1), ("catch_up_entries", "catch_up_bytes")),
        (lambda: node(tick_interval_s=0), ("tick_interval_s",)),
        (lambda: node(client_url="http://" + "a" * 600), ("client_url",)),
        (lambda: node(heartbeat_ticks=10), ("heartbeat_ticks", "election_ticks")),
        (lambda: RestConfig(port=65536), ("port",)),
        (lambda: RestConfig(body_timeout_s=float("nan")), ("body_timeout_s",)),
        (lambda: RestConfig(max_header_bytes=1), ("max_header_bytes",)),
        (lambda: RestConfig(max_connections=0), ("max_connections",)),
        (lambda: ServerConfig(node=node(max_command_bytes=2**20)), ("max_value_bytes",)),
        (lambda: ServerConfig(node=node(), rest=RestConfig(port=9021)), ("port",)),
        (lambda: ServerConfig(node=node(), rest=RestConfig(host="::", port=9021)), ("port",)),
        (lambda: RestConfig(host=""), ("host",)),
        (lambda: RestConfig(advertise=ClientAddress("0.0.0.0", 1)), ("advertise",)),
        (lambda: parse_cluster("http://a:1,"), ("members",)),
    ],
)
def test_what_is_wrong_is_a_field(make: Callable[[], object], named: tuple[str, ...]) -> None:
    """The error has the names of the fields, so that a program or a command line can name its own."""
    with pytest.raises(ConfigError) as raised:
        make()
    assert raised.value.fields == named
    assert set(named) <= FIELDS


@pytest.mark.parametrize(
    "make",
    [
        lambda name: PeerAddress.parse(f"http://{name}:1"),
        lambda name: PeerAddress(name, 1),
        lambda name: parse_cluster(f"http://{name}:1"),
    ],
)
def test_a_host_name_has_the_length_that_a_resolver_takes(make: Callable[[str], object]) -> None:
    """253 characters, as the resolver writes it. What is longer is refused, and not repeated whole."""
    longest = ".".join(["a" * 60] * 4) + "." + "b" * 9
    assert len(longest) == MAX_HOST_BYTES
    make(longest)
    for longer in (f"{longest}b", "a." * 2000 + "b"):
        with pytest.raises(ConfigError) as raised:
            make(longer)
        assert len(str(raised.value)) < 600


def test_a_host_name_counts_as_the_resolver_writes_it() -> None:
    """A name of other letters has few characters, and many of them as a resolver writes it."""
    assert PeerAddress.parse("http://grüße.example:1").host == "grüße.example"
    with pytest.raises(ConfigError, match="not of the form"):
        PeerAddress.parse("http://" + ".".join(["grüße" * 4] * 9) + ":1")


@pytest.mark.parametrize(("election_ticks", "timeout_s"), [(2, 0.5), (10, 0.5), (40, 2.0), (500, 5.0)])
def test_a_stop_waits_for_a_transfer_as_long_as_the_links_need(election_ticks: int, timeout_s: float) -> None:
    """Half an election timeout, within bounds: on slow links half a second is too short."""
    assert node(election_ticks=election_ticks).transfer_timeout_s == timeout_s


def test_a_path_may_be_text() -> None:
    """A data directory that is given as a str is a path from then on."""
    assert node(data_dir="data").data_dir == Path("data")


def test_the_same_port_at_another_address_is_another_port() -> None:
    """Clients and peers may have one port number at two addresses of a machine."""
    config = ServerConfig(node=node(), rest=RestConfig(host="127.0.0.2", port=9021))
    assert config.client_url(9021) == "http://127.0.0.2:9021"


def strings(tree: ast.Module) -> Iterator[str]:
    """All strings of a module that are no docstrings; an f-string is one, without what it fills in."""
    passed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            texts = [part for part in node.values if isinstance(part, ast.Constant)]
            passed.update(map(id, texts))
            yield "".join([str(part.value) for part in texts])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_only_the_command_line_names_flags() -> None:
    """Whoever embeds a node has no flags: only whole commands to run (`raftkv-trio ...`) may have them.

    `local/procfile.py` reads the flags of such commands.
    """
    found = [
        text
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "cli" and path.name != "procfile.py"
        for text in strings(ast.parse(path.read_text()))
        if re.search(r"(?<!\S)--[a-z]", text) and "raftkv-trio " not in text
    ]
    assert found == []
