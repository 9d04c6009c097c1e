"""Commands that read, write and watch keys, in etcdctl's shape.

- `commands.py`: the commands for one request.
- `watching.py`: `watch`; `leasing.py`: `lease`, `lock` and `elect`.
- `asking.py`: the flags of all of them, and how they ask.
- `children.py`: the commands that they run.
- `requests.py`: the flags of put, get and del, and the requests that they mean. Lines of a txn have them too.
- `txn_text.py`: the text of a txn, as etcdctl reads it.
- `outputs.py`, `lease_outputs.py`: answers in etcdctl's formats.
"""
