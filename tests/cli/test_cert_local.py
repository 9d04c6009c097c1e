"""`cert local` makes all certificates of a cluster on this machine."""

import re
from pathlib import Path

import pytest

from raftkv_trio.addresses import cluster_id_of, parse_cluster
from raftkv_trio.certificates.names import node_uri
from tests.cli.certificates import cert
from tests.cli.program import refusal
from tests.tls.certificates import Pair
from tests.tls.handshakes import client_context, handshake, peer_names, server_context


def test_a_cluster_on_this_machine(tmp_path: Path) -> None:
    """`cert local` makes everything for the nodes of a Procfile, once; they are reached at its addresses."""
    nodes = "raftkv-trio serve --id %d --cluster https://a.example:1,https://0.0.0.0:2 --cluster-token x\n"
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "P").write_text("".join([f"n{i}: {nodes % i}" for i in (1, 2)]))
    said = cert(tmp_path, "local", "-f", "there/P")
    names = ("ca", "node-1", "node-2", "client-local")
    assert re.findall(r"^there/certs/(.+)\.crt, there/certs/\1\.key: ", said, re.MULTILINE) == list(names)
    certs = tmp_path / "there" / "certs"
    assert {path.name for path in certs.iterdir()} == {
        f"{name}.{end}" for name in names for end in ("crt", "key")
    }
    cluster_id = cluster_id_of(parse_cluster("http://a.example:1,http://0.0.0.0:2"), "x")
    client = client_context(certs / "ca.crt", Pair.at(certs / "client-local"))
    for node_id, hosts in (
        (1, ("a.example", "localhost", "127.0.0.1", "::1")),
        (2, ("localhost", "127.0.0.1")),
    ):
        server = server_context(certs / "ca.crt", Pair.at(certs / f"node-{node_id}"))
        for host in hosts:
            _, seen = handshake(client, server, host)
            assert ("URI", node_uri(cluster_id, node_id)) in peer_names(seen)

    before = {path.name: path.read_bytes() for path in certs.iterdir()}
    (certs / "ca.crt").unlink()
    refused = refusal("cert", "local", "-f", "there/P", directory=tmp_path)
    assert refused == "there/certs/ca.key exists already; name another file, or set --force to replace it"
    assert not (certs / "ca.crt").exists()
    cert(tmp_path, "local", "-f", "there/P", "--force")
    assert not [name for name, content in before.items() if (certs / name).read_bytes() == content]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot read Procfile.tls: No such file or directory; name another with --procfile"),
        ("a: sleep 1\n", "the Procfile runs no node; name another with --procfile"),
    ],
)
def test_a_procfile_without_nodes(tmp_path: Path, content: str | None, sentence: str) -> None:
    """Nothing is made."""
    if content is not None:
        (tmp_path / "Procfile.tls").write_text(content)
    assert refusal("cert", "local", directory=tmp_path) == sentence
    assert not (tmp_path / "certs").exists()
