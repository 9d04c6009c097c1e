"""Leases of the store: grants, renewals, revocations and expiries, and the keys that go with them."""

from random import Random

import pytest

from raftkv_trio.errors import CorruptLog
from raftkv_trio.kv import (
    LEASE_BYTES,
    MAX_LEASES,
    MAX_TTL_S,
    CheckpointedLease,
    CheckpointLeases,
    Delete,
    ExpireLeases,
    Failed,
    Failure,
    GrantLease,
    InvalidTxn,
    LeaseCommand,
    LeaseGranted,
    LeaseRevoked,
    LeasesExpired,
    LeasesRenewed,
    OverQuota,
    Put,
    Rejected,
    RenewedLease,
    RenewLeases,
    Result,
    RevokeLease,
    Store,
    Txn,
    TxnResult,
    decode_command,
    encode_command,
)
from raftkv_trio.kv.leases import Leases
from raftkv_trio.state_machine import Committed

MAX_INT = 2**63 - 1


def apply(store: Store, command: Txn | LeaseCommand, term: int = 1) -> Result:
    (result,) = store.apply([Committed(term, 1, encode_command(command))])
    return result


def put(store: Store, key: bytes, lease: int | None = None, **fields: bool) -> Result:
    return apply(store, Txn(success=(Put(key, b"", lease, **fields),)))


def store_with(*ids: int) -> Store:
    store = Store()
    for lease_id in ids:
        assert apply(store, GrantLease(lease_id, 10)) == LeaseGranted(lease_id, 10, 1)
    return store


def keys(store: Store) -> list[bytes]:
    return [record.key for record in store.range(b"\0")]


@pytest.mark.parametrize(
    "command",
    [
        GrantLease(1, 1),
        GrantLease(MAX_INT, MAX_TTL_S, MAX_INT),
        RevokeLease(5),
        RenewLeases(()),
        RenewLeases(tuple(range(1, MAX_LEASES + 1))),
        ExpireLeases(3, ()),
        ExpireLeases(0, (RenewedLease(1, 0), RenewedLease(MAX_INT, MAX_INT))),
        ExpireLeases(3, (RenewedLease(MAX_INT, 7),) * MAX_LEASES),
        CheckpointLeases(3, (CheckpointedLease(MAX_INT, 7, MAX_TTL_S),) * MAX_LEASES),
    ],
)
def test_commands_round_trip(command: LeaseCommand) -> None:
    """A command is decoded as it was encoded, the largest ones too."""
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize(
    "command",
    [
        GrantLease(0, 1),
        GrantLease(-1, 1),
        GrantLease(2**63, 1),
        GrantLease(1, 0),
        GrantLease(1, MAX_TTL_S + 1),
        GrantLease(True, 1),
        GrantLease(1, 1, -1),
        RevokeLease(0),
        RenewLeases((0,)),
        RenewLeases((1,) * (MAX_LEASES + 1)),
        ExpireLeases(-1, ()),
        ExpireLeases(1, ((1, 2, 3),)),  # type: ignore[arg-type]
        ExpireLeases(1, (RenewedLease(1, -1),)),
        CheckpointLeases(1, (CheckpointedLease(1, 1, 0),)),
    ],
)
def test_what_no_store_runs_is_not_encoded(command: LeaseCommand) -> None:
    """Ids, times and numbers have bounds, and so has how many leases a command names."""
    with pytest.raises(InvalidTxn):
        encode_command(command)


def test_a_lease_takes_its_keys_with_it() -> None:
    """At one revision, in the order of the keys; without keys there is no revision."""
    store = store_with(7, 8)
    for key in (b"b", b"c", b"a"):
        put(store, key, 7)
    put(store, b"d", 8)
    put(store, b"e")
    assert apply(store, RevokeLease(7)) == LeaseRevoked(revision=7, deleted=3)
    assert store.changes(7) == [(7, (b"a", b"b", b"c"))]
    assert keys(store) == [b"d", b"e"]
    put(store, b"d")
    assert apply(store, RevokeLease(8)) == LeaseRevoked(revision=8, deleted=0)
    assert keys(store) == [b"d", b"e"]
    assert apply(store, RevokeLease(7)) == Failed(Failure.LEASE_NOT_FOUND)


