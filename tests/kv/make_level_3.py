"""How `level_3.cbor` was made, by the last commit before there were users: it stays as it is.

A list of commands, and what a store of that release had of them at some places: revision, compacted revision,
state hash, and the chunks of a snapshot.
"""

import sys
from pathlib import Path
from random import Random

import cbor2

from raftkv_trio.kv import Put, Store, Txn, encode_command
from raftkv_trio.state_machine import Committed
from tests.kv.random_commands import Drawing


def main() -> None:
    random = Random(1)
    drawing, store = Drawing(random), Store()
    commands, steps = [], []
    for index in range(300):
        drawing.revision = store.revision
        command = encode_command(drawing.command())
        if random.random() < 0.1:
            name = random.randbytes(1)
            command = encode_command(Txn(success=(Put(b"/once", name),)), request_id=name)
        store.apply([Committed(1, index, command)])
        commands.append(command)
        if index % 30 == 29:
            numbers = [store.revision, store.compacted_revision, store.state_hash]
            steps.append([index + 1, *numbers, list(store.snapshot())])
    Path(sys.argv[1]).write_bytes(cbor2.dumps([commands, steps]))


if __name__ == "__main__":
    main()
