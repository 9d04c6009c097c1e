"""Header lists in and out (HPACK, RFC 7541).

- In: the table and the Huffman code are those of `hpack`; the loop is ours, since it must stop before a list
  becomes too large, and costs a third. A block that leaves the table as it is means the same the next time,
  as long as nothing else changes the table: `HeadDecoder.decode` remembers what was made of it.
- Out: literals that no table remembers. So a list that is encoded once can be sent on every connection, and
  no state is left behind in either end.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from raftkv_trio.grpc.frames import ConnectionFault, ErrorCode

T = TypeVar("T")
Field = tuple[bytes, bytes]

TABLE_BYTES = 4096  # the size with which HTTP/2 begins; ours never announce another one
#: What HPACK counts for a field beside its text.
FIELD_BYTES = 32
#: Tells the other end that this end remembers nothing in its table, once the other end has made that smaller.
TABLE_OF_NONE = b"\x20"
_INDEXED, _REMEMBERED, _TABLE_SIZE = 0x80, 0x40, 0x20
_MAX_NUMBER_BYTES = 4
# What is remembered of a connection: so many blocks, of lists of so many bytes at most.
_KNOWN_BLOCKS, _KNOWN_LIST_BYTES = 16, 2048

#: Fields of the static table that our heads need whole.
_WHOLE = {
    (b":method", b"POST"): 3,
    (b":scheme", b"http"): 6,
    (b":scheme", b"https"): 7,
    (b":status", b"200"): 8,
}
#: Names of the static table.
_NAMES = {b":authority": 1, b":path": 4, b":status": 8, b"content-type": 31, b"user-agent": 58}


class HeadDecoder(Generic[T]):
    """Decodes the header blocks of one connection, all of them in their order.

    Args:
        max_bytes: the largest list, by HPACK's count.
        read: makes of a list what `decode` returns; what it raises, `decode` raises.
    """

    def __init__(self, max_bytes: int, read: Callable[[list[Field] | None], T]) -> None:
        self._table = HeaderTable()
        self._max_bytes = max_bytes
        self._read = read
        self._known: dict[bytes, T] = {}

    def decode(self, block: bytes) -> T:
        """What `read` makes of the list in a block; `read` gets None if the list is too large.

        Raises ConnectionFault if the block cannot be decoded: the two tables differ from then on.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        try:
            fields, size, keeps_table = self._fields(block)
        except (HPACKError, IndexError) as error:
            raise ConnectionFault(
                ErrorCode.COMPRESSION_ERROR, "a header block that cannot be decoded"
            ) from error
        if not keeps_table:
            self._known.clear()
        result = self._read(fields)
        if keeps_table and size <= _KNOWN_LIST_BYTES and len(block) <= _KNOWN_LIST_BYTES:
            if len(self._known) >= _KNOWN_BLOCKS:
                self._known.clear()
            self._known[block] = result
        return result

    def _fields(self, block: bytes) -> tuple[list[Field] | None, int, bool]:
        """The list, None if it is too large; its size; and whether the table stays as it was.

        A list that is too large is decoded to its end, but not kept: the table goes on with the next block.
        """
        table, fields, size = self._table, list[Field](), 0
        keeps_table, at, end = True, 0, len(block)
        while at < end:
            first = block[at]
            if first & _INDEXED:
                index, at = _number(block, at, 0x7F)
                field = table.get_by_index(index)
            elif first & 0xE0 == _TABLE_SIZE:
                at = self._resize(block, at, is_first=not size)
                keeps_table = False
                continue
            else:
                index, at = _number(block, at, 0x3F if first & _REMEMBERED else 0x0F)
                if index:
                    name = table.get_by_index(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                field = (name, value)
                if first & _REMEMBERED:
                    table.add(name, value)
                    keeps_table = False
            size += len(field[0]) + len(field[1]) + FIELD_BYTES
            if size <= self._max_bytes:
                fields.append(field)
        return (fields if size <= self._max_bytes else None), size, keeps_table

    def _resize(self, block: bytes, at: int, *, is_first: bool) -> int:
        size, at = _number(block, at, 0x1F)
        if not is_first or size > TABLE_BYTES:
            raise ConnectionFault(
                ErrorCode.COMPRESSION_ERROR, "a change of the header table's size that is not allowed"
            )
        self._table.maxsize = size
        return at


def _number(block: bytes, at: int, most: int) -> tuple[int, int]:
    """An integer in the low bits of a byte, and in more bytes if these are all set (section 5.1)."""
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    for shift in range(0, 7 * _MAX_NUMBER_BYTES, 7):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a number in a header block that is far too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    """A name or a value (section 5.2)."""
    is_huffman = block[at] & 0x80
    size, at = _number(block, at, 0x7F)
    text = block[at : at + size]
    if len(text) != size:
        raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block that ends inside a field")
    return (decode_huffman(text) if is_huffman else text), at + size


# ---------------------------------------------------------------- encoding


def encode(fields: Iterable[Field]) -> bytes:
    """A header block that leaves the other end's table as it is."""
    return b"".join(map(_encode_field, fields))


def _encode_field(field: Field) -> bytes:
    if (index := _WHOLE.get(field)) is not None:
        return bytes([_INDEXED | index])
    name, value = field
    if (index := _NAMES.get(name)) is not None:
        return _encode_number(index, 0x0F) + _encode_text(value)
    return b"\x00" + _encode_text(name) + _encode_text(value)


def _encode_text(text: bytes) -> bytes:
    return _encode_number(len(text), 0x7F) + text


def _encode_number(number: int, most: int) -> bytes:
    if number < most:
        return bytes([number])
    number -= most
    encoded = bytearray([most])
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
