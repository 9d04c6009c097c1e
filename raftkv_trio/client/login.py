"""Who asks a cluster that has users, and how that is proved."""

from base64 import b64encode
from dataclasses import dataclass, field

from raftkv_trio.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user of the cluster, and the password, which no text of this object shows.

    Attributes:
        user: the name.
        password: may be empty.
        needs_tls: whether the password is never to be sent without TLS. Members tell the addresses of other
            members: whoever names one with TLS does not want the password sent in the clear to another.
    """

    user: str
    password: str = field(repr=False)
    needs_tls: bool = False

    def __post_init__(self) -> None:
        if not self.user:
            raise ConfigError("the name of a user is empty; give a user that the cluster has")
        for text, what in ((self.user, "the name of a user"), (self.password, "a password")):
            try:
                text.encode()
            except UnicodeEncodeError:
                # Without its cause, which would show the text.
                raise ConfigError(f"{what} is not UTF-8; write it in UTF-8") from None

    @property
    def basic(self) -> str:
        """The value of the field Authorization (RFC 7617). Raises ConfigError if the name cannot be in it."""
        if ":" in self.user:
            raise ConfigError("the REST API takes no name of a user with a colon; take another user")
        return f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}"
