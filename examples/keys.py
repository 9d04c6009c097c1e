"""Reads and writes keys of a running cluster, at the endpoints that the arguments name.

Start three nodes with `raftkv-trio local start`, or etcd, and then:

    python examples/keys.py 127.0.0.1:12378 127.0.0.1:22378 127.0.0.1:32378
"""

import sys

import trio

from raftkv_trio import Client, RaftKVError
from raftkv_trio.kv import Compare, Delete, Put


async def main(endpoints: list[str]) -> None:
    async with Client(endpoints) as client:
        with client.fail_after(10):
            await client.put(b"color", b"red")
        await client.txn([Compare.exists(b"color")], [Put(b"shape", b"round"), Delete(b"size")])
        async for key_value in client.range(prefix=b""):
            print(key_value.key, key_value.value, key_value.mod_revision)


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1:])
    except RaftKVError as error:
        sys.exit(str(error))  # says what to do
