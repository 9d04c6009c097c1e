"""Leases as a sequential object: which ones live, entry by entry of the log. What etcd promises, as in `kv/`.

Nothing here is taken from `kv/`: the check must not believe what it judges.
"""

from collections.abc import Hashable


class LeaseModel:
    """The leases that live. Each method returns whether the entry had an effect.

    Attributes:
        renewed_by: the entry that has granted or renewed each living lease last, as it was named.
    """

    def __init__(self) -> None:
        self.renewed_by: dict[int, Hashable] = {}
        self._numbers: dict[int, int] = {}
        self._count = 0

    def grant(self, lease_id: int, entry: Hashable) -> bool:
        """A lease that lives is not granted."""
        if lease_id in self._numbers:
            return False
        self._note(lease_id, entry)
        return True

    def renew(self, lease_id: int, entry: Hashable) -> bool:
        """Only a lease that lives is renewed."""
        if lease_id not in self._numbers:
            return False
        self._note(lease_id, entry)
        return True

    def revoke(self, lease_id: int) -> bool:
        """Only a lease that lives is revoked."""
        return self._numbers.pop(lease_id, None) is not None

    def expire(self, lease_id: int, renewal: int, *, is_of_term: bool) -> bool:
        """Only as of its last renewal, and in the term of the leader that has seen it."""
        return is_of_term and self._numbers.get(lease_id) == renewal and self.revoke(lease_id)

    def lives(self, lease_id: int) -> bool:
        """Whether keys can be put with it."""
        return lease_id in self._numbers

    def _note(self, lease_id: int, entry: Hashable) -> None:
        self._count += 1
        self._numbers[lease_id] = self._count
        self.renewed_by[lease_id] = entry