def test_a_key_has_the_lease_of_its_last_put() -> None:
    """Another put detaches it, a delete does, and a put that keeps the lease does not."""
    store = store_with(7, 8)
    put(store, b"moved", 7)
    put(store, b"moved", 8)
    put(store, b"let go", 7)
    put(store, b"let go")
    put(store, b"kept", 7)
    put(store, b"kept", keeps_lease=True)
    put(store, b"made again", 7)
    apply(store, Txn(success=(Delete(b"made again"),)))
    put(store, b"made again")
    assert store.leases.keys_of(7) == [b"kept"]
    assert store.leases.keys_of(8) == [b"moved"]
    apply(store, RevokeLease(7))
    assert keys(store) == [b"let go", b"made again", b"moved"]


def test_a_put_needs_its_lease() -> None:
    """A lease that does not exist, or not any more, is not found; nothing is changed, in a txn either."""
    store = store_with(7)
    assert put(store, b"a", 8) == Failed(Failure.LEASE_NOT_FOUND)
    assert put(store, b"a", 8, keeps_value=True) == Failed(Failure.KEY_NOT_FOUND)
    both = Txn(success=(Put(b"a", b""), Put(b"b", b"", 8)))
    assert apply(store, both) == Failed(Failure.LEASE_NOT_FOUND)
    assert put(store, b"a", -7) == Failed(Failure.LEASE_NOT_FOUND)
    apply(store, RevokeLease(7))
    assert put(store, b"a", 7) == Failed(Failure.LEASE_NOT_FOUND)
    assert (store.revision, keys(store)) == (1, [])


def test_grants() -> None:
    """An id is granted once at a time, and as many as the quota has room for."""
    store = store_with(7)
    before = store.state_hash
    assert apply(store, GrantLease(7, 20)) == Failed(Failure.LEASE_EXISTS)
    assert apply(store, GrantLease(8, 20, 2 * LEASE_BYTES - 1)) == OverQuota(0, 2 * LEASE_BYTES - 1)
    assert (store.state_hash, len(store.leases)) == (before, 1)
    assert apply(store, GrantLease(8, 20, 2 * LEASE_BYTES)) == LeaseGranted(8, 20, 1)
    assert store.state_hash != before


def test_renewals() -> None:
    """Each has a number of its own; what does not exist is passed over."""
    store = store_with(7, 8)
    assert apply(store, RenewLeases((8, 9, 7, 8))) == LeasesRenewed((10, 0, 10, 10), 1)
    lease, other = store.leases.get(7), store.leases.get(8)
    assert lease is not None
    assert other is not None
    assert (lease.renewal, other.renewal, store.leases.ever) == (4, 5, 5)


def test_only_what_the_leader_has_seen_expires() -> None:
    """Not in another term, not after a renewal, and not another lease of the same id."""
    store = store_with(7)
    put(store, b"a", 7)
    seen = ExpireLeases(5, (RenewedLease(7, 1),))
    nothing = LeasesExpired((), 2)
    assert apply(store, seen, term=6) == nothing
    assert apply(store, seen, term=4) == nothing
    apply(store, RenewLeases((7,)))
    assert apply(store, seen, term=5) == nothing
    apply(store, RevokeLease(7))
    apply(store, GrantLease(7, 10))
    put(store, b"a", 7)
    for renewal in (1, 2):
        assert apply(store, ExpireLeases(5, (RenewedLease(7, renewal),)), term=5).ids == ()  # type: ignore[union-attr]
    assert keys(store) == [b"a"]
    both = ExpireLeases(5, (RenewedLease(9, 3), RenewedLease(7, 3), RenewedLease(7, 3)))
    assert apply(store, both, term=5) == LeasesExpired((7,), 5)
    assert (keys(store), len(store.leases)) == ([], 0)


def test_each_expired_lease_has_a_revision() -> None:
    """So a watcher sees the keys of one lease go together, and not with those of another."""
    store = store_with(7, 8)
    for key, lease in ((b"a", 8), (b"b", 7), (b"c", 8)):
        put(store, key, lease)
    expire = ExpireLeases(1, (RenewedLease(8, 2), RenewedLease(7, 1)))
    assert apply(store, expire) == LeasesExpired((8, 7), 6)
    assert store.changes(5) == [(5, (b"a", b"c")), (6, (b"b",))]


