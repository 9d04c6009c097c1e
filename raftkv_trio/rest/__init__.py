"""The REST API of one node: raftexample's keys at the root, and what operators ask for under `/-/`.

What happens where:

- `app.py` takes every request first, since every request target may be a key: what begins with `/-/` is for
  Quart, the rest for `keys.py`.
- `keys.py` answers GET, PUT, DELETE and POST on keys: `X-Raft-Index`, `ETag`, the 404, the 405, the 412.
- `waiting.py` is where a GET waits for its quorum, and a PUT until it is applied here.
- `status_codes.py` is the one table from errors to status codes: 503, 504, 429, and the 507 of a full disk.
- `callers.py` finds out who asks; `operators/rights.py` says who may ask for what under `/-/`.
- `preconditions.py` turns If-Match and If-None-Match into compares of the log entry.
- `full_store.py` tells the log when puts begin to be refused by the quota, and when there is room again.
- `responses.py` has the responses of keys in common.
- `server_timing.py` tells a client that asks where the time of its PUT went.
- `counts.py` counts the requests; `operators/metrics.py` shows the counts.
- `operators/` is the Quart app under `/-/`.

Connections and HTTP/1.1 are below, in `raftkv_trio.http`.
"""

from raftkv_trio.rest.app import OnlyProbes, RestService, make_service, make_waiting_service

__all__ = ["OnlyProbes", "RestService", "make_service", "make_waiting_service"]
