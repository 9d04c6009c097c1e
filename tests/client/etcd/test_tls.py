"""The client and the commands over TLS, with a node that serves etcd's API with a certificate."""

import subprocess
from pathlib import Path

import pytest
import trio

from raftkv_trio import Client, ConfigError, NoLeader, Trust
from tests.cli.program import DEADLINE_S, PROGRAM, environment_with
from tests.conftest import find_free_ports
from tests.tls.processes import started_with_tls

PATIENCE_S = 60.0


async def test_over_tls(tmp_path: Path) -> None:
    """A server whose CA is trusted serves; another one does not, and the failure says why."""
    (port,) = find_free_ports(1)
    arguments = ("--etcd-port", str(port))
    with started_with_tls(tmp_path, 1, arguments=arguments) as (_, certificates):
        endpoint = f"https://127.0.0.1:{port}"
        with trio.fail_after(PATIENCE_S):
            async with Client([endpoint], trust=Trust(ca_file=certificates.authority)) as client:
                await client.put(b"a", b"1")
                found = await client.get(b"a")
                assert found is not None
                assert found.value == b"1"
        for wrong, words in ((endpoint, "certificate"), (f"http://127.0.0.1:{port}", "")):
            async with Client([wrong]) as client:
                with pytest.raises(NoLeader, match=f"{wrong}: .*{words}"), client.fail_after(1):
                    await client.put(b"a", b"2")
        done = await trio.to_thread.run_sync(
            lambda: subprocess.run(
                [*PROGRAM, "get", "a", "--endpoints", endpoint, "--cacert", certificates.authority],
                capture_output=True,
                timeout=DEADLINE_S,
                env=environment_with(None),
                check=False,
            )
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"a\n1\n", b"")


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """They are refused when the client is made."""
    with pytest.raises(ConfigError, match="ca_file"):
        Client(["https://127.0.0.1:1"], trust=Trust(ca_file=tmp_path / "none"))
