"""A stopped node's data directory: what is in it, what is wrong with it, and how it is repaired or made anew.

This is what the commands `check`, `restore`, `member force-new-cluster` and `member set-addresses` do. They
use the formats of `storage/` and, to apply a log, parts of `node/`; nothing in a running node imports them.
Every command holds the lock of each directory that it reads, so that no node runs there meanwhile.

What each file does:

    inspection.py             the steps of `check`: hold, repair if asked to, check
    check.py                  reads all of a directory, and finds what is wrong
    segment_scan.py           reads a segment of the log, behind damage too
    findings.py               what a check found, as data
    report.py                 the same as text or JSON
    repair.py                 repairs that need no other directory and can lose nothing
    rebuild_log.py            a damaged log, rebuilt from the other members' directories: the decision
    salvage.py                what is left of damaged logs, and how it fits together
    replace_log.py            puts the new log in the place of the old one, whatever crashes meanwhile
    rebuild_small_files.py    the same for `identity`, `peers` and `origin`
    restore.py                a new directory from a backup
    force_new_cluster.py      a new cluster from one member's directory
    reset_auth.py             a note to disable authentication, for the node that starts there
    replay.py                 the state that a directory holds
    set_addresses.py          other addresses of the members, in the newest snapshot and the log

The rules of the room:

1. Nothing that may have been acknowledged is cut off or removed by a guess. What cannot be decided is
   refused, with the reason; damaged files are moved aside and kept.
2. Each repair is decided before it writes anything, and only the directory to repair is written to.
3. Each repair is durable step by step: after a crash the directory is as before, or the repair can be done
   again, or the next one ends it.
4. A directory that is made gets its name when it is whole.

Nothing is imported here, so that a command loads only what it needs.
"""
