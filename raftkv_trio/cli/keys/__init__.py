"""Commands that read and write keys, in etcdctl's shape: `put`, `get`, `del`, `txn`, `compact`.

- `commands.py`: the commands, and how they ask.
- `requests.py`: the flags of put, get and del, and the requests that they mean. Lines of a txn have them too.
- `txn_text.py`: the text of a txn, as etcdctl reads it.
- `outputs.py`: answers in etcdctl's formats.
"""
