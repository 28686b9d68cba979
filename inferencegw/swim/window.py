"""Which packets of a member have been received: a second copy is not heard.

The rule: a packet is heard once. Every packet is a sign of life of its sender, so a copy that somebody kept and sends
again could keep the dead among the living; and a network that doubles packets must not double answers.

Senders number all their packets, whomever they go to. The window remembers the last 1,024 numbers up to the highest
one seen, like IPsec's (RFC 4303, section 3.4.3), so that packets may overtake each other; what is older is not heard.
"""

from typing import Final

__all__ = ["PacketWindow"]

SIZE: Final = 1024
"""Numbers remembered. High: memory per member. Low: packets that were overtaken by many are lost."""

_MASK: Final = (1 << SIZE) - 1


class PacketWindow:
    """The packets of one process. It exists from the first one on."""

    __slots__ = ("_seen", "_top", "epoch")

    def __init__(self, epoch: int, number: int) -> None:
        self.epoch = epoch
        self._top = number
        self._seen = 1  # bit i: the packet numbered top - i

    def accept(self, number: int) -> bool:
        """Whether this packet is heard; it will not be again."""
        ahead = number - self._top
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _MASK if ahead < SIZE else 1
            self._top = number
            return True
        if ahead <= -SIZE or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True
