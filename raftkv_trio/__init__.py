"""raftkv-trio: a replicated key-value node, and a replicated state machine inside any Trio program.

A program of one's own needs `run_node`, a `NodeConfig` and a `StateMachine`. The public names are imported
when they are first used, so that the command line answers `--version` without loading Trio and the node.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from raftkv_trio._version import __version__

if TYPE_CHECKING:
    from raftkv_trio.addresses import PeerAddress, parse_cluster
    from raftkv_trio.config import NodeConfig
    from raftkv_trio.node.node import Node, run_node
    from raftkv_trio.node.proposals import Applied, Proposal
    from raftkv_trio.state_machine import Committed, StateMachine
else:
    _HOMES = {
        "Applied": "node.proposals",
        "Committed": "state_machine",
        "Node": "node.node",
        "NodeConfig": "config",
        "PeerAddress": "addresses",
        "Proposal": "node.proposals",
        "StateMachine": "state_machine",
        "parse_cluster": "addresses",
        "run_node": "node.node",
    }

    # Unseen by type checkers, to which any name of the package would be good otherwise.
    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Applied",
    "Committed",
    "Node",
    "NodeConfig",
    "PeerAddress",
    "Proposal",
    "StateMachine",
    "__version__",
    "parse_cluster",
    "run_node",
]
