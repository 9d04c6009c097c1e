"""etcd's API.

- `json/`: etcd's messages as JSON, in the form of etcd's gateway.
"""
