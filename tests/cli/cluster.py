"""Three nodes as a user starts them."""

from contextlib import ExitStack
from pathlib import Path
from signal import SIGKILL

from tests.cli.program import Node, serving


class Cluster:
    """Nodes 1 to 3 as processes; `nodes` are those that run."""

    def __init__(self, directory: Path, ports: list[int]) -> None:
        self.directory = directory
        self.urls = {i: f"http://127.0.0.1:{port}" for i, port in enumerate(ports[3:], start=1)}
        self.peer_urls = {i: f"http://127.0.0.1:{port}" for i, port in enumerate(ports[:3], start=1)}
        self.nodes: dict[int, Node] = {}
        self._exit = ExitStack()

    def start(self, node_id: int) -> None:
        port = int(self.urls[node_id].rpartition(":")[2])
        cluster = ",".join(self.peer_urls.values())
        arguments = ["--id", str(node_id), "--cluster", cluster, "--port", str(port)]
        self.nodes[node_id] = self._exit.enter_context(
            serving(*arguments, directory=self.directory, port=port)
        )

    def kill(self, node_id: int) -> None:
        assert self.nodes.pop(node_id).end(SIGKILL) == -SIGKILL

    def close(self) -> None:
        self._exit.close()
