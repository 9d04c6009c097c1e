"""What a node must be able to before it serves a call; where it is not, the client may ask another one."""

from raftkv_trio.etcd.errors import Fault
from raftkv_trio.node.node import Node


def check_level(node: Node, level: int) -> None:
    """Raise RpcError while a member does not know what belongs to a feature level."""
    if node.feature_level < level:
        raise Fault.NOT_CAPABLE.error()


def check_whole(node: Node) -> None:
    """Raise RpcError while a snapshot is being restored, so that the store has only a part of it."""
    if node.is_restoring:
        raise Fault.UNHEALTHY.error()
