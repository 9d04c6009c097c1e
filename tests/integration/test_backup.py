"""A backup of a cluster under load, and a new cluster that begins with it."""

from pathlib import Path
from subprocess import CompletedProcess

import httpx
import trio

from tests.cli.program import run
from tests.integration.cluster import Cluster


def key(number: int) -> str:
    return f"/key-{number}"


def value(number: int) -> bytes:
    return f"{number} ".encode() * 200


class Writer:
    """Writes key after key, each when the one before it is acknowledged."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient) -> None:
        self.acknowledged = 0
        self._cluster = cluster
        self._http = http
        self._written = trio.Event()

    async def run(self) -> None:
        while True:
            url = self._cluster.url(self.acknowledged % 3 + 1, key(self.acknowledged))
            (await self._http.put(url, content=value(self.acknowledged))).raise_for_status()
            self.acknowledged += 1
            self._written.set()
            self._written = trio.Event()

    async def wait_written(self, count: int) -> None:
        while self.acknowledged < count:
            await self._written.wait()


def backup(cluster: Cluster, directory: Path, *more: str) -> CompletedProcess[str]:
    endpoint = f"http://127.0.0.1:{cluster.rest_port(2)}"
    return run("backup", "--endpoint", endpoint, "saved", *more, directory=directory)


async def test_a_new_cluster_begins_with_the_backup(
    cluster: Cluster, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """All that was acknowledged before the backup is in it, and of what came during it a beginning."""
    await cluster.wait_ready(http)
    async with trio.open_nursery() as nursery:
        writer = Writer(cluster, http)
        nursery.start_soon(writer.run)
        await writer.wait_written(60)
        before = writer.acknowledged
        done = await trio.to_thread.run_sync(backup, cluster, tmp_path)
        await writer.wait_written(writer.acknowledged + 20)  # it has held up nobody for good
        written = writer.acknowledged
        nursery.cancel_scope.cancel()
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.startswith("saved: index ")
    old_id = (await cluster.status(http, 1))["cluster_id"]
    for node_id in cluster.ids:
        cluster.stop(node_id)

    (tmp_path / "new").mkdir()
    new = Cluster(tmp_path / "new")
    restored = [await trio.to_thread.run_sync(restore, new, node_id, tmp_path) for node_id in new.ids]
    assert [done.returncode for done in restored] == [0, 0, 0], restored
    try:
        new.start()
        await new.wait_ready(http)
        statuses = [await new.status(http, node_id) for node_id in new.ids]
        assert len({status["cluster_id"] for status in statuses}) == 1
        assert statuses[0]["cluster_id"] != old_id
        answers = [await http.get(new.url(number % 3 + 1, key(number))) for number in range(written + 1)]
        held = [number for number, answer in enumerate(answers) if answer.status_code == 200]
        assert len(held) >= before
        assert held == list(range(len(held)))
        assert [answers[number].content for number in held] == [value(number) for number in held]
        (await http.put(new.url(1, "/after"), content=b"it goes on")).raise_for_status()
        for node_id in new.ids:
            assert new.stop(node_id) == 0
            said = new.log(node_id).read_text()
            assert "members differ" not in said
            assert "ERROR" not in said
            checked = await trio.to_thread.run_sync(check, new, node_id, tmp_path)
            assert checked.returncode == 0, checked
        new.start()  # what it was restored from is not needed any more
        await new.wait_ready(http)
        assert (await http.get(new.url(3, "/after"))).content == b"it goes on"
        assert (await http.get(new.url(2, key(before - 1)))).content == value(before - 1)
    finally:
        new.kill()


def restore(cluster: Cluster, node_id: int, directory: Path) -> CompletedProcess[str]:
    arguments = ["saved", "--id", str(node_id), "--cluster", cluster.peer_urls()]
    return run("restore", *arguments, "--data-dir", cluster.data_dir(node_id), directory=directory)


def check(cluster: Cluster, node_id: int, directory: Path) -> CompletedProcess[str]:
    return run("check", cluster.data_dir(node_id), directory=directory)
