"""The members of the cluster: requests to change them, their form in the log, and the members at present.

Only the leader decides whether a change may be appended, and only after it has applied all earlier changes
(`node/driver/membership_changes.py`). So each entry is applied to the same members for which the leader has
checked it, and applying one never refuses it.

The entry that raises the cluster's feature level (`levels.py`) is of the same kind, although it changes no
member: the core lets one such entry after the other into the log. So no member can be added between the
leader's look at what the members know and the entry that rests on it.
"""

import logging
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import cbor2

from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import (
    ChangeRefused,
    ConfigError,
    CorruptLog,
    DecodeError,
    NoSuchMember,
    UpgradeNeeded,
)
from raftkv_trio.payload.cbor import MAX_MEMBERS, boolean, decode_payload, integer, items, optional_text
from raftkv_trio.payload.envelope import Envelope, Member
from raftkv_trio.payload.levels import HIGHEST, RELEASED
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
from raftkv_trio.raft.types import ConfState, Entry, EntryType

logger = logging.getLogger(__name__)

_VERSION = 1
#: Of what raises the feature level. A program that does not know levels refuses it as of a newer version.
_RAISE_VERSION = 2
#: For the core, raising the level updates what is known of a member; of none, as no node has id 0.
_RAISE = ConfChangeSingle(ConfChangeType.UPDATE, 0)


class Action(IntEnum):
    """What happens to one member. The numbers are part of the log's format."""

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
    """The change of one member.

    Attributes:
        action: what happens to it.
        node_id: which member, or for ADD, which node becomes one.
        address: where it listens for members from then on, for ADD and UPDATE; else None.
        is_promoted_by_hand: for ADD, whether the learner stays one until an operator promotes it; else the
            leader promotes it when it has caught up.
    """

    action: Action
    node_id: int
    address: PeerAddress | None = None
    is_promoted_by_hand: bool = False


class ChangeRequest(NamedTuple):
    """Changes of members that take effect together; if they are several, through a joint configuration.

    Attributes:
        changes: at most one for each member.
        is_forced: append it even if the members that respond now would not form a quorum afterwards.
        raises_to: the new feature level of the cluster, if it raises that; then it changes no member.
    """

    changes: tuple[MemberChange, ...]
    is_forced: bool = False
    raises_to: int | None = None

    def encode(self) -> bytes:
        """As CBOR: what follows the proposal's id in the conf change's context, and when it is forwarded."""
        if self.raises_to is not None:
            return cbor2.dumps([_RAISE_VERSION, self.raises_to, False])
        changes = [
            [int(c.action), c.node_id, c.address and c.address.url, c.is_promoted_by_hand]
            for c in self.changes
        ]
        return cbor2.dumps([_VERSION, changes, self.is_forced])

    @classmethod
    def decode(cls, data: bytes) -> "ChangeRequest":
        """The request that `encode` wrote; raises DecodeError for any other bytes."""
        version, changes, is_forced = items(decode_payload(data), 3)
        if integer(version) == _RAISE_VERSION:
            boolean(is_forced)
            if integer(changes) <= RELEASED:
                raise DecodeError(f"an entry that raises the feature level to {changes}")
            return cls((), raises_to=changes)
        if version != _VERSION:
            raise DecodeError(
                f"a change of members has version {version}; this program reads versions up to"
                f" {_RAISE_VERSION}: upgrade this node"
            )
        return cls(tuple([_unpack_change(item) for item in items(changes)]), boolean(is_forced))

    @property
    def conf_change_parts(self) -> tuple[ConfChangeSingle, ...]:
        """What the core does for each of the changes."""
        if self.raises_to is not None:
            return (_RAISE,)
        return tuple([ConfChangeSingle(_CONF_CHANGE_TYPES[c.action], c.node_id) for c in self.changes])

    def conf_change(self, proposal_id: ProposalId) -> ConfChangeV2:
        """The conf change that the core appends for this request."""
        return ConfChangeV2(self.conf_change_parts, context=encode_proposal(proposal_id, self.encode()))


def _unpack_change(value: object) -> MemberChange:
    action, node_id, url, is_promoted_by_hand = items(value, 4)
    try:
        address = None if url is None else PeerAddress.parse(optional_text(url) or "")
        change = MemberChange(
            Action(integer(action)), integer(node_id), address, boolean(is_promoted_by_hand)
        )
    except (ConfigError, ValueError) as error:
        raise DecodeError(f"a change of a member cannot be read: {error}") from error
    if (address is None) == (change.action in (Action.ADD, Action.UPDATE)):
        has = "no address" if address is None else "an address"
        raise DecodeError(f"a change of a member cannot be read: {change.action.name} with {has}")
    return change


