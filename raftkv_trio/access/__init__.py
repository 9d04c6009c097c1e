"""The replicated store, as every API for clients uses it: one node, and the store that it replicates.

- `replicated_store.py`: writes through the log, reads that a quorum has confirmed.
- `waiting.py`: how long a request waits for them, and what it is told after that.
- `large_reads.py`: gets of large ranges, in pages.
- `leases.py`: leases; `lease_deadlines.py` knows when each expires, `keep_alives.py` gathers renewals.
- `compacting.py`: compactions of the history, asked for or by themselves.
- `watching/`: who is told what the store has applied.
- `leases.py`, `lease_deadlines.py`, `keep_alives.py`: leases, which end if nobody renews them.
- `candidates.py`: queues for locks and leadership.
- `full_store.py`: what the log says about a store that has reached its quota.
"""

from raftkv_trio.access.replicated_store import ReplicatedStore
from raftkv_trio.access.waiting import wait_applied, wait_readable

__all__ = ["ReplicatedStore", "wait_applied", "wait_readable"]
