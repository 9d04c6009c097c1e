"""Leases as a sequential object."""

from raftkv_trio.testing.histories.lease_model import LeaseModel


def test_what_has_an_effect() -> None:
    """A lease lives from a grant to a revocation or an expiry, which is of its last renewal and its term."""
    model = LeaseModel()
    assert not model.renew(7, "before")
    assert model.grant(7, "grant")
    assert not model.grant(7, "again")
    assert [*model.renewed_by.items()] == [(7, "grant")]
    assert model.renew(7, "renewal")
    assert [*model.renewed_by.items()] == [(7, "renewal")]
    assert not model.expire(7, 1, is_of_term=True)
    assert not model.expire(7, 2, is_of_term=False)
    assert model.lives(7)
    assert model.expire(7, 2, is_of_term=True)
    assert not model.lives(7)
    assert not model.revoke(7)
    assert model.grant(7, "anew")
    assert not model.expire(7, 2, is_of_term=True)
    assert model.revoke(7)
