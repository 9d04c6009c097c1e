"""What every node replicates whatever its state machine is: the part of a snapshot that is the node's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import cbor2

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError, CorruptLog, PeerProtocolError
from raftkv_trio.payload.cbor import boolean, decode_payload, integer, items, text

_VERSION = 2  # of version 1 were addresses alone


class Member(NamedTuple):
    """One member: where its peers reach it, and whether it is an operator who makes a voter of it."""

    address: PeerAddress
    is_promoted_by_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The members by id, and at which index each id that is no more was removed, as of a snapshot's index."""

    members: Mapping[int, Member]
    removed: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, addresses: Mapping[int, PeerAddress]) -> "Envelope":
        """That of a new cluster."""
        return cls(members={i: Member(address) for i, address in addresses.items()})

    @property
    def addresses(self) -> dict[int, PeerAddress]:
        return {i: member.address for i, member in self.members.items()}

    def encode(self) -> bytes:
        members = [[i, m.address.url, m.is_promoted_by_hand] for i, m in sorted(self.members.items())]
        return cbor2.dumps([_VERSION, members, [list(pair) for pair in sorted(self.removed.items())]])

    @classmethod
    def decode(cls, data: bytes) -> "Envelope":
        """What `encode` made; raises CorruptLog, since it comes from behind a CRC."""
        try:
            match decode_payload(data):
                case [1, dict(urls)]:
                    return cls.of({integer(i): PeerAddress.parse(text(url)) for i, url in urls.items()})
                case [2, members, removed]:
                    return cls(
                        members=dict([_unpack_member(item) for item in items(members)]),
                        removed={integer(i): integer(index) for i, index in items(removed)},
                    )
                case [int(version), *_] if version > _VERSION:
                    raise CorruptLog(
                        f"the snapshot's envelope has version {version}, this program knows {_VERSION}"
                    )
        except (PeerProtocolError, ConfigError, ValueError, TypeError) as error:
            raise CorruptLog(f"the snapshot's envelope cannot be read: {error}") from error
        raise CorruptLog("the snapshot's envelope cannot be read")


def _unpack_member(value: object) -> tuple[int, Member]:
    node_id, url, is_promoted_by_hand = items(value, 3)
    return integer(node_id), Member(PeerAddress.parse(text(url)), boolean(is_promoted_by_hand))
