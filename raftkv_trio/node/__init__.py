"""One node: the tasks around the consensus core, for any state machine.

The core (`raft/`) decides and waits for nothing. A node gives it what it lacks: time, a disk, peers, a state
machine and clients. It knows a state machine only by the protocol in `state_machine.py`.

The task tree
=============

    run_node
      driver         the only task that touches the core: steps it, processes its Readies
      run_clock      asks the driver for a tick in every interval
      log writer     makes entries and votes durable, in a worker thread
      commit news    has the driver tell followers of commits that nothing else has told them
      applier        applies committed entries to the state machine
      snapshotter    writes snapshots of the state machine, and removes what they replace
      peers          listens, dials, sends and receives (`peers/`)
      removal        ends the node once the cluster has removed it
      lost entries   marks the data directory if acknowledged entries are missing from it

The driver never waits for another task. What it asks them for goes through queues; what they have done comes
back through inboxes that set its wakeup. An error of a task ends the node; an error of a connection ends that
connection.

Begin with `node.py`: `run_node` is this tree, and `Node` the handle for a program.

- `parts.py`: the wiring. Makes all parts of a node, for `run_node` and for the level-1 simulator.
- `recovery.py`: how a node starts from its data directory.
- `driver/`: the driver, in parts by what it decides about.
- `log_writer.py`, `applier.py`, `snapshotter.py`: three of the tasks. They are generators of steps
  (`steps.py`), so that the simulator can carry out the same steps on virtual time.
- `proposals.py`: proposals that wait for their outcome, and the rule that tells their fate.
- `reads.py`: linearizable reads that wait for the leader and for the applier.
- `removal.py`, `disk_room.py`, `lost_entries.py`: what a node does when it was removed, when its disk has no
  room, and when it has lost what it had acknowledged.
- `open_snapshot.py`: a snapshot's file, open for a backup.
- `status.py`, `measures.py`: what operators see.
- `tracing.py`: the moments of one write on its way, for who asks where its time goes.
"""
