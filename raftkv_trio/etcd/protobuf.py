"""Pieces of protobuf's encoding, for messages that are put together thousands of times a second."""


def field(tag: bytes, content: bytes) -> bytes:
    """A field that has a length: bytes, or a message."""
    return tag + varint(len(content)) + content


def varint(number: int) -> bytes:
    """A number; a negative one by its 64 bits."""
    if 0 <= number <= 0x7F:
        return bytes((number,))
    number &= 2**64 - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
