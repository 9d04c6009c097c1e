"""Does one order of the operations explain what concurrent clients were told?

- `history.py`: records each client's operations, and how they ended.
- `linearizability.py`: searches for an order that explains a history.
- `register.py`: what may be answered about one key of a revisioned store.
"""
