"""Who is measured over HTTP. Each knows how to start, and where the node that leads answers."""

from benchmarks.contestants.contestant import Contestant, Running
from benchmarks.contestants.echo import Echo
from benchmarks.contestants.etcd import Etcd
from benchmarks.contestants.ours import Ours, OursAsEtcd

#: Named, so that a table says that they were thought of; there is no code to start them.
NAMED_ONLY = {"rqlite": "rqlited", "raftexample": "raftexample"}

__all__ = ["NAMED_ONLY", "Contestant", "Echo", "Etcd", "Ours", "OursAsEtcd", "Running"]
