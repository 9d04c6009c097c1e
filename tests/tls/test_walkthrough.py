"""A node joins over TLS, the commands ask over TLS, and a new cluster with TLS begins with the backup."""

import json
import re
from pathlib import Path

import trio

from tests.cli.program import run
from tests.integration.cluster import Cluster
from tests.integration.members import wait_role
from tests.tls.processes import Certificates, client_of, started_with_tls

KEYS = 20


class Operator:
    """Gives commands to a cluster, whose CA is all that they know."""

    def __init__(self, cluster: Cluster, certificates: Certificates, directory: Path) -> None:
        self._cluster = cluster
        self._certificates = certificates
        self._directory = directory

    async def does(self, *command: str | Path) -> str:
        """What a command prints that asks node 1."""
        endpoint = ("--endpoint", self._cluster.url(1, ""), "--cacert", self._certificates.authority)
        return await self.does_here(*command, *endpoint)

    async def does_here(self, *command: str | Path) -> str:
        """What a command prints that asks nobody."""
        done = await trio.to_thread.run_sync(lambda: run(*command, directory=self._directory))
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout


async def test_join_and_backup_and_restore(tmp_path: Path) -> None:
    """Everything is done by the commands of docs/operating.md; every connection has TLS."""
    with started_with_tls(tmp_path, 2, founders=1) as (cluster, certificates):
        operator = Operator(cluster, certificates, tmp_path)
        async with client_of(certificates) as http:
            await cluster.wait_ready(http)
            for number in range(KEYS):
                (await http.put(cluster.url(1, f"/key-{number}"), content=b"%d" % number)).raise_for_status()
            joiner_url = cluster.peer_url(2).replace("http:", "https:")
            assert "node 2 is a learner" in await operator.does("member", "add", "2", joiner_url)
            cluster.start(2)
            await wait_role(http, cluster, 1, 2, "voter")
            await cluster.wait_ready(http)
            assert (await http.get(cluster.url(2, "/key-7"))).content == b"7"
            assert (await operator.does("status")).count("  ok  ") == 2
            listed = json.loads(await operator.does("member", "list", "-w", "json"))
            assert [(seen["id"], seen["role"], seen["is_active"]) for seen in listed] == [
                (1, "voter", True),
                (2, "voter", True),
            ]
            load = ("--clients", "2", "--duration", "1", "--keys", "3")
            assert "https://" in await operator.does("bench", "put", *load)
            assert "saved: index " in await operator.does("backup", "saved")
            assert "snapshot at index" in await operator.does("snapshot")
    await begin_anew(tmp_path, certificates)


async def begin_anew(directory: Path, certificates: Certificates) -> None:
    """Restore the backup as a cluster of one node, which needs a certificate for the new cluster."""
    (directory / "new").mkdir()
    new = Cluster(directory / "new", 1)
    operator = Operator(new, certificates, directory)
    where = ("--id", "1", "--cluster", new.peer_urls(), "--data-dir", new.data_dir(1))
    said = await operator.does_here("restore", "saved", *where)
    found = re.search("of the new cluster ([0-9a-f]+)", said)
    assert found is not None, said
    certificates.replace(1, found[1])
    new.give(1, *certificates.of_members(1), *certificates.of_clients(1))
    new.start()
    try:
        async with client_of(certificates) as http:
            await new.wait_ready(http)
            answers = [await http.get(new.url(1, f"/key-{number}")) for number in range(KEYS)]
            assert [answer.content for answer in answers] == [b"%d" % number for number in range(KEYS)]
            status = await new.status(http, 1)
            assert int(status["cluster_id"], 16) == int(found[1], 16) != certificates.cluster_id
    finally:
        new.kill()
