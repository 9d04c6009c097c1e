"""What is measured, one subject a file; each function adds to the figures of a run.

- `http_load.py`: rate and latency of GET and PUT, of every contestant.
- `disk.py`: fdatasync alone, below which no durable write can be.
- `proposals.py`: the node without HTTP, beside PySyncObj.
- `state.py`: what many keys cost: bytes written, memory, restart, the pause of a snapshot.
- `hops.py`: where the time of one PUT goes, step by step.
- `failover.py`: how long writes stand still after the leader was killed.
- `growth.py`: where the rate bends, by keys, clients, size of values and number of nodes.
"""
