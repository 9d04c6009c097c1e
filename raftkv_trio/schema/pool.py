"""The descriptor pool of the generated modules.

Protobuf's own pool takes each name once in a process. A program that embeds a node may import another copy of
etcd's messages too, with a client library for example; in one pool the second import would raise TypeError.
"""

from google.protobuf.descriptor_pool import DescriptorPool

_POOL = DescriptorPool()


def Default() -> DescriptorPool:  # the name that generated code calls
    """The pool of these messages."""
    return _POOL
