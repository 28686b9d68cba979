"""Metadata, timeouts and status messages as header fields (gRPC over HTTP/2, "Requests" and "Responses").

The rule: what comes from the application is checked here before it can reach the wire (a bad name or value is a
``ValueError``, a bug of ours); what comes from the wire is decoded leniently, for it was validated as HTTP already.
"""

import base64
import binascii
import math
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from inferencegw.errors import Metadata

__all__ = [
    "Fields",
    "decode_metadata",
    "decode_text",
    "decode_timeout",
    "encode_metadata",
    "encode_text",
    "encode_timeout",
]

Fields: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields in wire order."""

_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_TIMEOUT_DIGITS: Final = 10**8
_RESERVED: Final = frozenset({b"te", b"content-type", b"user-agent", b"content-length"})

_OURS: Final = frozenset({"grpc-retry-pushback-ms"})
"""gRPC's own names that are a handler's to give, and a caller's to heed (gRPC A6: when to try again)."""


def encode_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> Fields:
    """Header fields for custom metadata.

    Raises:
        ValueError: a name that is not lower-case, is reserved (``grpc-``, ``:``), or a value that cannot be sent.
    """
    fields: Fields = []
    for name, value in metadata:
        if not _NAME.fullmatch(name) or (name.startswith("grpc-") and name not in _OURS) or name.encode() in _RESERVED:
            raise ValueError(f"metadata name {name!r}: must match {_NAME.pattern} and not be reserved by gRPC")
        if name.endswith("-bin"):
            if not isinstance(value, bytes):
                raise ValueError(f"metadata {name!r}: a -bin value must be bytes")
            fields.append((name.encode(), base64.b64encode(value).rstrip(b"=")))
        else:
            if not isinstance(value, str) or not _VALUE.fullmatch(value):
                raise ValueError(f"metadata {name!r}: the value must be printable ASCII text")
            # Surrounding spaces are not part of a field's value (RFC 9113 section 8.2.1).
            fields.append((name.encode(), value.strip(" ").encode()))
    return fields


def decode_metadata(fields: Fields) -> Metadata:
    """The custom metadata among ``fields``: all but pseudo-headers and what HTTP/2 and gRPC use themselves."""
    out: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name[:1] == b":" or name in _RESERVED or (name[:5] == b"grpc-" and name.decode("latin-1") not in _OURS):
            continue
        if name.endswith(b"-bin"):
            out += [(name.decode("ascii"), plain) for part in value.split(b",") for plain in _decode_binary(part)]
        else:
            out.append((name.decode("ascii"), value.decode("latin-1")))
    return tuple(out)


def _decode_binary(value: bytes) -> list[bytes]:
    value = value.strip()
    try:
        return [base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)]
    except binascii.Error:
        # Not base64: the sender's application is at fault, not the call. Nothing can be made of it.
        return []


def encode_timeout(seconds: float) -> bytes:
    """``grpc-timeout`` for a remaining time: at most eight digits, never more than was asked, at least 1 ns."""
    if seconds <= 0:
        return b"1n"
    for unit in (b"n", b"u", b"m", b"S", b"M", b"H"):
        amount = math.floor(seconds / _UNITS[unit])
        if amount < _MAX_TIMEOUT_DIGITS:
            return b"%d%s" % (max(amount, 1), unit)
    return b"99999999H"


def decode_timeout(value: bytes) -> float:
    """Seconds from a ``grpc-timeout``.

    Raises:
        ValueError: it is not one to eight digits and a unit.
    """
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise ValueError(f"malformed grpc-timeout {value!r}")
    return int(match[1]) * _UNITS[match[2]]


def encode_text(text: str) -> bytes:
    """``grpc-message``: UTF-8, percent-encoded outside printable ASCII."""
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in text.encode()
    )


def decode_text(value: bytes) -> str:
    """The text of a ``grpc-message``; what is not valid percent-encoding is kept as it came, as the spec asks."""
    plain = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes((int(match[1], 16),)), value)
    return plain.decode("utf-8", "replace")