class Membership:
    """The members as of the last entry that is applied here. The applier changes it; all others read it.

    Args:
        envelope, conf_state: see Attributes; as of the newest snapshot.
        changed: called with the new envelope after each change.
        highest_level: see Attributes.

    Attributes:
        envelope: the members' addresses, the removed ids, and the feature level.
        highest_level: the highest feature level that this node knows.
        conf_state: the configuration: who votes and who learns.
    """

    def __init__(
        self,
        envelope: Envelope,
        conf_state: ConfState,
        changed: Callable[[Envelope], None] = lambda envelope: None,
        *,
        highest_level: int = HIGHEST,
    ) -> None:
        self._changed = changed
        self.highest_level = highest_level
        self.envelope = envelope
        self.conf_state = conf_state

    def restore(self, envelope: Envelope, conf_state: ConfState) -> None:
        """A snapshot has replaced all state."""
        self.envelope, self.conf_state = envelope, conf_state
        self._changed(self.envelope)

    def apply(self, entry: Entry) -> ProposalId | None:
        """Apply the entry of a conf change, and return its proposal's id if it has one.

        Raises CorruptLog, and UpgradeNeeded if it raises the feature level above what this node knows.

        A change that does not fit the configuration changes nothing, on any node. No leader of this program
        appends such a change.
        """
        try:
            change, proposal_id, request = decode_change(entry)
        except DecodeError as error:
            raise CorruptLog(
                f"committed entry {entry.index} is a conf change that cannot be applied: {error}"
            ) from error
        if request.raises_to is not None and request.raises_to > self.highest_level:
            what = f"entry {entry.index} of the log makes the cluster one"
            raise UpgradeNeeded(what, request.raises_to, self.highest_level, of="feature level")
        try:
            self.conf_state = apply_change(self.conf_state, change).conf_state
        except InvalidConfiguration as error:
            logger.error("entry %d changes no members, since it does not fit them: %s", entry.index, error)
            return proposal_id
        self._update(entry.index, request)
        self._changed(self.envelope)
        return proposal_id

    def _update(self, index: int, request: ChangeRequest) -> None:
        members = dict(self.envelope.members)
        level, since = self.envelope.level, self.envelope.level_since
        if request.raises_to is not None and request.raises_to > level:
            level, since = request.raises_to, index
        for change in request.changes:
            if change.action is Action.ADD and change.address is not None:
                members[change.node_id] = Member(change.address, change.is_promoted_by_hand)
            elif change.action is Action.UPDATE and change.address is not None and change.node_id in members:
                members[change.node_id] = members[change.node_id]._replace(address=change.address)
        # From the configuration, not from the request: a removed member leaves with the end of the joint
        # configuration, whose entry names nobody. Until then it votes in the old half, and has to be dialled.
        gone = members.keys() - set(all_members(self.conf_state))
        self.envelope = Envelope(
            members={i: member for i, member in members.items() if i not in gone},
            removed={**self.envelope.removed, **dict.fromkeys(sorted(gone), index)},
            level=level,
            level_since=since,
        )

    # ------------------------------------------------------------ requests that make no sense

    def objection(self, request: ChangeRequest) -> ChangeRefused | None:
        """Why these members cannot be changed so, whether they respond or not; None if they can."""
        ids = [change.node_id for change in request.changes]
        if len(set(ids)) < len(ids) or not ids:
            return ChangeRefused("a change has to name at least one member, and each member only once")
        for change in request.changes:
            if (objection := self._objection(change)) is not None:
                return objection
        if (objection := self._shared_address(request)) is not None:
            return objection
        # Those that the same request removes are members until the joint configuration ends.
        added = [change for change in request.changes if change.action is Action.ADD]
        if added and len(self.envelope.members) + len(added) > MAX_MEMBERS:
            return ChangeRefused(f"a cluster has at most {MAX_MEMBERS} members; remove some first")
        removed = {change.node_id for change in request.changes if change.action is Action.REMOVE}
        promoted = {change.node_id for change in request.changes if change.action is Action.PROMOTE}
        if not ({*self.conf_state.voters} - removed) | promoted:
            return ChangeRefused("the last voter cannot be removed; add another first, or stop the node")
        return None

    def _objection(self, change: MemberChange) -> ChangeRefused | None:
        node_id, members, removed = change.node_id, self.envelope.members, self.envelope.removed
        if node_id < 1:
            return ChangeRefused("a node id must be a positive integer")
        if change.action is Action.ADD:
            if node_id in members:
                return ChangeRefused(f"node {node_id} is a member already, at {members[node_id].address.url}")
            if node_id in removed:
                return ChangeRefused(
                    f"node {node_id} was removed, and a removed id is never taken again; choose another id"
                )
        elif node_id not in members:
            was = ": it was removed" if node_id in removed else ""
            return NoSuchMember(f"node {node_id} is not a member of this cluster{was}")
        elif change.action is Action.PROMOTE and node_id in all_voters(self.conf_state):
            return ChangeRefused(f"node {node_id} is a voter already")
        return None

    def _shared_address(self, request: ChangeRequest) -> ChangeRefused | None:
        """An objection if two members would have the same address afterwards. A removed one's is free."""
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
                # Behind all others, so that the objection names the member that has the address already.
                addresses.pop(change.node_id, None)
                addresses[change.node_id] = change.address
        return addresses


def decode_change(entry: Entry) -> tuple[ConfChangeV2, ProposalId | None, ChangeRequest]:
    """What an entry says about the members: the conf change, and the proposal and request that it comes from.

    Raises DecodeError, also if the conf change is not that of the request.
    """
    try:
        change = decode_conf_change(entry).as_v2()
    except InvalidConfiguration as error:
        raise DecodeError(str(error)) from error
    proposal_id, request = None, ChangeRequest(())
    if change.context:  # else it is the end of a joint configuration, which the leader proposes by itself
        proposal_id, data = decode_proposal(change.context)
        request = ChangeRequest.decode(data)
    if change.changes != request.conf_change_parts:
        raise DecodeError(f"entry {entry.index} holds a conf change that is not the one that it says")
    return change, proposal_id, request


def raised_to(entry: Entry) -> int | None:
    """The feature level to which an entry raises the cluster's; None if it does not."""
    if entry.type is EntryType.NORMAL:
        return None
    try:
        return decode_change(entry)[2].raises_to
    except DecodeError:
        return None  # applying it ends the node, and says why
