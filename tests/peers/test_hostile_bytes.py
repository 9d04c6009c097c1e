"""Bytes that a hostile member sends: refused before the node makes anything of them."""

import struct
from pathlib import Path
from zlib import crc32

import pytest

from tests.peers.hostile import besieged
from tests.test_strict_cbor import colliding, empty_lists


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(colliding(20_000), "not valid CBOR"), (empty_lists(263_000), "more than 262144 items")],
    ids=["keys that collide", "many items"],
)
async def test_a_frame_that_is_costly_to_decode_ends_its_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, payload: bytes, reason: str
) -> None:
    """The log says why; the node goes on, and starts again."""
    async with besieged(tmp_path) as siege:
        terms = siege.terms()
        async with siege.member(to=1).speaking() as stream:
            await stream.send(struct.pack(">II", len(payload), crc32(payload)) + payload)
            await stream.wait_closed()
        await siege.until(lambda: reason in caplog.text)
        await siege.check_unharmed(terms=terms)
        await siege.check_starts_again()
