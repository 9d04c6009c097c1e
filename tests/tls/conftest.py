"""Fixtures for TLS."""

from pathlib import Path

import pytest

from tests.tls.certificates import Authority


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def other_ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "other-ca")
