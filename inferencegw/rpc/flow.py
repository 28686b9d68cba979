"""The receiving half of HTTP/2 flow control (RFC 9113 section 5.2).

The rule: bytes are given back to the peer when nobody holds them any more. A whole message is held until its reader
takes it; half a message is not counted here (it has a limit of its own, ``max_partial_bytes``), or a message larger
than a window could never arrive.
"""

__all__ = ["InboundWindow"]


class InboundWindow:
    """What a peer may still send, on one stream or on one connection.

    ``available + owed == size`` at all times: every byte received is owed back until it is credited.
    """

    __slots__ = ("available", "owed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.available = size
        self.owed = 0

    def try_receive(self, length: int) -> bool:
        """Account for ``length`` bytes; False if the peer had no right to send them."""
        if length > self.available:
            return False
        self.available -= length
        self.owed += length
        return True

    def credit(self, held: int) -> int:
        """Take what can be given back while ``held`` bytes are still unread: an increment for WINDOW_UPDATE, or 0.

        Half a window at a time: fewer frames, and since a peer always has the other half, no stall.
        """
        due = self.owed - held
        if due * 2 < self.size:
            return 0
        self.owed -= due
        self.available += due
        return due
