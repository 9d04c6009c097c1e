"""Bugs in locks: whose turn it is, what a wait ends with, and what a place in the queue depends on."""

from collections.abc import Callable
from typing import Any

from raftkv_trio.access import candidates
from raftkv_trio.access.candidates import Candidate, Candidates
from raftkv_trio.kv import KeyValue, Put
from raftkv_trio.testing.planted.bug import PlantedBug, bug

BUGS: list[PlantedBug] = []


def _waiting(is_before: Callable[[KeyValue, Candidate], bool], *, looks_again: bool) -> object:
    """Another `wait_turn`."""

    async def wait_turn(queue: Any, candidate: Candidate) -> bool:
        while True:
            await queue._node.wait_restored()
            before: list[KeyValue] = []
            async for page in queue._pages(candidate.prefix):
                before += [kv for kv in page if is_before(kv, candidate)]
            if not queue._is_there(candidate.key, candidate.create_revision):
                return False
            if not before:
                return True
            last = max(before, key=lambda kv: kv.create_revision)
            ranges = (last.key, None), (candidate.key, None)
            async with queue._watch(*ranges, wants_puts=False) as stream:
                await stream.wait()
            if not looks_again:
                return bool(queue._is_there(candidate.key, candidate.create_revision))

    return wait_turn


@bug(
    BUGS,
    "lock-in-order-of-keys",
    "the turn comes in the order of the keys, and not in that in which they were created",
    Candidates,
    "wait_turn",
)
def _(original: Any) -> object:
    return _waiting(lambda kv, candidate: kv.key < candidate.key, looks_again=True)


@bug(
    BUGS,
    "lock-when-the-next-leaves",
    "a candidate has its turn as soon as the one before it leaves, though that has only waited too",
    Candidates,
    "wait_turn",
)
def _(original: Any) -> object:
    return _waiting(lambda kv, candidate: kv.create_revision < candidate.create_revision, looks_again=False)


@bug(
    BUGS,
    "lock-of-the-dead",
    "who has waited does not look whether its own key is still there",
    Candidates,
    "_is_there",
)
def _(original: Any) -> object:
    return lambda queue, key, create_revision: True


@bug(
    BUGS,
    "lock-without-lease",
    "the key of a candidate is put without its lease",
    candidates,
    "Put",
)
def _(original: Any) -> object:
    return lambda key, value, lease=None: Put(key, value)
