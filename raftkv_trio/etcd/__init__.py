"""etcd's v3 API, over gRPC and as JSON, on one port.

Both transports call the same handlers, by one table of methods; a handler knows the node and the store.

- `methods.py`: the table, path by path.
- `kv.py`, `cluster.py`, `maintenance.py`: the handlers of the services.
- `operations.py`, `answers.py`: etcd's messages as the store's operations, and its results as etcd's answers.
- `errors.py`: etcd's codes and texts. `headers.py`: the header of every answer.
- `port.py`: what the port serves: gRPC to clients that speak HTTP/2, the gateway to all others.
- `gateway.py`: the methods called by HTTP/1.1 with JSON; `routes.py` has their paths, and `requests.py` reads
  the streams that clients send. `json/`: etcd's messages as JSON.
"""

from raftkv_trio.etcd.port import EtcdPort

__all__ = ["EtcdPort"]