def test_checkpoints() -> None:
    """A checkpoint notes at most the whole time, until the next renewal."""
    store = store_with(7)
    for remaining_s, noted_s in ((3, 3), (11, 10)):
        apply(store, CheckpointLeases(1, (CheckpointedLease(7, 1, remaining_s),)))
        lease = store.leases.get(7)
        assert lease is not None
        assert lease.remaining_s == noted_s
    before = store.state_hash
    apply(store, CheckpointLeases(1, (CheckpointedLease(7, 1, 4),)), term=2)
    apply(store, CheckpointLeases(1, (CheckpointedLease(7, 2, 4), CheckpointedLease(8, 1, 4))))
    assert store.state_hash == before
    apply(store, RenewLeases((7,)))
    lease = store.leases.get(7)
    assert lease is not None
    assert lease.remaining_s == 0


def test_below_level_3_there_are_no_leases() -> None:
    """Commands about them are refused, and a put with one finds none."""
    for level in (1, 2):
        store = Store()
        store.set_level(level)
        for command in (GrantLease(7, 10), RevokeLease(7), RenewLeases((7,)), ExpireLeases(1, ())):
            assert isinstance(apply(store, command), Rejected)
        assert len(store.leases) == 0
    assert put(store, b"a", 7) == Failed(Failure.LEASE_NOT_FOUND)
    store.set_level(3)
    assert isinstance(apply(store, GrantLease(7, 10)), LeaseGranted)
    with pytest.raises(ValueError, match="does not go back"):
        store.set_level(2)


@pytest.mark.parametrize("is_restored", [False, True])
def test_a_lease_that_a_record_of_level_1_names(is_restored: bool) -> None:
    """It was never granted. If one of its id is, the key is not attached, until it is put again."""
    store = Store()
    store.set_level(1)
    put(store, b"old", 7)
    put(store, b"moved", 7)
    put(store, b"gone", 7)
    store.set_level(3)
    assert isinstance(put(store, b"old", keeps_lease=True), TxnResult)
    apply(store, GrantLease(7, 10))
    if is_restored:
        copy = Store()
        copy.restore(list(store.snapshot()))
        store = copy
    assert store.leases.keys_of(7) == []
    apply(store, Txn(success=(Delete(b"gone"), Put(b"new", b"", 7), Put(b"moved", b"", keeps_lease=True))))
    assert store.leases.keys_of(7) == [b"moved", b"new"]
    apply(store, RevokeLease(7))
    assert keys(store) == [b"old"]


def test_a_snapshot_brings_leases_back() -> None:
    """With their numbers and keys; the restored store names all of them to whoever watches over expiry."""
    store = store_with(*range(1, 200))
    random = Random(1)
    for number in range(300):
        put(store, b"%d" % random.randrange(100), random.randrange(1, 200))
        apply(store, RenewLeases((random.randrange(1, 200),)))
        apply(store, RevokeLease(number + 1))
        apply(store, GrantLease(number + 1, 5))
    chunks = list(store.snapshot())
    store.verify(chunks)
    copy = Store()
    copy.restore(chunks)
    assert copy.state_hash == store.state_hash
    assert list(copy.snapshot()) == chunks
    assert list(copy.leases.touched) == list(store.leases.records)
    for lease_id in store.leases.records:
        assert copy.leases.get(lease_id) == store.leases.get(lease_id)
        assert copy.leases.keys_of(lease_id) == store.leases.keys_of(lease_id)


@pytest.mark.parametrize(
    "fields",
    [
        [0, 10, 1, 1, 0],
        [7, 0, 1, 1, 0],
        [7, MAX_TTL_S + 1, 1, 1, 0],
        [7, 10, 6, 1, 0],
        [7, 10, 1, 0, 0],
        [7, 10, 1, 4, 0],
        [7, 10, 1, 1, 11],
        [7, 10, 1, 1],
        [7, 10, 1, 1, -1],
        [8, 10, 1, 1, 0],
        7,
    ],
)
def test_a_lease_that_no_store_has(fields: object) -> None:
    """It is refused in a snapshot, wherever it is from."""
    Leases.of([[8, 10, 5, 3, 10]], ever=3, revision=5)
    with pytest.raises(CorruptLog):
        Leases.of([[8, 10, 5, 3, 10], fields], ever=3, revision=5)
