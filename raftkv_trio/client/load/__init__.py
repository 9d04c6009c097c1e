"""Load on a running cluster, for `raftkv-trio bench`: many clients, each with one request at a time.

- `load.py`: what is asked: the operation, and the requests as bytes.
- `connection.py`: one connection to a server, kept alive; its responses are parsed in C.
- `clients.py`: the clients, one task each, and the keys that are written before anything is read.
- `latencies.py`: how long requests took, in buckets: a long run needs no more memory than a short one.
- `tally.py`: everything counted, by operation.
- `targets.py`: which members get the load, also when another one leads.
- `report.py`: the tally as text and JSON.

Its requests do not go through `client/rest.py`, except those that look for the leader: a request by httpx
takes longer than the server takes to answer it.
"""
