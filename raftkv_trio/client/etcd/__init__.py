"""The client of a cluster's keys: over gRPC, to raftkv-trio's `--etcd-port` and to etcd 3.4.

- `client.py`: `Client`, which is public: keys and values in, typed replies out.
- `puts.py`: puts of one program that wait together become one txn.
- `watch_responses.py`, `watch.py`: what the server tells of a watch, and typed events.
- `leases.py`: leases; `queues.py`, `locks.py`: locks and elections, which stand on them.
- `auth.py`: users, roles and permissions; `tokens.py`: what shows who the client's user is.
- `pages.py`: ranges, read page by page at one revision.
- `calls.py`: one call, made again where that is safe, and what is known when it is given up.
- `connections.py`: the connection in use, and the next one when it fails.
- `outcomes.py`: what an error says about whether the call was executed.
- `messages.py`, `replies.py`: operations into etcd's messages, and what the answers mean.
"""
