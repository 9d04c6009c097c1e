"""A process that serves `EchoService` at a port which it prints, until its standard input ends."""

import sys

import trio

from tests.grpc.serving import open_echo


async def main() -> None:
    async with open_echo() as served:
        print(served.port, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    trio.run(main)
