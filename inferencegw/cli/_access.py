"""What every command that talks to a gateway takes to be let in: a key, and TLS.

The rule: a secret comes from a file or the environment, never from a flag: the command line is everybody's to see, and
shells remember it. ``--key-file`` goes before ``TRIO_GW_KEY``.
"""

import os
import ssl
from pathlib import Path
from typing import Annotated, Final

import attrs
from cyclopts import Parameter

from inferencegw.errors import ConfigError, Metadata
from inferencegw.rpc.credentials import bearer
from inferencegw.rpc.tls import client_context
from inferencegw.settings.files import read_named

__all__ = ["KEY_VARIABLE", "NOBODY", "Access"]

KEY_VARIABLE: Final = "TRIO_GW_KEY"

SYSTEM: Final = "system"

MAX_FILE_BYTES: Final = 4096
"""Longest file with a key. High: memory, where a wrong file is named. Low: a key does not fit."""


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Access:
    """See above. The defaults: the key of the environment, if there is one, and no TLS."""

    key_file: Annotated[
        Path | None, Parameter(help=f"File with the key to show, as `trio-gw keys` made it. Else {KEY_VARIABLE}.")
    ] = None
    tls_ca: Annotated[
        str | None,
        Parameter(help=f"File with the authorities that gateways are believed by (PEM), or '{SYSTEM}'. None: no TLS."),
    ] = None
    tls_cert: Annotated[
        str | None, Parameter(help="File with the certificate chain to show to a gateway (PEM). None: none.")
    ] = None
    tls_key: Annotated[str | None, Parameter(help="File with its key (PEM).")] = None

    @property
    def key(self) -> str:
        """The key to show; empty where there is none. ConfigError where the file cannot be used."""
        if self.key_file is None:
            return os.environ.get(KEY_VARIABLE, "").strip()
        return read_named("key_file", self.key_file, MAX_FILE_BYTES, _key_in)

    @property
    def metadata(self) -> Metadata:
        """The key, as every call carries it; ConfigError as above."""
        return bearer(self.key)

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """What to speak with; None is plain text. ConfigError where a file cannot be used."""
        if self.tls_ca is None:
            if self.tls_cert is not None or self.tls_key is not None:
                raise ConfigError(f"tls_ca: must be given with tls_cert and tls_key: a file, or '{SYSTEM}'")
            return None
        return client_context(None if self.tls_ca == SYSTEM else self.tls_ca, self.tls_cert, self.tls_key)


def _key_in(text: str) -> str:
    """What is in a file besides the space around it; of what is there instead of a key not a word is told."""
    key = text.strip()
    if not key:
        raise ConfigError("must hold a key, as `trio-gw keys` makes one")
    return key


NOBODY: Final = Access()
"""Nothing but what the environment has."""
