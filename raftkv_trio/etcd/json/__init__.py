"""etcd's messages as JSON, in the form that etcd's gateway writes and reads.

- `encoder.py`: a message to JSON.
- `text.py`: JSON to values, with what Go's parser takes and refuses.
- `decoder.py`: values to a message.

Both directions are made from the messages' descriptors, once for each type, so they know no message by name.
"""

from raftkv_trio.etcd.json.decoder import decode
from raftkv_trio.etcd.json.encoder import encode, quoted

__all__ = ["decode", "encode", "quoted"]
