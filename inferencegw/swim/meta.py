"""What a member says of itself: role, addresses, model, capacity; never whether it lives.

The rule: only the owner writes it, under a version of (epoch, incarnation) of its own. Two processes that fight for one
id may write different content under one version; then the digest decides, the same way everywhere, so that all who
watch at least agree on one of them.

The content is kept in its wire form too (protobuf's, written by hand here because only the codec knows protobuf): the
digest is of those bytes, and so is the same on nodes of different versions, because fields that only later versions
know are kept as they came. They have higher numbers, and protobuf writes fields in the order of their numbers.
"""

import enum
import functools
import hashlib
import struct
from typing import Final, TypeAlias

import attrs

__all__ = ["Address", "MemberRole", "Meta", "address_text", "parse_address"]

Address: TypeAlias = tuple[str, int]
"""Where datagrams go: a host and a port. The core only compares and hashes them, and passes them on."""

_FLOAT: Final = struct.Struct("<f")


class MemberRole(enum.IntEnum):
    """What a member does in the cluster."""

    UNSPECIFIED = 0
    GATEWAY = 1
    REPLICA = 2


def address_text(address: Address) -> str:
    """``("::1", 7)`` as ``[::1]:7``: how addresses are written in messages."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> Address:
    """What :func:`address_text` wrote; ValueError for anything else."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # a bare IPv6 address: which colon is the port's would be a guess
    if not (host and host.isascii() and host.isprintable() and " " not in host):
        raise ValueError("the host of an address is not one")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise ValueError("the port of an address is not one")
    return host, int(port)


def _single(value: float) -> float:
    """``value`` as the wire will bring it back: a single-precision float."""
    rounded: float = _FLOAT.unpack(_FLOAT.pack(value))[0]
    return rounded


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    """A protobuf field of a varint type; nothing for 0, as proto3 has it."""
    return _varint(field << 3) + _varint(value) if value else b""


def _text(field: int, value: str) -> bytes:
    """A protobuf field of type string; nothing for an empty one."""
    text = value.encode()
    return _varint(field << 3 | 2) + _varint(len(text)) + text if text else b""


@attrs.frozen(cache_hash=True, kw_only=True)
class Meta:
    """One version of what a member says of itself.

    Attributes:
        epoch: the owner's epoch when it said so; 0 until the protocol stamps it.
        incarnation: the owner's incarnation when it said so.
        role: a :class:`MemberRole`, or the number of one that only later versions know.
        address: where it receives gossip; the protocol writes its own here.
        grpc_address: where it serves gRPC, as ``host:port``.
        model: what it serves; replicas only.
        model_version: which version of that; replicas only.
        weight: its share of the calls against other replicas'.
        max_capacity: generations it runs at a time; replicas only.
        cordoned: an operator keeps new calls away from it.
        draining: it refuses new calls because it drains.
        later: fields that only later versions know, as they came.
    """

    epoch: int = 0
    incarnation: int = 0
    role: int = MemberRole.UNSPECIFIED
    address: Address = ("", 0)
    grpc_address: str = ""
    model: str = ""
    model_version: str = ""
    weight: float = attrs.field(default=1.0, converter=_single)
    max_capacity: int = 0
    cordoned: bool = False
    draining: bool = False
    later: bytes = b""

    @functools.cached_property
    def content(self) -> bytes:
        """Everything but the version, as it goes over the wire. The weight 1 is not written: there 0 means 1."""
        known = (
            _number(3, int(self.role)),
            _text(4, address_text(self.address)),
            _text(5, self.grpc_address),
            _text(6, self.model),
            _text(7, self.model_version),
            b"" if self.weight == 1.0 else _varint(8 << 3 | 5) + _FLOAT.pack(self.weight),
            _number(9, self.max_capacity),
            _number(10, self.cordoned),
            _number(11, self.draining),
        )
        return b"".join(known) + self.later

    @functools.cached_property
    def digest(self) -> int:
        """64 bits that tell contents apart."""
        return int.from_bytes(hashlib.blake2b(self.content, digest_size=8).digest(), "little")

    @functools.cached_property
    def key(self) -> tuple[int, int, int]:
        """Its place in the order of what an owner said; equal keys are equal metadata."""
        return (self.epoch, self.incarnation, self.digest)
