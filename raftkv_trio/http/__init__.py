"""Clients' connections: the accept loop and HTTP/1.1, below the app that answers the requests."""

from raftkv_trio.http.connection import TARGET
from raftkv_trio.http.listener import open_http_listeners, serve_http, serve_http_temporarily

__all__ = ["TARGET", "open_http_listeners", "serve_http", "serve_http_temporarily"]
