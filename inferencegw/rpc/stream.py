"""One call's half of a connection: what has arrived for it, what may be sent on it, how it ended.

The rule: a stream is passive. Its :class:`~inferencegw.rpc.connection.Connection` fills it, its owner (a shell's call
object) empties it; neither waits here. ``inbox`` holds whole messages only.
"""

from typing import TYPE_CHECKING, Any

from inferencegw.errors import RpcError
from inferencegw.rpc.flow import InboundWindow
from inferencegw.rpc.messages import Compressed, MessageReader, inflate
from inferencegw.rpc.metadata import Fields

if TYPE_CHECKING:
    from inferencegw.rpc.connection import Connection

__all__ = ["Stream"]


class Stream:
    """An HTTP/2 stream that carries one call, from either end.

    Attributes:
        id: the HTTP/2 stream id.
        fields: the header fields that opened the peer's direction (request or response), empty until they came.
        inbox: whole messages that have arrived and were not taken.
        remote_ended: nothing more will arrive.
        compressed: its peer may compress messages (``grpc-encoding: gzip``).
        closed: nothing more can be sent or will arrive; the connection has forgotten the stream.
        error: why it ended early, set at most once and only when closed.
        owner: whatever the shell wants to find again when an event names this stream.
    """

    __slots__ = (
        "announced",
        "closed",
        "compressed",
        "connection",
        "error",
        "fields",
        "h2",
        "headers_sent",
        "held_bytes",
        "id",
        "inbox",
        "owner",
        "reader",
        "remote_ended",
        "window",
    )

    def __init__(self, connection: "Connection[Any]", stream_id: int, h2_stream: Any, window_bytes: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.h2 = h2_stream
        self.window = InboundWindow(window_bytes)
        self.reader: MessageReader | None = None
        self.fields: Fields = []
        self.inbox: list[bytes] = []
        self.held_bytes = 0
        self.announced = False
        self.compressed = False
        self.headers_sent = False
        self.remote_ended = False
        self.closed = False
        self.error: RpcError | None = None
        self.owner: Any = None

    def take(self) -> list[bytes]:
        """Whole messages that have arrived, and credit the peer's windows for them; empty when there are none left.

        All of them, but only one at a time where they may be compressed: what is taken is inflated.

        Raises:
            RpcError: a compressed message is broken, or larger than the limit.
        """
        self.announced = False
        messages = self.inbox
        if not messages:
            return messages
        if self.compressed and len(messages) > 1:
            self.inbox = messages[1:]
        else:
            self.inbox = []
            self.connection.release(self)
        if not self.compressed:
            return messages
        first = messages[0]
        return [inflate(first, self.connection.limits.max_message_bytes) if isinstance(first, Compressed) else first]

    def write(self, data: bytes | memoryview) -> int:
        """Put as much of ``data`` on the wire as windows and the output buffer allow; return how much that was.

        After less than everything, the connection names this stream in ``pop_writable`` when more may go.

        Raises:
            RpcError: the stream is closed; nothing was written.
        """
        return self.connection.write(self, data)
