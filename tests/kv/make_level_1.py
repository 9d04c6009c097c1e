"""How `level_1.cbor` was made, by the last commit before there was a history: it stays as it is.

A list of commands, and what a store of that release had of them at some places: revision, size, state hash,
and the chunks of a snapshot.
"""

import sys
from pathlib import Path
from random import Random

import cbor2

from raftkv_trio.kv import Store
from raftkv_trio.state_machine import Committed


def draw_command(random: Random) -> bytes:
    """A command of version 1 or 2, as CBOR, so that a later release has no say in its bytes."""

    def key() -> bytes:
        return random.choice([b"/a", b"/b", b"/c\0", b"/d" * 20, b"\xff"])

    def compare() -> list[object]:
        target = random.randrange(4)
        return [key(), target, random.randrange(4), b"v" if target == 3 else random.randrange(20)]

    def operation() -> list[object]:
        range_end = random.choice([None, None, b"\0", key()])
        draw = random.random()
        if draw < 0.7:
            lease = random.choice([None, None, None, 0, 3, 2**63 - 1])
            return [1, key(), random.randbytes(random.choice([0, 1, 100])), lease]
        return [2, key(), range_end] if draw < 0.85 else [3, key(), range_end, random.choice([None, 0, 2])]

    def operations() -> list[object]:
        return [operation() for _ in range(random.choice([0, 1, 1, 2, 3]))]

    lists = [[compare() for _ in range(random.choice([0, 0, 1]))], operations(), operations()]
    if random.random() < 0.05:
        return random.randbytes(5)
    return cbor2.dumps([1, *lists] if random.random() < 0.7 else [2, *lists, random.choice([0, 200, 10**6])])


def main() -> None:
    random = Random(1)
    commands = [draw_command(random) for _ in range(300)]
    store = Store()
    steps = []
    for index, command in enumerate(commands):
        store.apply([Committed(1, index, command)])
        if index % 30 == 29:
            steps.append(
                [index + 1, store.revision, store.size_bytes, store.state_hash, list(store.snapshot())]
            )
    Path(sys.argv[1]).write_bytes(cbor2.dumps([commands, steps]))


if __name__ == "__main__":
    main()
