"""raftkv-trio: a replicated key-value node, and a replicated state machine inside any Trio program.

A program of one's own needs `run_node`, a `NodeConfig` and a `StateMachine`.
"""

from raftkv_trio._version import __version__
from raftkv_trio.config import NodeConfig, PeerAddress, parse_cluster
from raftkv_trio.machine import Committed, StateMachine
from raftkv_trio.node import Node, run_node
from raftkv_trio.proposals import Applied, Proposal

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
