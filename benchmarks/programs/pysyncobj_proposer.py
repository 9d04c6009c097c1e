"""One PySyncObj of three; the one that leads proposes, and prints its rate as a line of JSON.

Usage: python -m benchmarks.programs.pysyncobj_proposer OUTSTANDING BYTES SECONDS BATCHES OWN OTHER...

OWN and OTHER are `host:port`; BATCHES is 1 for PySyncObj's default, 0 to send each command at once. It keeps
its log in memory, which is its default. It runs until it is stopped, since the others need its vote.
"""

import importlib
import json
import sys
from time import perf_counter
from typing import Any

from raftkv_trio.cli.collector import collect_less_often

_TICK_S = 0.01
_WARM_UP_S = 0.5


def main(outstanding: int, size: int, seconds: float, batches: bool, own: str, others: list[str]) -> None:
    """Tick for ever; after a warm-up count what is applied, and print the rate."""
    pysyncobj: Any = importlib.import_module("pysyncobj")  # no dependency of ours, and without types

    class Counter(pysyncobj.SyncObj):  # type: ignore[misc]
        count = 0

        @pysyncobj.replicated  # type: ignore[untyped-decorator]
        def add(self, command: bytes) -> None:
            self.count += 1

    # In its own thread it would compete with ours for the interpreter's lock.
    conf = pysyncobj.SyncObjConf(autoTick=False, appendEntriesUseBatch=batches)
    counter = Counter(own, others, conf)
    command = bytes(size)
    began: tuple[float, int] | None = None
    was_led_s: float | None = None
    done = False

    def again(result: object, error: object) -> None:
        if not done:
            counter.add(command, callback=again)

    while True:
        counter.doTick(_TICK_S)
        now = perf_counter()
        if done or not counter._isLeader():
            continue
        if was_led_s is None:
            was_led_s = now
            for _ in range(outstanding):
                counter.add(command, callback=again)
        elif began is None and now - was_led_s > _WARM_UP_S:
            began = now, counter.count
        elif began is not None and now - began[0] >= seconds:
            done = True
            print(json.dumps({"rate_per_s": (counter.count - began[1]) / (now - began[0])}), flush=True)


if __name__ == "__main__":
    collect_less_often()  # as in `proposer.py`, for a fair comparison
    main(
        int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "1", sys.argv[5], sys.argv[6:]
    )
