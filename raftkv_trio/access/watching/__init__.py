"""Watches: who wants to hear of which keys, and how what the store has applied gets there.

The history of the store is the queue: nothing is copied for a watcher that is behind.

- `hub.py`: one for each server; follows the store's revisions, and tells the watchers.
- `catching_up.py`: those that are behind, and read from the history.
- `matching.py`: who is to be told of a revision, and what.
- `index.py`: finds the watchers of a key.
- `streams.py`: watchers of one client, and the bounded queue of what waits for that client.
- `telling.py`: what one revision changed, encoded once for all who are told.
"""

from raftkv_trio.access.watching.hub import WatchHub
from raftkv_trio.access.watching.streams import (
    Compacted,
    Denied,
    Events,
    Item,
    Note,
    Progress,
    TooManyWatchers,
    Watcher,
    WatchStream,
)
from raftkv_trio.access.watching.telling import Change, Encoder

__all__ = [
    "Change",
    "Compacted",
    "Denied",
    "Encoder",
    "Events",
    "Item",
    "Note",
    "Progress",
    "TooManyWatchers",
    "WatchHub",
    "WatchStream",
    "Watcher",
]
