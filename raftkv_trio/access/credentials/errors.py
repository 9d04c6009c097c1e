"""Why somebody is not taken for who they say."""

from raftkv_trio.errors import RaftKVError
from raftkv_trio.foreign_text import printable


class NotAuthenticated(RaftKVError):
    """What a call carries does not prove that it is from a user."""


class WrongPassword(NotAuthenticated):
    """There is no such user, or the password is another one; which of them is not told."""

    def __init__(self) -> None:
        super().__init__("The user or the password is wrong")


class NoSuchCertifiedUser(NotAuthenticated):
    """The certificate of a client has the name of no user, and nothing else was shown."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The client's certificate is that of {printable(name)}, and there is no user of this name"
        )


class TokenRefused(NotAuthenticated):
    """A token is malformed, or has expired, or its user was deleted or has another password by now."""

    def __init__(self, sentence: str = "The token is invalid, or has expired; authenticate again") -> None:
        super().__init__(sentence)


class SchemeRefused(TokenRefused):
    """The field Authorization has another scheme than those that are known."""

    def __init__(self, scheme: str) -> None:
        super().__init__(
            f"Authorization has the scheme {printable(scheme)}; the server takes `Basic`, with name and"
            " password, and `Bearer`, with a token"
        )
