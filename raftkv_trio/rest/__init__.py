"""The REST app and its server."""

from raftkv_trio.rest.app import make_app, make_waiting_app
from raftkv_trio.rest.listener import open_rest_listeners, serve_meanwhile, serve_rest

__all__ = ["make_app", "make_waiting_app", "open_rest_listeners", "serve_meanwhile", "serve_rest"]
