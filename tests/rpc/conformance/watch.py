"""What a server must never send, whatever it is sent: checked in passing on every frame of every case.

The rule: the watch is a pure observer; it keeps what it needs per connection and returns a sentence per breach. It is
lenient where the wire does not show who is late (windows are left to the flow-control cases), strict where it does.
"""

from typing import Final

from .frames import ACK, MAX_FRAME_SIZE, Frame, Type

__all__ = ["Watch"]

_ON_CONNECTION: Final = {Type.SETTINGS, Type.PING, Type.GOAWAY}
_ON_STREAM: Final = {Type.DATA, Type.HEADERS, Type.RST_STREAM, Type.CONTINUATION}
_LENGTHS: Final[dict[int, int]] = {Type.RST_STREAM: 4, Type.PING: 8, Type.WINDOW_UPDATE: 4}
_FORBIDDEN_FIELDS: Final = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}


class Watch:
    """One connection, seen from the client."""

    def __init__(self) -> None:
        self._first = True
        self._ended: set[int] = set()
        self._content: dict[int, int] = {}

    def breaches(self, frame: Frame) -> list[str]:
        """What this frame does that RFC 9113 forbids a server."""
        found = [sentence for broken, sentence in self._rules(frame) if broken]
        self._first = False
        if frame.type == Type.RST_STREAM or frame.ends_stream:
            self._ended.add(frame.stream)
        return found

    def _rules(self, frame: Frame) -> list[tuple[bool, str]]:
        where = str(frame)
        sends_on_closed = frame.type in (Type.DATA, Type.HEADERS) and frame.stream in self._ended
        return [
            (
                self._first and (frame.type != Type.SETTINGS or bool(frame.flags & ACK)),
                f"{where} before SETTINGS (3.4)",
            ),
            (frame.reserved, f"{where} has the reserved bit set (4.1)"),
            (len(frame.payload) > MAX_FRAME_SIZE, f"{where} is larger than the client allows (4.2)"),
            (len(frame.payload) != _LENGTHS.get(frame.type, len(frame.payload)), f"{where} has a wrong length"),
            (frame.type == Type.PUSH_PROMISE, f"{where}: a promise nobody wants (8.4)"),
            (frame.type in _ON_CONNECTION and frame.stream != 0, f"{where} on a stream (6.5, 6.7, 6.8)"),
            (
                frame.type in _ON_STREAM and frame.stream % 2 == 0,
                f"{where} on a stream the client did not open (5.1.1)",
            ),
            (sends_on_closed, f"{where} after the server ended the stream (5.1)"),
            *self._message_rules(frame, where),
        ]

    def _message_rules(self, frame: Frame, where: str) -> list[tuple[bool, str]]:
        if frame.type == Type.DATA and frame.stream in self._content:
            self._content[frame.stream] -= len(frame.payload)
        if frame.fields is not None:
            length = dict(frame.fields).get("content-length")
            if length is not None:
                self._content[frame.stream] = int(length)
        left = self._content.get(frame.stream, 0) if frame.ends_stream else 0
        names = [name for name, _ in frame.fields or ()]
        pseudo = [name for name in names if name.startswith(":")]
        return [
            (names[: len(pseudo)] != pseudo, f"{where} has pseudo-header fields after others (8.3)"),
            (pseudo not in ([], [":status"]), f"{where} has pseudo-header fields {pseudo} (8.3.2)"),
            (any(name != name.lower() for name in names), f"{where} has upper-case names (8.2)"),
            (bool(_FORBIDDEN_FIELDS & set(names)), f"{where} has connection-specific fields (8.2.2)"),
            (left != 0 and frame.type == Type.DATA, f"{where}: content-length is {left} octets off (8.1.1)"),
        ]
