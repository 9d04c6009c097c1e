"""The key-values of a range, however many: read page by page, all at one revision."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

from raftkv_trio.client.etcd.replies import RangeReply
from raftkv_trio.kv import Get, KeyValue

#: About so many bytes of keys and values are read at once, as far as the last page tells.
PAGE_BYTES = 1024 * 1024
_FIRST_PAGE = 64


class KeyValues:
    """Iterates over key-values, in order of their keys; from `Client.range`.

    Attributes:
        revision: of the store, which all of them show; None before the first page is read.
    """

    def __init__(
        self,
        read: Callable[[Get], Coroutine[Any, Any, RangeReply]],
        key: bytes,
        range_end: bytes | None,
        revision: int | None,
        page: int,
    ) -> None:
        self.revision = revision
        self._read = read
        self._key = key
        self._range_end = range_end
        self._most = page
        self._page: Sequence[KeyValue] = ()
        self._position = 0
        self._limit = min(page, _FIRST_PAGE)
        self._is_last = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KeyValue:
        """The next one. Raises what `Client.get_range` raises. Cancellation loses none."""
        if self._position == len(self._page):
            if self._is_last:
                raise StopAsyncIteration
            await self._turn_over()
            if not self._page:
                raise StopAsyncIteration
        self._position += 1
        return self._page[self._position - 1]

    async def _turn_over(self) -> None:
        reply = await self._read(Get(self._key, self._range_end, self._limit, self.revision))
        self.revision = reply.revision if self.revision is None else self.revision
        page, self._page, self._position = reply.key_values, reply.key_values, 0
        self._is_last = reply.in_range <= len(page)
        if page and not self._is_last:
            self._key = page[-1].key + b"\0"
            size = sum([len(each.key) + len(each.value) for each in page])
            # Twice as many at most: what comes may be larger.
            fitting = PAGE_BYTES * len(page) // max(size, 1)
            self._limit = max(1, min(fitting, 2 * self._limit, self._most))
