"""One real etcd for all tests that compare with it."""

from collections.abc import Iterator

import pytest

from tests.etcd.real_etcd import RealEtcd, running_etcd


@pytest.fixture(scope="session")
def real_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEtcd]:
    """An etcd of its own for the tests; skips where none is installed."""
    with running_etcd(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd
