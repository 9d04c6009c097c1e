"""The client of a cluster's keys for programs on Trio."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import NamedTuple, Self

import trio

from raftkv_trio.addresses import ClientAddress
from raftkv_trio.client.etcd import leases, messages
from raftkv_trio.client.etcd.auth import Users
from raftkv_trio.client.etcd.calls import Calls, fail_after
from raftkv_trio.client.etcd.connections import Connections
from raftkv_trio.client.etcd.leases import Lease, hold_lease
from raftkv_trio.client.etcd.locks import DEFAULT_TTL_S, Election, Lock, hold_lock
from raftkv_trio.client.etcd.messages import RequestT, ResponseT, UnaryMethod
from raftkv_trio.client.etcd.outcomes import CallRefused
from raftkv_trio.client.etcd.pages import KeyValues
from raftkv_trio.client.etcd.puts import Puts
from raftkv_trio.client.etcd.replies import (
    DeleteReply,
    EndpointStatus,
    LeaseStatus,
    Member,
    PutReply,
    RangeReply,
    TxnReply,
)
from raftkv_trio.client.etcd.watch import Watch
from raftkv_trio.client.etcd.watch_responses import WatchResponses
from raftkv_trio.client.login import Login
from raftkv_trio.errors import ConfigError, leaves
from raftkv_trio.grpc import Code
from raftkv_trio.kv import (
    TO_THE_LAST,
    Compare,
    Delete,
    Get,
    KeyValue,
    Operation,
    Put,
    Txn,
    is_read_only,
    prefix_end,
)
from raftkv_trio.schema import rpc_pb2
from raftkv_trio.tls.clients import Trust


class Client:
    """Keys and values of a cluster of raftkv-trio (`--etcd-port`), or of etcd 3.4.

        async with Client(["127.0.0.1:12378", "127.0.0.1:22378", "127.0.0.1:32378"]) as client:
            await client.put(b"color", b"red")
            async for key_value in client.range(prefix=b"col"):
                print(key_value.key, key_value.value)

    Any number of tasks may use it at the same time, inside the block. All calls share one connection, to the
    first endpoint that answers; when that fails, the next one takes its place. Puts that wait at the same
    time become one txn: see `put`.

    Deadlines are the callers' cancel scopes. Without one, a call waits until the cluster answers: reads are
    made again, and writes too if they were certainly not executed. On raftkv-trio each write carries an
    idempotency key, under which it is made again, for a few seconds, also if it may have been executed.
    `fail_after` is a cancel scope that tells what is known of a write that it has given up.

    Every call may raise:

    - `CallRefused`, or its siblings `TooLarge` and `StoreFull`: nothing was done, and the same call would be
      refused again. They are a `ProposalError`, as is the next one. Of `CallRefused` are `PermissionDenied`,
      and `NotAuthenticated` if the cluster wants a user, or another password.
    - `OutcomeUnknown` (only writes): it may have been executed, once.
    - `trio.ClosedResourceError`: the block has ended; nothing was done.

    A write that is cancelled may be executed or not, also later.

    Args:
        endpoints: `host:port`, `http://host:port` or `https://host:port`; the nearest first.
        trust: whom to trust over TLS, and what to show. None: the CAs that the system trusts.
        user, password: of a cluster that has users. The client authenticates when a call needs that, and
            again when the cluster wants it; calls wait for it. Without TLS they can be read on the way.

    Raises ConfigError if an endpoint is malformed, there is none, a file of `trust` cannot be used, or one of
    user and password is missing.
    """

    def __init__(
        self,
        endpoints: Iterable[str],
        *,
        trust: Trust | None = None,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        if isinstance(endpoints, str):
            raise ConfigError("endpoints is one text; give a list of endpoints")
        given = list(endpoints)
        if not all(isinstance(endpoint, str) for endpoint in given):
            raise ConfigError("an endpoint is text, such as '127.0.0.1:12378'")
        self._addresses = [
            ClientAddress.parse(endpoint, "an endpoint", needs_scheme=False) for endpoint in given
        ]
        if not self._addresses:
            raise ConfigError("a client needs at least one endpoint")
        if (user is None) != (password is None):
            raise ConfigError("a user and a password belong together; give both, or none")
        self._login = None
        if user is not None and password is not None:
            self._login = Login(user=user, password=password)
        self._tls = None
        if any(address.is_tls for address in self._addresses):
            self._tls = (trust or Trust()).context()
            self._tls.set_alpn_protocols(["h2"])
        self._nursery_manager = trio.open_nursery()
        self._parts: _Parts | None = None  # until it is entered

    async def __aenter__(self) -> Self:
        if self._parts is not None:
            raise RuntimeError("a Client is entered once; make another one for another block")
        nursery = await self._nursery_manager.__aenter__()
        connections = Connections(self._addresses, self._tls, nursery)
        calls = Calls(connections, nursery, self._login)
        self._parts = _Parts(nursery, connections, calls, Puts(calls))
        nursery.start_soon(self._parts.puts.run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Close the client. Calls that other tasks still make end, writes with OutcomeUnknown if need be."""
        self._open.connections.close()
        self._open.nursery.cancel_scope.cancel()
        if any(isinstance(leaf, trio.Cancelled) for leaf in leaves(error)):  # perhaps the nursery's own
            return await self._nursery_manager.__aexit__(kind, error, traceback)
        # What the block raises leaves as it is: the nursery would put it into a group.
        await self._nursery_manager.__aexit__(None, None, None)
        return None

    @property
    def _open(self) -> "_Parts":
        if self._parts is None:
            raise RuntimeError("use a Client in a block: `async with Client(...) as client`")
        return self._parts

    @property
    def _calls(self) -> Calls:
        return self._open.calls

    # ------------------------------------------------------------ writes

    async def put(
        self,
        key: bytes,
        value: bytes,
        *,
        previous: bool = False,
        lease: int | None = None,
    ) -> PutReply:
        """Set a key.

        While a put is under way, others wait, and are then sent together, as one txn: at most 128, of at most
        1 MiB, with different keys. All puts of one txn have the same revision. Each caller has its own
        result: if one of them is refused, the others are executed all the same. Puts of one key are executed
        in the order in which they were made.

        Args:
            previous: whether the reply is to have what the put replaces.
            lease: with which the key ends.

        Cancelled while it waits, it is not executed. Otherwise it may be, also later.
        """
        if not key:
            raise CallRefused(int(Code.INVALID_ARGUMENT), "etcdserver: key is not provided")
        messages.check_number("a lease", lease)
        return await self._open.puts.put(Put(key, value, lease), previous=previous)

    async def delete(self, key: bytes, *, previous: bool = False) -> DeleteReply:
        """Delete a key. It is no error if it does not exist.

        Args:
            previous: whether the reply is to have what was deleted.
        """
        return await self._delete(Delete(key), previous)

    async def delete_range(
        self,
        start: bytes | None = None,
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        previous: bool = False,
    ) -> DeleteReply:
        """Delete all keys of a range, which is given as that of `range`; `prefix=b""` deletes all.

        Args:
            previous: whether the reply is to have what was deleted.

        Raises ConfigError without any range: a prefix that is None by mistake must not delete everything.
        """
        if start is None and end is None and prefix is None:
            raise ConfigError('delete_range needs a range; prefix=b"" is that of all keys')
        return await self._delete(Delete(*_range(start, end, prefix)), previous)

    async def _delete(self, delete: Delete, previous: bool) -> DeleteReply:
        request = messages.delete_message(delete, previous=previous)
        return messages.delete_reply(await self._calls.make(messages.DELETE_RANGE, request))

    async def txn(
        self,
        compares: Iterable[Compare] = (),
        success: Iterable[Operation] = (),
        failure: Iterable[Operation] = (),
        *,
        previous: bool = False,
    ) -> TxnReply:
        """If all compares hold, run `success`, else `failure`: atomically, in order, at one revision.

        Args:
            compares, success, failure: as in a `Txn` of `raftkv_trio.kv`.
            previous: whether the replies to puts and deletes are to have what was there before.
        """
        txn = Txn(tuple(compares), tuple(success), tuple(failure))
        method = messages.READ_ONLY_TXN if is_read_only(txn) else messages.TXN
        answer = await self._calls.make(method, messages.txn_message(txn, previous=previous))
        return messages.txn_reply(answer)

    async def compact(self, revision: int) -> None:
        """Forget all that no read at this or a later revision can see."""
        messages.check_number("a revision", revision)
        await self._calls.make(messages.COMPACT, rpc_pb2.CompactionRequest(revision=revision))

    # ------------------------------------------------------------ reads

    async def get(
        self, key: bytes, *, revision: int | None = None, serializable: bool = False
    ) -> KeyValue | None:
        """A key's value and what belongs to it; None if the key does not exist.

        Args:
            revision: at which to read; None: the newest.
            serializable: what the member at the endpoint has is enough, though it may be old. It answers
                without a quorum, too.
        """
        reply = await self._read(Get(key, None, None, revision), serializable)
        return reply.key_values[0] if reply.key_values else None

    async def get_range(
        self,
        start: bytes | None = None,
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        limit: int | None = None,
        revision: int | None = None,
        serializable: bool = False,
    ) -> RangeReply:
        """The key-values of a range, which is given as that of `range`, in one answer.

        Args:
            limit: read so many at most. 0: only count them. None: read all.
            revision, serializable: as those of `get`.
        """
        return await self._read(Get(*_range(start, end, prefix), limit, revision), serializable)

    def range(
        self,
        start: bytes | None = None,
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        page: int = 1000,
        revision: int | None = None,
    ) -> KeyValues:
        """Iterate over the key-values of a range, in order of their keys, all at one revision.

        The range is all keys with the `prefix`, or those from `start` up to, but not including, `end`;
        without an end, up to the last one; without anything, all keys.

        Args:
            page: so many are read at once at most; fewer, if they are large.
            revision: at which to read; None: the newest, as of the first page. If it is compacted before the
                end, the iteration raises CallRefused.
        """
        if page < 1:
            raise ConfigError(f"a page of {page} key-values; it must have at least 1")
        key, range_end = _range(start, end, prefix)
        return KeyValues(self._read, key, range_end, revision, page)

    async def _read(self, get: Get, serializable: bool = False) -> RangeReply:
        request = messages.get_message(get, serializable=serializable)
        return messages.range_reply(await self._calls.make(messages.RANGE, request))

    # ------------------------------------------------------------ watches

    def watch(
        self,
        key: bytes | None = None,
        range_end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        start_revision: int | None = None,
        previous: bool = False,
        puts: bool = True,
        deletes: bool = True,
    ) -> Watch:
        """Watch a key, a range of keys, or all keys with a prefix: their events, each once, and in order.

            async with client.watch(prefix=b"col") as watch:
                async for event in watch:
                    print(event.key, event.key_value)

        The watch survives failures of members: it begins again on another one, from the next revision.

        Args:
            key: the key, or the first one of a range.
            range_end: up to which key the range goes, that key excluded; None: the range is one key.
            prefix: instead of both, that of the keys; empty: all keys.
            start_revision: from which on there are events; None: from now on, which is when the block begins.
            previous: whether events are to have what they replace.
            puts, deletes: which events there are to be.

        The block, and the iteration, raise WatchCompacted if events are not in the history any more.
        Raises ConfigError if the range is malformed.
        """
        if prefix is None and not key:
            raise ConfigError('a watch needs a key, or a prefix; prefix=b"" is that of all keys')
        if prefix is not None:
            key, range_end = _range(key, range_end, prefix)
        filters = []
        if not puts:
            filters.append(rpc_pb2.WatchCreateRequest.NOPUT)
        if not deletes:
            filters.append(rpc_pb2.WatchCreateRequest.NODELETE)
        request = rpc_pb2.WatchCreateRequest(
            key=key, range_end=range_end, start_revision=start_revision, prev_kv=previous, filters=filters
        )
        return Watch(self._calls, request)

    # ------------------------------------------------------------ leases

    def lease(self, ttl_s: int) -> AbstractAsyncContextManager[Lease]:
        """A lease for a block: kept alive in the background, and revoked at the end of the block.

            async with client.lease(10) as lease:
                await client.put(b"alive/me", b"", lease=lease.id)
                await work()

        If it is lost, the block is cancelled, and LeaseLost raised: no later than it may expire. Its keys are
        deleted with it.

        Args:
            ttl_s: how long it is to outlive this program, in seconds; at least 1. Servers may grant more.
        """
        return hold_lease(self._calls, self._open.nursery, ttl_s)

    async def grant(self, ttl_s: int, *, lease_id: int | None = None) -> LeaseStatus:
        """Grant a lease, which nobody keeps alive.

        Args:
            ttl_s: how long it lives, in seconds. Servers may grant more.
            lease_id: the id that it is to have; None: the server chooses one.
        """
        granted = await leases.grant(self._calls, ttl_s, lease_id)
        return LeaseStatus(granted.ID, granted.TTL, granted.TTL, ())

    async def revoke(self, lease: int) -> None:
        """End a lease, and delete its keys."""
        await leases.revoke(self._calls, lease)

    async def keep_alive(self, lease: int) -> int:
        """Renew a lease once; its TTL in seconds. Raises CallRefused if there is no such lease."""
        return await leases.keep_alive_once(self._calls, lease)

    async def time_to_live(self, lease: int, *, keys: bool = False) -> LeaseStatus | None:
        """What a lease has left; None if there is no such lease.

        Args:
            keys: whether the answer is to have its keys.
        """
        return await leases.time_to_live(self._calls, lease, keys=keys)

    async def leases(self) -> tuple[int, ...]:
        """The ids of all leases."""
        return await leases.list_leases(self._calls)

    # ------------------------------------------------------------ locks and elections

    def lock(self, name: bytes, *, ttl_s: int = DEFAULT_TTL_S) -> AbstractAsyncContextManager[Lock]:
        """Hold a lock for a block, as others do that lock the same name; who comes first has it first.

            async with client.lock(b"backup") as lock:
                await work(lock.revision)

        If the lock is lost, since its lease is, the block is cancelled, and LeaseLost raised. What the block
        has sent to others may still arrive there after the next holder's: they can refuse it by
        `Lock.revision`. A write to this cluster can compare: `Compare.exists(lock.key)`.

        Args:
            ttl_s: how long after this program has died the next one gets the lock, in seconds.
        """
        return hold_lock(self._calls, self._open.nursery, name, ttl_s)

    def election(self, name: bytes) -> Election:
        """The election of this name."""
        return Election(self._calls, self._open.nursery, name)

    # ------------------------------------------------------------ the cluster

    @property
    def auth(self) -> Users:
        """The users of the cluster, their roles, and what these permit."""
        return Users(self._calls)

    async def members(self) -> tuple[Member, ...]:
        """The members of the cluster."""
        answer = await self._calls.make(messages.MEMBER_LIST, rpc_pb2.MemberListRequest())
        return tuple(
            Member(each.ID, each.name, tuple(each.peerURLs), tuple(each.clientURLs), each.isLearner)
            for each in answer.members
        )

    async def status(self) -> EndpointStatus:
        """What the member says about itself whose endpoint is in use."""
        connection = await self._open.connections.get()
        answer = await self._calls.make(messages.STATUS, rpc_pb2.StatusRequest())
        return EndpointStatus(
            endpoint=connection.address.url,
            member_id=answer.header.member_id,
            version=answer.version,
            revision=answer.header.revision,
            size_bytes=answer.dbSize,
            leader_id=answer.leader or None,
            raft_term=answer.raftTerm,
            raft_index=answer.raftIndex,
            is_learner=answer.isLearner,
        )

    def fail_after(self, seconds: float) -> AbstractContextManager[None]:
        """Give up the calls of the block after this time, and tell what is known of them.

        Raises:
            OutcomeUnknown: a write may have been executed.
            NoLeader: certainly no write was executed, or none was made.

        The text says why endpoints have failed.
        """
        return fail_after(seconds, self._open.connections.failures)


