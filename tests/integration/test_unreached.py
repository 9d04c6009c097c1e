"""A node that the others cannot reach at its URL says so, instead of waiting for a leader without a word."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.config import RestConfig
from tests.conftest import find_free_ports
from tests.rest.serving import PATIENCE_S, open_client, open_server


async def test_a_node_that_nobody_can_dial_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nodes 1 and 2 lead and follow; node 3 listens elsewhere than its URL says."""
    *ports, nowhere = find_free_ports(4)
    listen = {i: PeerAddress("127.0.0.1", port) for i, port in enumerate(ports, start=1)}
    members = {**listen, 3: PeerAddress("127.0.0.1", nowhere)}
    config = RestConfig(port=0, request_timeout_s=0.5)
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                open_server(tmp_path / str(i), config, node_id=i, members=members, listen=listen[i])
            )
            for i in members
        ]
        expected = (
            f"this node is connected to node 1, 2, but no member connects to it at http://127.0.0.1:{nowhere};"
            " check that this URL resolves and leads here from the other members"
        )
        with trio.fail_after(PATIENCE_S):
            while nodes[2].node.status().health != f"no leader is known; {expected}":  # noqa: ASYNC110 - no event
                await trio.sleep(0.05)
        assert caplog.messages.count(expected) == 1
        async with open_client(nodes[2]) as client:
            refused = await client.get("/-/ready")
            assert (refused.status_code, expected in refused.json()["detail"]) == (503, True)
            for method in ("GET", "PUT"):
                answer = await client.request(method, "/key")
                assert (answer.status_code, expected in answer.text) == (503, True)
        for served in nodes[:2]:
            assert served.node.status().health is None
