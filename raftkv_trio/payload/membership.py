"""Who is in the cluster: what a change asks for, its bytes, and the members as of what is applied.

Which change may be appended the leader alone decides, when it has applied all earlier ones (`changes.py`); so
the configuration that an entry meets is the one that it was checked against, and applying never refuses.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import cbor2

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ChangeRefused, ConfigError, CorruptLog, NoSuchMember, PeerProtocolError
from raftkv_trio.payload.cbor import boolean, decode_payload, integer, items, optional_text
from raftkv_trio.payload.envelope import Envelope, Member
from raftkv_trio.payload.proposal import ProposalId, decode_proposal, encode_proposal
from raftkv_trio.raft.confchange import (
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    all_members,
    all_voters,
    apply_change,
    decode_conf_change,
)
from raftkv_trio.raft.errors import InvalidConfiguration
from raftkv_trio.raft.types import ConfState, Entry

_VERSION = 1


class Action(IntEnum):
    """What happens to one member; the numbers stand in logs."""

    ADD = 0  # as a learner
    REMOVE = 1
    PROMOTE = 2
    UPDATE = 3


_CONF_CHANGE_TYPES = {
    Action.ADD: ConfChangeType.ADD_LEARNER,
    Action.REMOVE: ConfChangeType.REMOVE,
    Action.PROMOTE: ConfChangeType.ADD_VOTER,
    Action.UPDATE: ConfChangeType.UPDATE,
}


class MemberChange(NamedTuple):
    """One member's change; `address` of ADD and UPDATE."""

    action: Action
    node_id: int
    address: PeerAddress | None = None
    is_promoted_by_hand: bool = False


class ChangeRequest(NamedTuple):
    """Changes that take effect together, through a joint configuration where they are several.

    `is_forced`: append it even where those that answer now would be no quorum afterwards.
    """

    changes: tuple[MemberChange, ...]
    is_forced: bool = False

    def encode(self) -> bytes:
        changes = [
            [int(c.action), c.node_id, c.address and c.address.url, c.is_promoted_by_hand]
            for c in self.changes
        ]
        return cbor2.dumps([_VERSION, changes, self.is_forced])

    @classmethod
    def decode(cls, data: bytes) -> "ChangeRequest":
        """What `encode` made; raises PeerProtocolError."""
        version, changes, is_forced = items(decode_payload(data), 3)
        if integer(version) != _VERSION:
            raise PeerProtocolError(f"a change of members has version {version}, not {_VERSION}")
        return cls(tuple([_unpack_change(item) for item in items(changes)]), boolean(is_forced))

    def conf_change(self, proposal_id: ProposalId) -> ConfChangeV2:
        """What the core is to append for it."""
        changes = [ConfChangeSingle(_CONF_CHANGE_TYPES[c.action], c.node_id) for c in self.changes]
        return ConfChangeV2(tuple(changes), context=encode_proposal(proposal_id, self.encode()))


def _unpack_change(value: object) -> MemberChange:
    action, node_id, url, is_promoted_by_hand = items(value, 4)
    try:
        address = None if url is None else PeerAddress.parse(optional_text(url) or "")
        change = MemberChange(
            Action(integer(action)), integer(node_id), address, boolean(is_promoted_by_hand)
        )
    except (ConfigError, ValueError) as error:
        raise PeerProtocolError(f"a change of a member cannot be read: {error}") from error
    if (address is None) == (change.action in (Action.ADD, Action.UPDATE)):
        raise PeerProtocolError(f"{change.action.name} of node {node_id} has an address too few or too many")
    return change


