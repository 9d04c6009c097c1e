"""The REST app and its server."""

from raftkv_trio.rest.app import make_app, make_waiting_app
from raftkv_trio.rest.listener import open_http_listeners, serve_http, serve_http_temporarily

__all__ = ["make_app", "make_waiting_app", "open_http_listeners", "serve_http", "serve_http_temporarily"]
