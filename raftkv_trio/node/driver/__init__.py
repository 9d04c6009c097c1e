"""The driver: the one task that touches the consensus core, in modules by what they decide about.

A turn takes from the sources on the left, steps the core, and processes its Readies on the right:

    completions    log writer, applier         |        |    log writer       STORAGE_APPEND
    peer_reports   the peers' connections      |        |    applier          STORAGE_APPLY
    inbox          messages of peers           |  core  |    peers' outboxes  everything else
    tick           run_clock                   |        |    reads            read states
    proposing      clients, followers          |        |    known_leader     soft state
    reads          clients                     |        |

- `driver.py`: the turn, and why the sources are taken in this order.
- `completions.py`: what is durable and what is applied, and what the applier does next.
- `peer_reports.py`: lost connections, snapshots that ended, proposals that were never sent.
- `proposing.py`: how proposals reach the log of the leader, appended here or forwarded.
- `membership_changes.py`: which changes of the members the leader appends; promotion of learners.
- `catching_up.py`: how much of the log is kept for members that lag, and how fast writers may go on.
- `leadership.py`: leadership transfer.
- `commit_news.py`: appends that tell nothing but a commit index wait for something to leave with.
- `known_leader.py`: the leader that this node knows, and when it last heard from a leader.
- `active_members.py`: which members respond, and on the leader, which of them acknowledge new entries.
"""
