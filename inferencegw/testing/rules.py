"""What a test may decide about single packets.

The rule: a rule looks at one packet and returns a verdict, or None for "not mine"; the first verdict wins, and without
one the packet goes the way of all others.
"""

import enum
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

__all__ = ["Delay", "Drop", "Kind", "Packet", "Pass", "Place", "Reset", "Rule", "Verdict"]


class Kind(enum.Enum):
    """What a packet is."""

    SYN = "SYN"
    SYN_ACK = "SYN+ACK"
    DATA = "DATA"
    ACK = "ACK"
    FIN = "FIN"
    RST = "RST"
    DATAGRAM = "DATAGRAM"


@attrs.frozen
class Place:
    """One end of a packet's way: a host by its name, and an address and port of it."""

    host: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@attrs.frozen
class Packet:
    """One packet, as a rule sees it.

    Attributes:
        kind: what it is.
        source: where it comes from.
        destination: where it goes.
        size: bytes of payload.
        number: counts all packets of the simulation; one that is sent again is another one.
    """

    kind: Kind
    source: Place
    destination: Place
    size: int
    number: int


@attrs.frozen
class Pass:
    """The packet arrives as if there were no faults on its way: neither loss nor partition."""


@attrs.frozen
class Delay:
    """The packet goes its way, and takes ``seconds`` longer."""

    seconds: float = attrs.field(validator=attrs.validators.ge(0.0))


@attrs.frozen
class Drop:
    """The packet is lost. TCP will send it again."""


@attrs.frozen
class Reset:
    """The connection is reset at both ends, as a firewall that has lost its tables does; a datagram is lost."""


Verdict: TypeAlias = Pass | Delay | Drop | Reset
Rule: TypeAlias = Callable[[Packet], Verdict | None]

FIRST_RETRY: Final = 0.2
"""Seconds until TCP sends something again (Linux's least RTO; RFC 6298 would have it be 1)."""

MAX_RETRY_PAUSE: Final = 120.0
"""Longest such pause (Linux)."""


def retry_pause(attempt: int) -> float:
    """Seconds after which TCP sends something for the ``attempt``-th time again; attempts count from 0."""
    return min(FIRST_RETRY * 2.0 ** min(attempt, 20), MAX_RETRY_PAUSE)
