"""What must hold in a cluster after every step, and how is it checked from outside?

- `invariants.py`: watches the cores of all nodes: terms, votes, logs, commits, states, acknowledgements.
- `configurations.py`: which members count from which index on.
- `durability.py`: what a node must still have when it starts again: its vote, its durable log.
- `freshness.py`: a node's state is as fresh as the node says.
- `equal_states.py`: the same log makes the same state.
- `first_process.py`: if two processes run under one id, the first one stays connected.
- `violation.py`: the invariants' names, and the error that names the violated one.
"""
