"""etcd's API.

- `gateway.py`: the methods called by HTTP/1.1 with JSON; `routes.py` has their paths, and `requests.py` reads
  the streams that clients send.
- `json/`: etcd's messages as JSON, in the form of etcd's gateway.
"""
