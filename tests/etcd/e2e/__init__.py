"""etcd's own end-to-end tests, from Debian's package of its sources, with our servers for etcd."""
