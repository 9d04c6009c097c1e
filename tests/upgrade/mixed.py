"""A cluster of which some nodes run the version before feature levels."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.integration.cluster import PATIENCE_S, POLL_S, Cluster

# Before anything that is installed, and before the working directory.
_LAUNCH = (
    "import sys, runpy; sys.path.insert(0, {path!r});"
    "runpy.run_module('raftkv_trio', run_name='__main__', alter_sys=True)"
)
#: Snapshots are so frequent, and so few entries are kept, that a node which was down for a moment needs one.
FREQUENT = ("--snapshot-entries", "100", "--catch-up-entries", "20")


#: Between two writes of a client, so that all three nodes get their turns on a small machine.
PAUSE_S = 0.02


class MixedCluster(Cluster):
    """Nodes of two versions.

    Attributes:
        old_ids: the nodes that run the old program from their next start on.
    """

    def __init__(self, old_program: Path, directory: Path, size: int, *, founders: int) -> None:
        super().__init__(directory, size, FREQUENT, founders=founders)
        self._old_program = old_program
        self.old_ids = set[int]()

    def _command(self, node_id: int, arguments: Sequence[str]) -> list[str]:
        command = super()._command(node_id, arguments)
        if node_id not in self.old_ids:
            return command
        _, _, _, *rest = command  # python -m raftkv_trio
        return [sys.executable, "-P", "-c", _LAUNCH.format(path=str(self._old_program)), *rest]

    async def replace(self, http: httpx.AsyncClient, node_id: int) -> None:
        """Stop a node cleanly, and start it with the new program on the same directory and ports."""
        assert await trio.to_thread.run_sync(self.stop, node_id) == 0
        self.old_ids.discard(node_id)
        self.start(node_id)
        await self.wait_ready(http)

    async def transfer(self, http: httpx.AsyncClient, to: int) -> None:
        """Have a node lead."""
        with trio.fail_after(PATIENCE_S):
            while (leader := await self.leader(http)) != to:
                await http.post(self.url(leader, "/-/leader"), json={"to": to})
                await trio.sleep(POLL_S)

    async def wait_level(self, http: httpx.AsyncClient, level: int, *node_ids: int) -> None:
        """Until these nodes say that the cluster has this feature level."""
        with trio.fail_after(PATIENCE_S):
            for node_id in node_ids:
                while (await self.status(http, node_id)).get("feature_level") != level:  # noqa: ASYNC110
                    await trio.sleep(POLL_S)


@contextmanager
def mixed(
    old_program: Path, directory: Path, size: int, *, founders: int, old: Sequence[int]
) -> Iterator[MixedCluster]:
    """The founders run, those of `old` with the old program; all that run at the end are killed."""
    cluster = MixedCluster(old_program, directory, size, founders=founders)
    cluster.old_ids = set(old)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


class Writer:
    """A client that writes one new key after the other, and reads each back, until it is cancelled.

    Attributes:
        acknowledged: what was written, by key.
    """

    def __init__(self, name: str, cluster: Cluster, http: httpx.AsyncClient) -> None:
        self._name = name
        self._cluster = cluster
        self._http = http
        self.acknowledged: dict[str, str] = {}

    async def run(self) -> None:
        """Raises AssertionError if a read does not find what was acknowledged."""
        number = 0
        while True:
            number += 1
            key, value = f"/{self._name}-{number}", f"{self._name} wrote {number}"
            await self._until_done("PUT", key, 204, value)
            self.acknowledged[key] = value
            assert (await self._until_done("GET", key, 200)).text == value
            await trio.sleep(PAUSE_S)

    async def _until_done(self, method: str, key: str, status: int, content: str | None = None) -> Any:
        """Through one node after the other: they are stopped and started."""
        node_id = hash(key) % 3
        while True:
            url = self._cluster.url(node_id % 3 + 1, key)
            try:
                answer = await self._http.request(method, url, content=content)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == status:
                return answer
            assert answer is None or answer.status_code in (429, 503, 504), answer.text
            node_id += 1
            await trio.sleep(POLL_S)
