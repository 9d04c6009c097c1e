"""TLS: whom a connection leads to, and that nobody else reads or changes what is on it.

Python's `ssl`, without sockets of its own: `TlsStream` is a `TcpStream` whose bytes pass through OpenSSL, so
whoever uses the one uses the other. The simulators have a network of their own and know nothing of this room.

- `stream.py`: a connection, from its handshake to its end; `Turns`, which lets handshakes share the loop.
- `network.py`: the port `Network` of `world.py` with TLS around every connection, for members.
- `names.py`: which nodes a certificate is for.
- `contexts.py`: from files to contexts of OpenSSL that have been tried.
- `credentials.py`: the contexts that are in use, and those that take their place while the program runs.
- `ends.py`: when certificates end, and the warnings before.
- `clients.py`: whom a command trusts, and what it shows, when it asks members.

Rules of this room:
- A context in use is never changed. `load_cert_chain` on one breaks its later handshakes if it fails, so a
  new context is made, tried, and put in the place of the old one.
- Whatever is wrong closes: the file that cannot be read, half a pair, an expired certificate.
- Files are read, and contexts made, in a worker thread.
"""
