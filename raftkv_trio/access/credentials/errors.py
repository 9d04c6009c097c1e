"""Why somebody is not taken for who they say."""

from raftkv_trio.errors import RaftKVError


class NotAuthenticated(RaftKVError):
    """What a call carries does not prove that it is from a user."""


class WrongPassword(NotAuthenticated):
    """There is no such user, or the password is another one; which of them is not told."""

    def __init__(self) -> None:
        super().__init__("The user or the password is wrong")


class TokenRefused(NotAuthenticated):
    """A token is malformed, or has expired, or its user was deleted or has another password by now."""

    def __init__(self) -> None:
        super().__init__("The token is invalid, or has expired; authenticate again")
