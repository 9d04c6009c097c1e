"""The node's own part of each snapshot: the members, the ids of removed nodes, and the feature level.

Every node replicates this, whatever its state machine is. The configuration itself (who votes) is in the
snapshot's metadata, since the core needs it (`raft/types.py`, ConfState).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import cbor2

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ConfigError, CorruptLog, DecodeError, UpgradeNeeded
from raftkv_trio.payload.cbor import MAX_INTEGER_KEYS_BYTES, boolean, decode_payload, integer, items, text
from raftkv_trio.payload.levels import HIGHEST, RELEASED

_VERSION = 3  # version 1 had addresses only
#: What is written while the level is `RELEASED`, so that every member can read it.
_RELEASED_VERSION = 2


class Member(NamedTuple):
    """One member of the cluster.

    Attributes:
        address: where it listens for other members.
        is_promoted_by_hand: if it is a learner: an operator makes it a voter, not the leader by itself.
    """

    address: PeerAddress
    is_promoted_by_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The members as of some index of the log.

    Attributes:
        members: by node id.
        removed: by node id, the index of the entry that removed it. Ids stay here for ever: a removed id is
            never taken again.
        level: the feature level of the cluster.
        level_since: the index from which on the cluster has it; 0 for `RELEASED`.
    """

    members: Mapping[int, Member]
    removed: Mapping[int, int] = field(default_factory=dict)
    level: int = RELEASED
    level_since: int = 0

    @classmethod
    def of(cls, addresses: Mapping[int, PeerAddress], *, level: int = RELEASED, since: int = 0) -> "Envelope":
        """An envelope of members at these addresses, without removed ids."""
        members = {i: Member(address) for i, address in addresses.items()}
        return cls(members=members, level=level, level_since=since if level > RELEASED else 0)

    @property
    def addresses(self) -> dict[int, PeerAddress]:
        """Where each member listens, by node id."""
        return {i: member.address for i, member in self.members.items()}

    def encode(self) -> bytes:
        """As CBOR; the same bytes on every node, since the order is that of the ids."""
        members = [[i, m.address.url, m.is_promoted_by_hand] for i, m in sorted(self.members.items())]
        removed = [list(pair) for pair in sorted(self.removed.items())]
        if self.level == RELEASED:
            return cbor2.dumps([_RELEASED_VERSION, members, removed])
        return cbor2.dumps([_VERSION, members, removed, self.level, self.level_since])

    @classmethod
    def decode(cls, data: bytes, *, highest_level: int = HIGHEST) -> "Envelope":
        """What `encode` made. Raises UpgradeNeeded if a newer version made it, or it has a higher level.

        Raises CorruptLog for other bytes: a CRC protects them, so a bug or damage made them.
        """
        envelope = cls._decode(data)
        if envelope.level > highest_level:
            raise UpgradeNeeded("the snapshot is", envelope.level, highest_level, of="feature level")
        return envelope

    @classmethod
    def _decode(cls, data: bytes) -> "Envelope":
        try:
            # Version 1 has the ids as keys.
            match decode_payload(data, integer_keys=len(data) <= MAX_INTEGER_KEYS_BYTES):
                case [1, dict(urls)]:
                    return cls.of({integer(i): PeerAddress.parse(text(url)) for i, url in urls.items()})
                case [2, members, removed]:
                    return cls(
                        members=dict([_unpack_member(item) for item in items(members)]),
                        removed={integer(i): integer(index) for i, index in items(removed)},
                    )
                case [3, members, removed, level, since] if integer(level) > RELEASED and integer(since):
                    return cls(
                        members=dict([_unpack_member(item) for item in items(members)]),
                        removed={integer(i): integer(index) for i, index in items(removed)},
                        level=level,
                        level_since=since,
                    )
                case [int(version), *_] if version > _VERSION:
                    raise UpgradeNeeded("the snapshot has an envelope", version, _VERSION)
        except (DecodeError, ConfigError, ValueError, TypeError) as error:
            raise CorruptLog(f"the snapshot's envelope cannot be read: {error}") from error
        raise CorruptLog("the snapshot's envelope cannot be read")


def _unpack_member(value: object) -> tuple[int, Member]:
    node_id, url, is_promoted_by_hand = items(value, 3)
    return integer(node_id), Member(PeerAddress.parse(text(url)), boolean(is_promoted_by_hand))
