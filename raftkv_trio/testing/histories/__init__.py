"""Does one order of the operations explain what concurrent clients were told?

- `history.py`: records each client's operations, and how they ended.
- `linearizability.py`: searches for an order that explains a history.
- `register.py`: what may be answered about one key of a revisioned store.
- `revision_order.py`: replays a history of many keys in the order of its revisions, in `store_model.py`.
- `store_requests.py`: what is asked of such a store, and what is told.
- `sightings.py`, `time_bounds.py`, `compactions.py`: what else bounds that order.
"""
