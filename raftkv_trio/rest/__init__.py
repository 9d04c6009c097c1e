"""The REST app and its server."""

from raftkv_trio.rest.app import make_app, make_waiting_app

__all__ = ["make_app", "make_waiting_app"]
