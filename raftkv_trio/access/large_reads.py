"""Gets of large ranges: read in pages, between which the node's other tasks go on.

A range may be all of the store, and to read a million keys takes seconds. A leader that sends no heartbeats
for so long is replaced.
"""

import trio

from raftkv_trio.errors import TooLarge
from raftkv_trio.kv import CompactedRevision, Get, GetResult, KeyValue, Store

#: A page takes a few milliseconds.
PAGE_KEYS = 500
PAGE_BYTES = 1024 * 1024
#: What may be collected for one get, all that is kept of a key-value counted.
MAX_BYTES = 512 * 1024 * 1024
KEY_VALUE_BYTES = 100
#: So often a get of the present begins again because a compaction has overtaken it.
ATTEMPTS = 3


def is_large(store: Store, get: Get) -> bool:
    """Whether a get may pass more than a page of keys."""
    if get.range_end is None:
        return False
    if get.revision is not None:
        return True  # how many keys there were is not known
    in_range = store.read(get._replace(limit=0)).in_range
    return (in_range if get.limit is None else min(in_range, get.limit)) > PAGE_KEYS


async def read(store: Store, get: Get) -> GetResult:
    """The result that `store.read(get)` has at this moment, though the store may change meanwhile.

    Raises FutureRevision or CompactedRevision, also for a past revision that a compaction overtakes, and
    TooLarge. Cancellation leaves nothing behind.
    """
    if not is_large(store, get):
        return store.read(get)
    for _ in range(ATTEMPTS):
        try:
            return await _read_pages(store, get)
        except CompactedRevision:
            if get.revision is not None:
                raise
    return store.read(get)  # at last, without a pause


async def _read_pages(store: Store, get: Get) -> GetResult:
    revision, limit = store.revision, get.limit
    is_past = get.revision is not None
    # The keys of the present are counted by their positions, those of the past one by one.
    in_range = 0 if is_past else store.read(get._replace(limit=0)).in_range
    key_values: list[KeyValue] = []
    size_bytes = 0
    for page in store.pages(get, PAGE_KEYS, PAGE_BYTES):
        if is_past:
            in_range += len(page)
        wanted = page if limit is None else page[: limit - len(key_values)]
        key_values += wanted
        size_bytes += sum([KEY_VALUE_BYTES + len(kv.key) + len(kv.value) for kv in wanted])
        if size_bytes > MAX_BYTES:
            raise TooLarge(f"a range may have {MAX_BYTES // 2**20} MiB of key-values; read it in parts")
        if not is_past and limit is not None and len(key_values) >= limit:
            break
        await trio.lowlevel.checkpoint()
    return GetResult(tuple(key_values), in_range, revision)
