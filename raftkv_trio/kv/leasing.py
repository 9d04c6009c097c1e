"""What commands about leases do to the keys and leases of a store."""

from raftkv_trio.kv.keyspace import Keyspace
from raftkv_trio.kv.lease_commands import (
    CheckpointLeases,
    ExpireLeases,
    GrantLease,
    LeaseCommand,
    RenewLeases,
    RevokeLease,
)
from raftkv_trio.kv.leases import LEASE_BYTES, Leases
from raftkv_trio.kv.results import (
    LeaseExists,
    LeaseGranted,
    LeaseNotFound,
    LeaseResult,
    LeaseRevoked,
    LeasesCheckpointed,
    LeasesExpired,
    LeasesRenewed,
    QuotaExceeded,
)


def run_lease_command(space: Keyspace, command: LeaseCommand, term: int) -> LeaseResult:
    """Run a command of an entry of this term; the space has leases.

    Raises LeaseExists, LeaseNotFound, QuotaExceeded; nothing has changed then.
    """
    leases = space.leases
    assert leases is not None, "without leases there are no commands about them"
    match command:
        case GrantLease():
            return _grant(space, leases, command)
        case RevokeLease(lease_id):
            if lease_id not in leases:
                raise LeaseNotFound(lease_id)
            deleted = _revoke(space, leases, lease_id)
            return LeaseRevoked(space.revision, deleted)
        case RenewLeases(ids):
            return LeasesRenewed(tuple([leases.renew(lease_id) for lease_id in ids]), space.revision)
        case ExpireLeases():
            expired = []
            for lease_id, renewal in command.leases if command.term == term else ():
                if _is_as_of(leases, lease_id, renewal):
                    _revoke(space, leases, lease_id)
                    expired.append(lease_id)
            return LeasesExpired(tuple(expired), space.revision)
        case CheckpointLeases():
            noted = []
            for lease_id, renewal, remaining_s in command.leases if command.term == term else ():
                if _is_as_of(leases, lease_id, renewal):
                    leases.checkpoint(lease_id, remaining_s)
                    noted.append(lease_id)
            return LeasesCheckpointed(tuple(noted), space.revision)


def _grant(space: Keyspace, leases: Leases, command: GrantLease) -> LeaseGranted:
    lease_id, ttl_s, quota_bytes = command
    if lease_id in leases:
        raise LeaseExists(lease_id)
    if quota_bytes is not None and space.size_bytes + LEASE_BYTES * (len(leases) + 1) > quota_bytes:
        raise QuotaExceeded(space.size_bytes, quota_bytes)
    leases.grant(lease_id, ttl_s, space.revision)
    return LeaseGranted(lease_id, ttl_s, space.revision)


def _is_as_of(leases: Leases, lease_id: int, renewal: int) -> bool:
    """Whether a lease exists that has not been renewed, or granted anew, since this renewal."""
    lease = leases.get(lease_id)
    return lease is not None and lease.renewal == renewal


def _revoke(space: Keyspace, leases: Leases, lease_id: int) -> int:
    """Drop a lease that exists, and its keys at one revision; returns how many there were."""
    changed: list[bytes] = []
    revision = space.revision + 1
    for key in leases.keys_of(lease_id):
        space.delete(key, None, revision, changed)
    leases.drop(lease_id)
    if changed:
        space.finish(revision, changed)
    return len(changed)