async def raw_call(client: Client, method: UnaryMethod[RequestT, ResponseT], request: RequestT) -> ResponseT:
    """Make a call with etcd's own messages. Raises, and leaves behind, what the methods of `Client` do."""
    return await client._calls.make(method, request)


def raw_watch(client: Client, request: rpc_pb2.WatchCreateRequest) -> WatchResponses:
    """Watch with etcd's own messages. It must be closed."""
    return WatchResponses(client._calls, request)


def failures_so_far(client: Client) -> Mapping[str, str] | None:
    """Why no endpoint has answered yet, by its URL; None if one has."""
    # Every answer tells a revision, but those of the first words on a connection.
    return None if client._calls.revision else client._calls.connections.failures


def _range(start: bytes | None, end: bytes | None, prefix: bytes | None) -> tuple[bytes, bytes]:
    """Key and range end of a request. Raises ConfigError if both forms are mixed."""
    if prefix is not None:
        if start is not None or end is not None:
            raise ConfigError("a range has a prefix, or a start and an end, and not both")
        return (prefix, prefix_end(prefix)) if prefix else (b"\0", TO_THE_LAST)
    return start or b"\0", TO_THE_LAST if end is None else end


class _Parts(NamedTuple):
    """What a client has while its block runs."""

    nursery: trio.Nursery
    connections: Connections
    calls: Calls
    puts: Puts
