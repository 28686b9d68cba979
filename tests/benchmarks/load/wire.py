"""HTTP/2 on a bare non-blocking socket: as much as the load pair needs, and nothing that costs it time.

The rule: frames are struct-packed by hand and header blocks we send are constants without the dynamic table, so that a
token costs the load less than it can cost any proxy; but everything a peer may rely on is done as RFC 9113 says
(SETTINGS and PING acknowledged, both levels of flow control kept exactly, header blocks decoded in order). What a gRPC
peer on loopback has no reason to send (padding, priorities, CONTINUATION) is refused loudly, not half understood.
"""

import select
import socket
import struct
from collections.abc import Iterator
from typing import Final

import hpack

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8

END_STREAM: Final = 1
ACK: Final = 1
END_HEADERS: Final = 4

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INITIAL_WINDOW_BYTES: Final = 65_535
# Larger than any stream of a benchmark (32,768 tokens of 64 bytes), so that stream windows never need credit.
STREAM_WINDOW_BYTES: Final = 2**24
CONNECTION_WINDOW_BYTES: Final = 2**30
# One read's worth: a sender fills it, a receiver empties it in one system call.
READ_BYTES: Final = 256 * 1024

# Length (24 bits) and type (8) are one word: a field less to unpack for every frame.
FRAME_HEADER: Final = struct.Struct(">IBI")
FRAME_HEADER_BYTES: Final = 9


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113 section 4.1)."""
    return FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that touches no dynamic table (RFC 7541 section 6.2.2), for strings below 127 bytes."""
    if len(name) > 126 or len(value) > 126:
        raise ValueError(f"{name!r}: {value!r} needs a longer length prefix")
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def opening(*, max_streams: int = 100_000) -> bytes:
    """SETTINGS with large windows, and a connection window to match."""
    settings = struct.pack(">HIHI", 3, max_streams, 4, STREAM_WINDOW_BYTES)
    credit = struct.pack(">I", CONNECTION_WINDOW_BYTES - INITIAL_WINDOW_BYTES)
    return frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, credit)


class HeaderDecoder:
    """hpack's decoder behind a cache.

    A block that left the dynamic table as it was means the same the next time, until a block changes the table. Calls
    that resemble each other soon consist of such blocks.
    """

    def __init__(self) -> None:
        self._decoder = hpack.Decoder()
        self._known: dict[bytes, dict[str, str]] = {}

    def decode(self, block: bytes) -> dict[str, str]:
        """The fields of a block, a repeated name once."""
        known = self._known.get(block)
        if known is not None:
            return known
        entries = self._decoder.header_table.dynamic_entries
        before = len(entries), entries[0] if entries else None
        headers = dict(self._decoder.decode(block))
        if (len(entries), entries[0] if entries else None) == before:
            self._known[block] = headers
        else:
            self._known.clear()
        return headers


class Connection:
    """One end of a connection: bytes in both directions and the peer's settings. Streams belong to whoever uses it."""

    def __init__(self, sock: socket.socket, poller: select.epoll, *, first_bytes: bytes, preface: bytes = b"") -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poller.register(sock.fileno(), select.EPOLLIN)
        self.socket = sock
        self.output = bytearray(first_bytes)
        self.blocked = False
        self.send_window = INITIAL_WINDOW_BYTES
        self.initial_window = INITIAL_WINDOW_BYTES
        self.max_streams = 2**31
        self.headers = HeaderDecoder()
        self._poller = poller
        self._preface = preface
        self._rest = b""

    def receive(self) -> bytes:
        """All bytes not parsed yet. Raises EOFError when the peer has gone."""
        try:
            arrived = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            arrived = b""
        except ConnectionResetError as error:
            raise EOFError("the peer reset the connection") from error
        else:
            if not arrived:
                raise EOFError("the peer closed the connection")
        data = self._rest + arrived
        self._rest = b""
        if self._preface:
            if len(data) < len(self._preface):
                self.keep(data)
                return b""
            if not data.startswith(self._preface):
                raise ConnectionError(f"not HTTP/2: {data[:40]!r}")
            data = data[len(self._preface) :]
            self._preface = b""
        return data

    def keep(self, rest: bytes) -> None:
        """Put back the beginning of a frame that is not complete yet."""
        self._rest = rest

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Every complete frame that has arrived: (type, flags, stream id, payload)."""
        data = self.receive()
        position = 0
        while len(data) - position >= FRAME_HEADER_BYTES:
            word, flags, stream_id = FRAME_HEADER.unpack_from(data, position)
            end = position + FRAME_HEADER_BYTES + (word >> 8)
            if end > len(data):
                break
            yield word & 0xFF, flags, stream_id, data[position + FRAME_HEADER_BYTES : end]
            position = end
        self.keep(data[position:])

    def handle_control(self, kind: int, flags: int, payload: bytes) -> None:
        """A frame of the connection itself. Frames of unknown types are ignored (RFC 9113 section 4.1)."""
        if kind == SETTINGS and not flags & ACK:
            for setting, value in struct.iter_unpack(">HI", payload):
                if setting == 3:
                    self.max_streams = value
                elif setting == 4:
                    self.initial_window = value
            self.output += frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            self.output += frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            self.send_window += int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            raise ConnectionError(f"GOAWAY {payload!r}")

    def header_block(self, flags: int, payload: bytes) -> dict[str, str]:
        """Decode a HEADERS frame, which has to hold the whole block and nothing else."""
        if flags & ~END_STREAM != END_HEADERS:
            raise ConnectionError(f"HEADERS with flags {flags:#x}: no continuation, padding or priority is expected")
        return self.headers.decode(payload)

    def flush(self) -> None:
        """Send what the socket takes; the poller reports when it takes the rest. Raises EOFError as receive() does."""
        if not self.output:
            return
        try:
            sent = self.socket.send(self.output)
        except BlockingIOError:
            sent = 0
        except (ConnectionResetError, BrokenPipeError) as error:
            raise EOFError("the peer reset the connection") from error
        del self.output[:sent]
        if self.blocked != bool(self.output):
            self.blocked = not self.blocked
            events = select.EPOLLIN | select.EPOLLOUT if self.blocked else select.EPOLLIN
            self._poller.modify(self.socket.fileno(), events)

    def close(self) -> None:
        """Stop polling the socket and close it."""
        self._poller.unregister(self.socket.fileno())
        self.socket.close()
