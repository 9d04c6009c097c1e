"""Commands about users, roles and permissions, in etcdctl's shape.

- `commands.py`: `auth`: whether users are checked.
- `users.py`, `roles.py`: `user` and `role`.
- `questions.py`: how most of them ask, and print the answer.
- `outputs.py`: answers in etcdctl's formats.
- `names.py`: the names of users and roles, as arguments.
"""
