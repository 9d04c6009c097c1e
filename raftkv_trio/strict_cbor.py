"""CBOR that somebody else may have made: decoded so that time and memory are bounded by its length.

A frame, a command, a snapshot's chunk and a file in the data directory are decoded here and nowhere else. Of
CBOR (RFC 8949) only the plain part is accepted: no semantic tags, no items of indefinite length. The caller
names the deepest nesting, and the most items, of its own form. What the items mean it checks field by field.
"""

import gc
from collections.abc import Callable
from typing import Any, NoReturn

import cbor2

from raftkv_trio.errors import DecodeError


class _EveryTag(dict[int, Callable[[object, bool], NoReturn]]):
    """Of each semantic tag the decoder that refuses it; it keeps no tag that was asked for."""

    def __missing__(self, tag: int) -> Callable[[object, bool], NoReturn]:
        return _refuse_tag


def _refuse_tag(decoder: object, immutable: bool) -> NoReturn:
    raise ValueError("a semantic tag")


_EVERY_TAG = _EveryTag()
#: Shorter data make so few objects that collections do not matter.
_COLLECTED_BYTES = 16 * 1024


def decode(data: bytes, *, max_depth: int, max_items: int, integer_keys: bool = False) -> Any:
    """The value that `data` encodes: integers, bytes, texts, floats, lists, maps, simple values.

    Keys of maps are texts and bytes. Others can be chosen so that all have the same hash, and then each new
    key is compared with all before it; the hashes of texts and bytes depend on a secret of the process. With
    `integer_keys` they may be other values too, and the caller bounds the length.

    Raises DecodeError, and nothing else, if it is no plain CBOR, is nested deeper, or has more items.
    """
    # An item has at least one byte, so short data need not be counted.
    if len(data) > max_items and _has_more_items(data, max_items):
        raise DecodeError(f"not valid CBOR: more than {max_items} items")
    # A decoded value has no cycles. But the garbage collector runs whenever many lists are new, and looks
    # through them all again and again: four fifths of the time for a frame of empty lists.
    is_collecting = len(data) >= _COLLECTED_BYTES and gc.isenabled()
    if is_collecting:
        gc.disable()
    try:
        return cbor2.loads(
            data,
            max_depth=max_depth,
            allow_indefinite=False,
            strict_hashable_types=not integer_keys,
            semantic_decoders=_EVERY_TAG,
        )
    except (  # cbor2 raises all of these for some bytes, not only its own error
        cbor2.CBORError,
        RecursionError,
        MemoryError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
    ) as error:
        raise DecodeError(f"not valid CBOR: {error}") from error
    finally:
        if is_collecting:
            gc.enable()


_STRINGS = (2, 3)  # major types: bytes, text
_ONE_BYTE, _EIGHT_BYTES = 24, 27  # the argument follows the first byte, in 1, 2, 4 or 8 bytes


def _head_bytes(head: int) -> int:
    """How many bytes of an item come before the next one, by the first of them; 0 if that does not tell.

    What a list or a map holds are items of their own. The first byte of a string does not tell its length.
    """
    kind, argument = head >> 5, head & 31
    if kind in _STRINGS or argument > _EIGHT_BYTES:
        return 0
    return 1 if argument < _ONE_BYTE else 1 + (1 << (argument - _ONE_BYTE))


_HEAD_BYTES = [_head_bytes(head) for head in range(256)]


def _has_more_items(data: bytes, max_items: int) -> bool:
    """Whether more than `max_items` items follow each other in `data`, if it is well-formed."""
    # An empty list is one byte here and 64 in memory: so it is counted before it is made. A loop of few
    # operations, since frames of a megabyte come here.
    at = 0
    try:
        for _ in range(max_items + 1):
            step = _HEAD_BYTES[data[at]]
            if not step:
                argument = data[at] & 31
                if argument > _EIGHT_BYTES:
                    return False  # of indefinite length, or no item: refused by the decoder
                if argument < _ONE_BYTE:
                    step = 1 + argument
                else:
                    begin = at + 1
                    end = begin + (1 << (argument - _ONE_BYTE))
                    step = end - at + int.from_bytes(data[begin:end], "big")
            at += step
    except IndexError:  # the end is reached, maybe in the middle of an item, which the decoder refuses
        return False
    return True
