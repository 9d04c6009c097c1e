"""The commands that ask members do so over TLS: whom they trust, and what they show, is given by flags."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.cli.commands import program
from raftkv_trio.config import NodeConfig, RestConfig, ServerConfig
from raftkv_trio.server import serve
from tests.conftest import find_free_ports
from tests.tls.certificates import Authority
from tests.tls.configs import client_tls, peer_tls

PATIENCE_S = 120.0


@contextmanager
def serving_in_a_thread(config: ServerConfig) -> Iterator[str]:
    """The commands have a Trio run of their own, so the server has another thread."""
    started = threading.Event()
    port = 0
    stop: trio.Event | None = None
    token: trio.lowlevel.TrioToken | None = None

    async def main() -> None:
        nonlocal port, stop, token
        stop, token = trio.Event(), trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:

            async def run(*, task_status: trio.TaskStatus[int]) -> None:
                await serve(config, stop=stop, task_status=task_status)

            port = await nursery.start(run)
            started.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert started.wait(PATIENCE_S)
        yield f"https://127.0.0.1:{port}"
    finally:
        if token is not None and stop is not None:
            token.run_sync_soon(stop.set)
        thread.join(PATIENCE_S)


@pytest.fixture
def asked(ca: Authority, tmp_path: Path) -> Iterator[list[str]]:
    """The flags for a node that serves only clients with certificates, and speaks TLS with members."""
    (peer_port,) = find_free_ports(1)
    node = NodeConfig(
        node_id=1,
        members={1: PeerAddress("127.0.0.1", peer_port)},
        data_dir=tmp_path / "data",
        segment_bytes=1024 * 1024,
    )
    own, client = ca.node(1, cluster_id=node.cluster_id), ca.client()
    tls = client_tls(own, client_cert_auth=True, trusted_ca_file=ca.certificate)
    config = ServerConfig(node=node, rest=RestConfig(port=0), tls=tls, peer_tls=peer_tls(ca, own))
    with serving_in_a_thread(config) as url:
        files = {"--cacert": ca.certificate, "--cert": client.certificate, "--key": client.key}
        yield ["--endpoint", url, *(str(word) for pair in files.items() for word in pair)]


def run(*words: str) -> Result:
    return CliRunner().invoke(program, words, catch_exceptions=False)


def test_every_command_that_asks(asked: list[str], tmp_path: Path) -> None:
    """They find other members by the https:// URLs that members announce."""
    assert "leader" in run("status", *asked).output
    assert "voter" in run("member", "list", *asked).output
    dry_run = run("member", "add", "2", "https://127.0.0.1:1", "--dry-run", "--force", *asked)
    assert "quorum" in dry_run.output
    assert "snapshot at index" in run("snapshot", *asked).output
    backup = tmp_path / "backup"
    assert "hash" in run("backup", *asked, str(backup)).output
    load = ("--clients", "2", "--duration", "1", "--keys", "3")
    assert "https://" in run("bench", "mixed", *load, "--reads", "50", *asked).output
    restored = run(
        "restore", str(backup), "--cluster", "https://127.0.0.1:1", "--data-dir", str(tmp_path / "new")
    )
    assert restored.exit_code == 0
