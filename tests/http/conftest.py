"""Connections are tested with the REST app behind them: one node that leads alone, served."""

from tests.rest.conftest import served

__all__ = ["served"]
