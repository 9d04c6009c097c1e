"""The certificates of a cluster: how they are made, and what is in them.

| module | has |
| --- | --- |
| `names` | the URI by which a certificate names a node |
| `authority` | a CA of a cluster, and the certificates that it issues |
| `files` | their files: the CA in a directory, and what it issues beside it |
| `revocation` | the CA's CRL: what it has revoked |

All but `names` need the package cryptography, which the extra `tls` brings. A node needs none of them: it
reads certificates with Python's own ssl module.
"""
