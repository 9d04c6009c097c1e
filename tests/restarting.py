"""A node in the test's own process that may be stopped, and started again from its directory."""

from functools import partial

import trio

from raftkv_trio import Node, NodeConfig, run_node
from raftkv_trio.config import PeerTls
from raftkv_trio.node.parts import NodeParts
from raftkv_trio.state_machine import StateMachine
from raftkv_trio.tls.network import open_tls_network
from raftkv_trio.world import World


class RestartingNode:
    """One node, run by `run_with` again and again.

    Attributes:
        config: of each start; it may be replaced before the next one.
        tls: its certificate, and whom it trusts; None: it speaks without TLS.
        node, parts: while it runs.
    """

    def __init__(self, config: NodeConfig, tls: PeerTls | None = None) -> None:
        self.config = config
        self.tls = tls
        self.node: Node | None = None
        self.parts: NodeParts | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    @property
    def running(self) -> Node:
        """Its handle."""
        assert self.node is not None
        return self.node

    async def run_with(self, machine: StateMachine, *, task_status: trio.TaskStatus[None]) -> None:
        """Run with an empty state machine until `stop`; raises whatever ends the node before that."""
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self.node = await nursery.start(self._run_node, machine)
                    task_status.started()
        finally:
            self.node = self.parts = None
            self._ended.set()

    async def stop(self) -> None:
        """Stop it, as the end of its program does."""
        self._scope.cancel()
        await self._ended.wait()

    async def _run_node(self, machine: StateMachine, *, task_status: trio.TaskStatus[Node]) -> None:
        run = partial(run_node, self.config, machine, watch=self._watch, task_status=task_status)
        if self.tls is None:
            await run()
            return
        async with open_tls_network(self.tls) as network:
            await run(world=World(network=network))

    def _watch(self, parts: NodeParts) -> None:
        self.parts = parts
