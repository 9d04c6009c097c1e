"""Whom a command trusts, and what it shows, when it asks members over TLS."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from raftkv_trio.config import check_no_half_pair
from raftkv_trio.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom a client trusts, and what it shows; all files are PEM.

    Attributes:
        ca_file: the CAs of servers; None: those that the system trusts.
        client_cert_file: the client's certificate, for servers that ask for one.
        client_key_file: its private key, without a passphrase.

    Raises ConfigError if only one of certificate and key is given.
    """

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None

    def __post_init__(self) -> None:
        check_no_half_pair(self, "client_cert_file", "client_key_file")

    def context(self) -> ssl.SSLContext:
        """A context for connections to servers, which checks the host names in their certificates.

        Raises ConfigError if a file cannot be used. It reads the system's CAs, if these count, which takes a
        while.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigError(
                f"`ca_file` {self.ca_file} has no certificate in PEM, or cannot be read"
            ) from error
        if self.client_cert_file is not None:
            try:
                context.load_cert_chain(self.client_cert_file, self.client_key_file, password=lambda: b"")
            except OSError as error:
                raise ConfigError(
                    f"`client_cert_file` {self.client_cert_file} and `client_key_file` {self.client_key_file}"
                    " are no certificate and its key in PEM, or cannot be read"
                ) from error
        return context
