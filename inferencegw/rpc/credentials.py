"""How a key is shown: in the metadata of every call, as ``authorization: Bearer KEY`` (RFC 6750, section 2.1).

The rule: what a caller has written is taken as it is, and judged elsewhere. Neither end ever logs it or tells it on.
"""

from typing import Final

from inferencegw.errors import ConfigError, Metadata

__all__ = ["bearer", "shown_key"]

_NAME: Final = "authorization"


def bearer(key: str) -> Metadata:
    """The metadata of a caller with ``key``; none where that is empty. ConfigError where it is no key's text."""
    if not key:
        return ()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError("key: must be what `trio-gw keys` has made, and nothing else")  # and not be told here
    return ((_NAME, f"Bearer {key}"),)


def shown_key(metadata: Metadata) -> str | None:
    """What a caller has shown: None where it has shown nothing, empty where that is of another kind."""
    for name, value in metadata:
        if name == _NAME and isinstance(value, str):
            scheme, _, key = value.partition(" ")
            return key.strip(" ") if scheme.lower() == "bearer" else ""
    return None
