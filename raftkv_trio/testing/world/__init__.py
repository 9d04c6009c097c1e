"""How do the simulated disk, network and clock behave, and how do they fail?

- `simulated_disk.py`: a disk that loses what is not synced; `inodes.py`: what it holds.
- `message_network.py`: frames between nodes (level 1); `stream_network.py`: byte streams (level 2).
- `stranger.py`: what a Byzantine stranger says.
- `timeline.py`: virtual time, and the trace of a run.
- `determinism.py`: the same order of Trio's tasks for the same seed.
"""