class Membership:
    """The members as of what is applied here. The applier changes it; all others read it.

    Attributes:
        conf_state: the configuration.
        envelope: addresses, and ids that were removed.

    Args:
        changed: called with the new envelope after each change.
    """

    def __init__(
        self,
        envelope: Envelope,
        conf_state: ConfState,
        changed: Callable[[Envelope], None] = lambda envelope: None,
    ) -> None:
        self._changed = changed
        self.envelope = envelope
        self.conf_state = conf_state

    def restore(self, envelope: Envelope, conf_state: ConfState) -> None:
        """A snapshot has replaced everything."""
        self.envelope, self.conf_state = envelope, conf_state
        self._changed(self.envelope)

    def apply(self, entry: Entry) -> ProposalId | None:
        """Apply a conf change's entry; who had proposed it, if anybody. Raises CorruptLog."""
        try:
            change = decode_conf_change(entry).as_v2()
            self.conf_state = apply_change(self.conf_state, change).conf_state
            proposal_id, request = _unpack_context(change.context)
        except (InvalidConfiguration, PeerProtocolError) as error:
            raise CorruptLog(
                f"committed entry {entry.index}, a conf change, cannot be applied: {error}"
            ) from error
        self._update(entry.index, request)
        self._changed(self.envelope)
        return proposal_id

    def _update(self, index: int, request: ChangeRequest) -> None:
        members = dict(self.envelope.members)
        for change in request.changes:
            if change.action is Action.ADD and change.address is not None:
                members[change.node_id] = Member(change.address, change.is_promoted_by_hand)
            elif change.action is Action.UPDATE and change.address is not None:
                members[change.node_id] = members[change.node_id]._replace(address=change.address)
        gone = members.keys() - set(all_members(self.conf_state))
        self.envelope = Envelope(
            members={i: member for i, member in members.items() if i not in gone},
            removed={**self.envelope.removed, **dict.fromkeys(sorted(gone), index)},
        )

    # ------------------------------------------------------------ what cannot be asked for

    def objection(self, request: ChangeRequest) -> ChangeRefused | None:
        """Why this request makes no sense for these members, whoever answers now; None where it does."""
        ids = [change.node_id for change in request.changes]
        if len(set(ids)) < len(ids) or not ids:
            return ChangeRefused("a change names each member that it is about, and each once")
        for change in request.changes:
            if (objection := self._objection(change)) is not None:
                return objection
        if (objection := self._shared_address(request)) is not None:
            return objection
        removed = {change.node_id for change in request.changes if change.action is Action.REMOVE}
        promoted = {change.node_id for change in request.changes if change.action is Action.PROMOTE}
        if not ({*self.conf_state.voters} - removed) | promoted:
            return ChangeRefused("the last voter cannot be removed; add another first, or stop the node")
        return None

    def _objection(self, change: MemberChange) -> ChangeRefused | None:
        node_id, members, removed = change.node_id, self.envelope.members, self.envelope.removed
        if node_id < 1:
            return ChangeRefused("a node id is a positive integer")
        if change.action is Action.ADD:
            if node_id in members:
                return ChangeRefused(f"node {node_id} is a member already, at {members[node_id].address.url}")
            if node_id in removed:
                return ChangeRefused(
                    f"node {node_id} was removed, and a removed id is never taken again; choose another id"
                )
        elif node_id not in members:
            was = ": it was removed" if node_id in removed else ""
            return NoSuchMember(f"node {node_id} is no member of this cluster{was}")
        elif change.action is Action.PROMOTE and node_id in all_voters(self.conf_state):
            return ChangeRefused(f"node {node_id} is a voter already")
        return None

    def _shared_address(self, request: ChangeRequest) -> ChangeRefused | None:
        """Whether two members would have one address afterwards; one that goes leaves its own to another."""
        ids: dict[PeerAddress, int] = {}
        for node_id, address in self._addresses_after(request).items():
            if (other_id := ids.setdefault(address, node_id)) != node_id:
                return ChangeRefused(f"{address.url} is the address of node {other_id}")
        return None

    def _addresses_after(self, request: ChangeRequest) -> dict[int, PeerAddress]:
        addresses = self.envelope.addresses
        for change in request.changes:
            if change.action is Action.REMOVE:
                del addresses[change.node_id]
            elif change.address is not None:
                addresses.pop(change.node_id, None)  # who asks for an address comes behind who has it
                addresses[change.node_id] = change.address
        return addresses


def _unpack_context(context: bytes) -> tuple[ProposalId | None, ChangeRequest]:
    if not context:  # the end of a joint configuration, which whoever leads proposes
        return None, ChangeRequest(())
    proposal_id, data = decode_proposal(context)
    return proposal_id, ChangeRequest.decode(data)
