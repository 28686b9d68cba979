"""Streams that are over: how each came to be so, and what a frame that is late for it means (RFC 9113 section 5.1).

The rule: one table. Whoever ended a stream in order has to know that it did; who was reset may not know yet, and what
it had on its way is borne; who has reset it itself must have stopped. The last thousand are remembered.
"""

import enum
from typing import Final

from h2.utilities import SizeLimitDict

from inferencegw.rpc.flow import InboundWindow
from inferencegw.rpc.frames import ErrorCode, FrameType
from inferencegw.rpc.framing import ConnectionViolation

__all__ = ["LATE", "ClosedBy", "ClosedStreams", "Late"]

_KEPT: Final = 1024
"""As many as may be open at once, and so be reset at once. High: memory, a tenth of a kB each, for every connection
that has had so many. Low: what is late is taken for a breach of the rules sooner."""


class ClosedBy(enum.Enum):
    """How a stream that is over came to be so."""

    END = "END_STREAM in both directions"
    RESET_SENT = "our RST_STREAM"
    RESET_RECEIVED = "the peer's RST_STREAM"
    UNKNOWN = "skipped, or forgotten"


class Late(enum.Enum):
    """What a frame does that comes for such a stream, where it does not end the connection."""

    IGNORED = "nothing"
    RESET = "RST_STREAM with STREAM_CLOSED"


LATE: Final[dict[tuple[FrameType, ClosedBy], Late | ErrorCode]] = {
    (FrameType.DATA, ClosedBy.END): ErrorCode.STREAM_CLOSED,
    (FrameType.DATA, ClosedBy.RESET_SENT): Late.IGNORED,
    (FrameType.DATA, ClosedBy.RESET_RECEIVED): Late.RESET,
    (FrameType.DATA, ClosedBy.UNKNOWN): Late.RESET,
    (FrameType.HEADERS, ClosedBy.END): ErrorCode.STREAM_CLOSED,
    (FrameType.HEADERS, ClosedBy.RESET_SENT): Late.IGNORED,
    (FrameType.HEADERS, ClosedBy.RESET_RECEIVED): Late.RESET,
    (FrameType.HEADERS, ClosedBy.UNKNOWN): ErrorCode.PROTOCOL_ERROR,
}


class ClosedStreams:
    """Those of one connection."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: SizeLimitDict = SizeLimitDict(size_limit=_KEPT)

    def add(self, stream_id: int, how: ClosedBy, window: InboundWindow) -> None:
        """A stream is over. If we have reset it DATA may still come, as much as ``window`` allows."""
        self._known[stream_id] = window if how is ClosedBy.RESET_SENT else how

    def is_expected(self, stream_id: int, length: int) -> bool:
        """Whether DATA of this length may have been on its way: in frames as small as tokens are, not in empty ones."""
        window = self._known.get(stream_id)
        return isinstance(window, InboundWindow) and length > 0 and window.try_receive(length)

    def judge(self, kind: FrameType, stream_id: int) -> bool:
        """Whether a late frame is to be answered with RST_STREAM.

        Raises:
            ConnectionViolation: it ends the connection.
        """
        known: InboundWindow | ClosedBy = self._known.get(stream_id, ClosedBy.UNKNOWN)
        how = ClosedBy.RESET_SENT if isinstance(known, InboundWindow) else known
        late = LATE[kind, how]
        if isinstance(late, ErrorCode):
            raise ConnectionViolation(late, f"{kind.name} on stream {stream_id}, which is over: {how.value}")
        return late is Late.RESET
