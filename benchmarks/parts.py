"""The parts of a run, as `--only` names them, in the order in which they are measured."""

#: The title of each part in docs/performance.md, by its name.
PARTS = {
    "loads": "Loads over HTTP",
    "etcd": "etcd's API",
    "disk": "The disk alone",
    "hops": "The trace of a PUT",
    "proposals": "Proposals without HTTP",
    "state": "Many keys",
    "failover": "A killed leader",
    "growth": "Growth",
}
