"""Who asks: passwords, tokens and the names in certificates, as users of the store.

- `authenticator.py`: whom a call is from, by what it carries.
- `passwords.py`: makes and checks records of passwords, in a thread, one at a time, and not too often.
- `fair_turns.py`: whose turn it is, so that one host keeps no other one waiting for long.
- `tokens.py`: signed tokens that every member can check.
"""

from raftkv_trio.access.credentials.authenticator import Authenticator, Credentials
from raftkv_trio.access.credentials.errors import (
    NoSuchCertifiedUser,
    NotAuthenticated,
    SchemeRefused,
    TokenRefused,
    WrongPassword,
)

__all__ = [
    "Authenticator",
    "Credentials",
    "NoSuchCertifiedUser",
    "NotAuthenticated",
    "SchemeRefused",
    "TokenRefused",
    "WrongPassword",
]
