"""The Cluster service: the members, and changes of them.

Ids are ours: small numbers that name a node for ever. etcd draws them at random; here a new member has the
id after the highest one that was ever in use. A member that is added votes once it has caught up, which the
leader decides; as a learner it waits to be promoted.
"""

from collections.abc import Sequence

from raftkv_trio.access import ReplicatedStore
from raftkv_trio.addresses import PeerAddress
from raftkv_trio.errors import ChangeRefused, ConfigError
from raftkv_trio.etcd.calls import Call
from raftkv_trio.etcd.errors import Fault
from raftkv_trio.etcd.headers import header_of
from raftkv_trio.payload.membership import Action, ChangeRequest, MemberChange
from raftkv_trio.schema import rpc_pb2


class ClusterHandlers:
    """Answers the calls of the Cluster service.

    Args:
        replicated: the node, and its store.

    Every method raises RpcError, and ProposalError. Cancellation gives a change up; it may or may not be
    applied.
    """

    def __init__(self, replicated: ReplicatedStore) -> None:
        self._replicated = replicated
        self._node = replicated.node

    async def member_list(self, request: rpc_pb2.MemberListRequest, call: Call) -> rpc_pb2.MemberListResponse:
        """The members, as this node has applied them."""
        self._replicated.store.auth.check_user(call.actor)
        return rpc_pb2.MemberListResponse(header=header_of(self._replicated), members=self._members())

    async def member_add(self, request: rpc_pb2.MemberAddRequest, call: Call) -> rpc_pb2.MemberAddResponse:
        """Add a member; its node is to be started with the id of the answer, and `--join`."""
        await self._check_root(call)
        address = _address(request.peerURLs)
        self._check_free(address)
        node_id = self._node.next_free_id
        await self._change(Action.ADD, node_id, address, is_promoted_by_hand=request.isLearner)
        members = self._members()
        # It may be removed again already; it was added all the same.
        added = rpc_pb2.Member(ID=node_id, peerURLs=[address.url], isLearner=request.isLearner)
        return rpc_pb2.MemberAddResponse(
            header=header_of(self._replicated),
            member=next((member for member in members if node_id == member.ID), added),
            members=members,
        )

    async def member_remove(
        self, request: rpc_pb2.MemberRemoveRequest, call: Call
    ) -> rpc_pb2.MemberRemoveResponse:
        """Remove a member; its process learns of it, and ends."""
        await self._check_root(call)
        self._find(request.ID)
        await self._change(Action.REMOVE, request.ID)
        return rpc_pb2.MemberRemoveResponse(header=header_of(self._replicated), members=self._members())

    async def member_update(
        self, request: rpc_pb2.MemberUpdateRequest, call: Call
    ) -> rpc_pb2.MemberUpdateResponse:
        """Change the URL at which a member listens for the others."""
        await self._check_root(call)
        address = _address(request.peerURLs)
        self._find(request.ID)
        self._check_free(address, besides=request.ID)
        await self._change(Action.UPDATE, request.ID, address)
        return rpc_pb2.MemberUpdateResponse(header=header_of(self._replicated), members=self._members())

    async def member_promote(
        self, request: rpc_pb2.MemberPromoteRequest, call: Call
    ) -> rpc_pb2.MemberPromoteResponse:
        """Make a learner that has caught up a voter."""
        await self._check_root(call)
        if not self._find(request.ID).isLearner:
            raise Fault.NOT_A_LEARNER.error()
        try:
            await self._change(Action.PROMOTE, request.ID)
        except ChangeRefused:
            raise Fault.LEARNER_NOT_READY.error() from None
        return rpc_pb2.MemberPromoteResponse(header=header_of(self._replicated), members=self._members())

    async def _check_root(self, call: Call) -> None:
        """Raise AuthFailed unless root asks. Members are no part of the store, which so cannot check it."""
        # A node that lags, or has joined a moment ago, may not know yet that users are checked.
        await self._replicated.wait_readable()
        self._replicated.store.auth.check_root(call.actor)

    async def _change(
        self,
        action: Action,
        node_id: int,
        address: PeerAddress | None = None,
        *,
        is_promoted_by_hand: bool = False,
    ) -> None:
        change = MemberChange(action, node_id, address, is_promoted_by_hand)
        await self._replicated.change_members(ChangeRequest((change,)))

    def _members(self) -> list[rpc_pb2.Member]:
        return [
            rpc_pb2.Member(
                ID=member.id,
                name=f"node{member.id}",
                peerURLs=[member.url],
                clientURLs=[member.etcd_url] if member.etcd_url else [],
                isLearner=member.role == "learner",
            )
            for member in self._node.members()
        ]

    def _find(self, node_id: int) -> rpc_pb2.Member:
        for member in self._members():
            if node_id == member.ID:
                return member
        raise Fault.MEMBER_NOT_FOUND.error()

    def _check_free(self, address: PeerAddress, besides: int | None = None) -> None:
        for node_id, taken in self._node.addresses.items():
            if node_id != besides and taken == address:
                raise Fault.URL_EXISTS.error()


def _address(urls: Sequence[str]) -> PeerAddress:
    """The one URL at which a member listens for the others; raises RpcError."""
    if len(urls) != 1:
        raise Fault.BAD_URLS.error()
    try:
        return PeerAddress.parse(urls[0])
    except ConfigError:
        raise Fault.BAD_URLS.error() from None
