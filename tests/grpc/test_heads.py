"""Header lists: we read what hpack encodes, hpack reads what we encode, and other bytes are a fault."""

from math import inf

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv_trio.grpc import Code
from raftkv_trio.grpc.frames import ConnectionFault, ErrorCode
from raftkv_trio.grpc.header_table import Field, HeadDecoder, encode
from raftkv_trio.grpc.heads import (
    escape_text,
    read_request_head,
    read_response_head,
    request_block,
    timeout_block,
    trailers_only,
)

names = st.one_of(
    st.sampled_from([b":path", b":method", b"content-type", b"te", b"user-agent", b"grpc-timeout"]),
    st.binary(min_size=1, max_size=20),
)
fields = st.tuples(names, st.one_of(st.sampled_from([b"", b"POST", b"trailers"]), st.binary(max_size=300)))
lists = st.lists(fields, max_size=12)


def our_decoder(max_bytes: int = 2**20) -> HeadDecoder[list[Field] | None]:
    return HeadDecoder(max_bytes, lambda fields: fields)


@settings(max_examples=100, derandomize=True)
@given(heads=st.lists(st.tuples(lists, st.booleans(), st.sampled_from([None, 0, 50, 4096])), max_size=8))
def test_we_read_what_hpack_encodes(heads: list[tuple[list[Field], bool, int | None]]) -> None:
    """Heads of one connection, each three times, with Huffman and without, with tables of any size."""
    encoder, decoder = hpack.Encoder(), our_decoder()
    for head, huffman, table_bytes in heads:
        if table_bytes is not None:
            encoder.header_table_size = table_bytes
        for _ in range(3):
            assert decoder.decode(encoder.encode(head, huffman=huffman)) == head


@settings(max_examples=100, derandomize=True)
@given(lists)
def test_hpack_reads_what_we_encode(head: list[Field]) -> None:
    """And its table stays as it was, so that no order of our heads matters."""
    decoder = hpack.Decoder()
    assert list(decoder.decode(encode(head), raw=True)) == head
    assert not decoder.header_table.dynamic_entries


@settings(max_examples=150, derandomize=True)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_are_a_list_or_a_fault(blocks: list[bytes]) -> None:
    """No other error leaves the decoder. Where hpack takes a block, so do we, and read the same."""
    ours, theirs = our_decoder(), hpack.Decoder()
    for block in blocks:
        try:
            expected = list(theirs.decode(block, raw=True))
        except (hpack.HPACKError, IndexError):  # where a block ends inside a field, hpack lets the latter out
            expected = None
        if expected is None:
            with pytest.raises(ConnectionFault) as caught:
                ours.decode(block)
            assert caught.value.code == ErrorCode.COMPRESSION_ERROR
            return
        assert ours.decode(block) == expected


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x40\x01a\x7f\x81\x1e" + b"b" * 4000 + b"\xbe" * 4000,  # one entry of the table, again and again
        hpack.Encoder().encode([(b"a", b"0" * 15000)] * 2),  # Huffman: 10,000 bytes that are 30,000
        b"\x82" * 1000,  # the static table
        b"\x00\x00\x00" * 1000,  # fields without anything, which count 32 bytes
    ],
)
def test_bombs(bomb: bytes) -> None:
    """A list beyond the bound is not kept, and the next block is read as if nothing had been."""
    decoder = our_decoder(16 * 1024)
    assert decoder.decode(bomb) is None
    assert decoder.decode(b"\x83") == [(b":method", b"POST")]


def test_a_block_that_changes_the_table_is_not_remembered() -> None:
    """The same bytes mean something else the next time."""
    decoder = our_decoder()
    assert decoder.decode(b"\x40\x01a\x011") == [(b"a", b"1")]
    assert decoder.decode(b"\xbe") == [(b"a", b"1")]
    assert decoder.decode(b"\x40\x01b\x012") == [(b"b", b"2")]
    assert decoder.decode(b"\xbe") == [(b"b", b"2")]
    assert decoder.decode(b"\x20") == []
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbe")


@settings(max_examples=100, derandomize=True)
@given(st.text())
def test_texts_of_statuses(text: str) -> None:
    """They pass through `grpc-message` unchanged, in visible ASCII, unless they are very long."""
    text = text.encode(errors="replace").decode()
    escaped = escape_text(text)
    assert escaped.isascii()
    assert not any(byte < 0x20 or byte == 0x7F for byte in escaped)
    block = trailers_only(Code.NOT_FOUND, text)
    head = read_response_head(our_decoder().decode(block))
    assert head.error is not None
    assert (head.error.code, head.error.text) == (Code.NOT_FOUND, text)


def test_a_very_long_text_is_cut_between_characters() -> None:
    """So that what arrives is text, and fits into a client's bound for fields."""
    block = trailers_only(Code.INTERNAL, "x" + "€" * 10_000)
    assert len(block) < 8000
    error = read_response_head(our_decoder().decode(block)).error
    assert error is not None
    assert error.text.startswith("x€€€")
    assert len(error.text) > 400


@settings(max_examples=100, derandomize=True)
@given(st.floats(min_value=0, max_value=1e9))
def test_timeouts(timeout_s: float) -> None:
    """A server reads what the client has left, or up to a tenth more."""
    block = request_block("/a/b", "http", "localhost", {}) + timeout_block(timeout_s)
    head = read_request_head(our_decoder().decode(block))
    assert head.refusal is None
    assert timeout_s <= head.timeout_s <= timeout_s * 1.11 + 2e-6


def test_no_timeout() -> None:
    """An infinite one is not sent."""
    head = read_request_head(our_decoder().decode(request_block("/a/b", "http", "x", {"k": "v"})))
    assert (head.timeout_s, dict(head.metadata)) == (inf, {"k": "v"})


@settings(max_examples=150, derandomize=True)
@given(lists)
def test_any_list_is_read(head: list[Field]) -> None:
    """Readers of heads raise nothing."""
    read_request_head(head)
    read_response_head(head)
