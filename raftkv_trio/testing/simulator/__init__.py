"""How does a whole cluster run in one thread, on virtual time, the same for every run of a seed?

Real are the node and everything below it: driver, log writer, applier, snapshotter, core, log, snapshots.
Simulated is the world around the node: disk, network, clock and randomness (`testing/world/`). Everything
happens at a moment of one timeline, and everything random is drawn from the seed.

There are two levels, with the same schedules, faults, clients and checks:

- Level 1 (`SteppedMember`) runs a node without Trio. Each turn of the driver and each step of the other tasks
  is an event, so that a halt or a pause can come between any two. Frames take the place of streams.
- Level 2 (`TaskMember`) runs `run_node` as it is, in Trio tasks that all wait for the timeline, with byte
  streams between the nodes. It also covers `peers/`, cancellation, and how the tasks work together.

Begin with `simulation.py`: `Simulation` is the cluster, at level 1, that users of the library see.

- `simulated_member.py`: a member at either level: what outlives its process, and what is seen of it.
- `stepped_member.py`, `stepped_task.py`: level 1; `snapshot_transfers.py`: its snapshots sent and received.
- `task_member.py`: level 2, and its `Simulation`; `task_ports.py`: what its tasks wait at.
- `clone.py`: a second process under a member's id, at level 2.
- `stranger_on_streams.py`: a Byzantine stranger at level 2; at level 1 `Simulation` delivers its words.
- `watched_machine.py`: the state machine, watched for the invariants.
"""
