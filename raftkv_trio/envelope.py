"""What every node replicates whatever its state machine is: the part of a snapshot that is the node's own."""

from collections.abc import Mapping
from dataclasses import dataclass

import cbor2

from raftkv_trio.config import PeerAddress
from raftkv_trio.errors import ConfigError, CorruptLog, PeerProtocolError
from raftkv_trio.plain_cbor import decode_payload

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The members' peer addresses, by id, as of a snapshot's index."""

    addresses: Mapping[int, PeerAddress]

    def encode(self) -> bytes:
        return cbor2.dumps([_VERSION, {i: self.addresses[i].url for i in sorted(self.addresses)}])

    @classmethod
    def decode(cls, data: bytes) -> "Envelope":
        """What `encode` made; raises CorruptLog, since it comes from behind a CRC."""
        try:
            version, urls = decode_payload(data)
            if version != _VERSION:
                raise CorruptLog(
                    f"the snapshot's envelope has version {version}, this program knows {_VERSION}"
                )
            return cls(addresses={int(i): PeerAddress.parse(url) for i, url in urls.items()})
        except (PeerProtocolError, ConfigError, ValueError, TypeError, AttributeError) as error:
            raise CorruptLog(f"the snapshot's envelope cannot be read: {error}") from error
