"""Concurrent puts by `raftkv_trio.Client`, on any server of etcd's API: prints the rate.

python -m benchmarks.programs.client_puts PORT TASKS SECONDS
"""

import random
import sys

import trio

from raftkv_trio import Client

VALUE = b"v" * 100
KEYS = 1000
WARM_UP_S = 1.0


async def main(port: int, tasks: int, seconds: float) -> None:
    """Put all the time, and print how many puts a second ended after the warm-up."""
    done = 0

    async def keep_putting(client: Client) -> None:
        nonlocal done
        while True:
            await client.put(b"/bench/%d" % random.randrange(KEYS), VALUE)
            done += 1

    async with Client([f"127.0.0.1:{port}"]) as client, trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(keep_putting, client)
        await trio.sleep(WARM_UP_S)
        before, begin = done, trio.current_time()
        await trio.sleep(seconds)
        print((done - before) / (trio.current_time() - begin))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
