"""The store's commands about leases. A lease lives until it is revoked or expires, and its keys with it.

The store has no clock. Clients have a lease granted, renewed and revoked. The leader of the cluster sees by
its own clock when one has expired (`access/leases.py`), and says so with an `ExpireLeases`.

Each grant and each renewal has a number: the store counts them all. So `RenewedLease` names one lease as of
its last renewal, also if a lease of the same id was granted again since.
"""

from typing import NamedTuple

#: The most seconds that a lease may be granted for, as in etcd.
MAX_TTL_S = 9_000_000_000
#: The most leases that one command may name.
MAX_LEASES = 1000


class GrantLease(NamedTuple):
    """Make a lease.

    Attributes:
        id: from 1 to 2**63-1.
        ttl_s: how many seconds it lives after the grant, and after each renewal; from 1 to `MAX_TTL_S`.
        quota_bytes: as of a txn; each lease counts as `LEASE_BYTES`. None: there is none.
    """

    id: int
    ttl_s: int
    quota_bytes: int | None = None


class RevokeLease(NamedTuple):
    """End a lease, and delete its keys at one revision."""

    id: int


class RenewLeases(NamedTuple):
    """Let leases live for their whole time again; those that do not exist are passed over."""

    ids: tuple[int, ...]


class RenewedLease(NamedTuple):
    """A lease as of its last grant or renewal.

    Attributes:
        renewal: the number of that (`Lease.renewal`).
    """

    id: int
    renewal: int


class ExpireLeases(NamedTuple):
    """Revoke leases that have not been renewed in time, each at a revision of its own.

    It has no effect unless its entry is of the term in which the leader has seen that, and none on a lease
    that was renewed since. So what a paused or deposed leader believes ends no lease.

    Attributes:
        term: of the leader that has seen it.
    """

    term: int
    leases: tuple[RenewedLease, ...]


class CheckpointedLease(NamedTuple):
    """How long a lease has left, as of its last grant or renewal.

    Attributes:
        renewal: as of `RenewedLease`.
        remaining_s: the seconds that it has left; from 1 to `MAX_TTL_S`.
    """

    id: int
    renewal: int
    remaining_s: int


class CheckpointLeases(NamedTuple):
    """Note how long leases have left, so that the next leader gives them no more than that.

    It has no effect where `ExpireLeases` has none.

    Attributes:
        term: of the leader that has seen it.
    """

    term: int
    leases: tuple[CheckpointedLease, ...]


LeaseCommand = GrantLease | RevokeLease | RenewLeases | ExpireLeases | CheckpointLeases
