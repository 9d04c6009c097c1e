"""Users, roles and permissions, after etcd's auth: a part of the store's state, changed by its commands.

`commands.py` has what is said, `codec.py` its bytes, `auth.py` the state and the checks of a command or a
read, `changes.py` what a command does to the state.
"""
