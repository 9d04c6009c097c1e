"""Real `raftkv-trio serve` processes with the certificates that the `cert` commands make."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from raftkv_trio.addresses import cluster_id_of, parse_cluster
from tests.cli.program import run
from tests.integration.cluster import PATIENCE_S, Cluster

HOST = "127.0.0.1"


class Certificates:
    """A CA of a cluster, made by `cert init`, and what it has issued; the files are in `directory`."""

    def __init__(self, directory: Path, cluster_id: str) -> None:  # the id as `status` has it
        self._directory = directory
        self._directory.mkdir()
        self.cluster_id = int(cluster_id, 16)
        self._cert("init", "--cluster-id", cluster_id)
        self.authority = directory / "certs" / "ca.crt"

    def issue(self, *node_ids: int) -> None:
        """A certificate for each of these nodes."""
        for node_id in node_ids:
            self._cert("node", str(node_id), HOST)

    def of_members(self, node_id: int) -> list[str | Path]:
        """The arguments of `serve` for TLS between members."""
        certificate, key = self._pair(node_id)
        own: list[str | Path] = ["--peer-cert-file", certificate, "--peer-key-file", key]
        return [*own, "--peer-trusted-ca-file", self.authority]

    def of_clients(self, node_id: int) -> list[str | Path]:
        """The arguments of `serve` for TLS with clients."""
        certificate, key = self._pair(node_id)
        return ["--cert-file", certificate, "--key-file", key]

    def replace(self, node_id: int, cluster_id: str | None = None) -> None:
        """Replace a node's certificate; give the id if it is for another cluster, as after a restore."""
        of_cluster = () if cluster_id is None else ("--cluster-id", cluster_id)
        self._cert("node", str(node_id), HOST, *of_cluster, "--force")

    def context(self, node_id: int | None = None) -> ssl.SSLContext:
        """Of an end that trusts the CA, and shows the certificate of a node."""
        context = ssl.create_default_context(cafile=self.authority)
        if node_id is not None:
            context.load_cert_chain(*self._pair(node_id))
        return context

    def _pair(self, node_id: int) -> tuple[Path, Path]:
        name = self._directory / "certs" / f"node-{node_id}"
        return name.with_suffix(".crt"), name.with_suffix(".key")

    def _cert(self, *arguments: str) -> None:
        done = run("cert", *arguments, directory=self._directory)
        assert (done.returncode, done.stderr) == (0, ""), done


@contextmanager
def started_with_tls(
    directory: Path,
    size: int = 3,
    *,
    founders: int | None = None,
    arguments: tuple[str, ...] = (),
    is_proxied: bool = False,
) -> Iterator[tuple[Cluster, Certificates]]:
    """`founders` of `size` nodes run with TLS at both ports; all that run at the end are killed."""
    cluster = Cluster(directory, size, arguments, founders=founders, is_proxied=is_proxied)
    certificates = Certificates(
        directory / "ca", f"{cluster_id_of(parse_cluster(cluster.peer_urls()), ''):x}"
    )
    certificates.issue(*cluster.ids)
    for node_id in cluster.ids:
        cluster.give(node_id, *certificates.of_members(node_id), *certificates.of_clients(node_id))
    try:
        cluster.start()
        yield cluster, certificates
    finally:
        cluster.kill()


@asynccontextmanager
async def client_of(certificates: Certificates) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that trusts the CA; it asks without TLS too."""
    limits = httpx.Limits()  # none
    async with httpx.AsyncClient(verify=certificates.context(), timeout=PATIENCE_S, limits=limits) as http:
        yield http
