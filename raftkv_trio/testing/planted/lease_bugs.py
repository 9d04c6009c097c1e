"""Bugs in leases: when they expire, what that needs, and what becomes of their keys."""

from typing import Any

from raftkv_trio.access.lease_deadlines import LeaseDeadlines
from raftkv_trio.kv import leasing
from raftkv_trio.kv.leases import Leases
from raftkv_trio.testing.planted.bug import PlantedBug, bug

BUGS: list[PlantedBug] = []


@bug(
    BUGS,
    "lease-expires-early",
    "the deadline of a lease is that of its grant, however often it is renewed",
    LeaseDeadlines,
    "_touch",
)
def _(original: Any) -> object:
    def touch(deadlines: Any, lease_id: int, now_s: float) -> None:
        if lease_id not in deadlines._deadlines:
            original(deadlines, lease_id, now_s)

    return touch


@bug(
    BUGS,
    "expiry-unchecked",
    "a lease expires though it was renewed after the leader has seen it expire",
    leasing,
    "_is_as_of",
)
def _(original: Any) -> object:
    return lambda leases, lease_id, renewal: lease_id in leases


@bug(
    BUGS,
    "lease-lives-on",
    "a lease that was revoked or has expired is renewed all the same",
    Leases,
    "drop",
)
def _(original: Any) -> object:
    return lambda leases, lease_id: None


@bug(
    BUGS,
    "revocation-by-key",
    "each key of a lease is deleted at a revision of its own",
    leasing,
    "_revoke",
)
def _(original: Any) -> object:
    def revoke(space: Any, leases: Any, lease_id: int) -> int:
        keys = leases.keys_of(lease_id)
        for key in keys[:-1]:
            changed: list[bytes] = []
            space.delete(key, None, space.revision + 1, changed)
            space.finish(space.revision + 1, changed)
        return int(original(space, leases, lease_id)) + len(keys[:-1])

    return revoke


@bug(
    BUGS,
    "snapshot-without-leases",
    "the keys of a lease are not attached to it when a snapshot is restored",
    Leases,
    "attach_restored",
)
def _(original: Any) -> object:
    return lambda leases, lease_id, key, record: None


@bug(
    BUGS,
    "lease-never-expires",
    "a leader gives each lease its whole time again in each look",
    LeaseDeadlines,
    "see_reign",
)
def _(original: Any) -> object:
    def see_reign(deadlines: Any, now_s: float, term: int, is_leader: bool) -> None:
        original(deadlines, now_s, term, is_leader)
        deadlines._since = now_s

    return see_reign
