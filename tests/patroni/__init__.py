"""Patroni fails PostgreSQL over, with three of our nodes or three of etcd's members to keep its state.

`coordinators` has the servers of etcd's API, `installed` says what must be there, `databases` has Patroni and
PostgreSQL, `writers` the clients that note what was acknowledged, and `checks` what must hold for that.
"""
