"""An HTTP/2 end that does exactly what a test says, and writes down everything the other end does.

The rule: no state machine. Frames go out as they are given, whatever RFC 9113 thinks of them, and come in as they are;
nobody's opinion of what is legal stands between a test and the wire. It answers SETTINGS and PING unless told not to,
and it never opens a window by itself.

grpcio is the independent peer of most tests; this one is for what grpcio cannot be made to do: a WINDOW_UPDATE at a
certain moment, a window that stays shut, a GOAWAY in the middle, a PING that is not answered.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence

import trio
from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_BYTES = 9
MAX_FRAME_BYTES = 16_384

Header = tuple[str, str]


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    """``message`` with gRPC's five-byte prefix."""
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


def unframed(data: bytes) -> list[bytes]:
    """The whole messages in ``data``; what is left of an unfinished one must be nothing."""
    messages, rest = whole_messages(data)
    assert not rest
    return messages


def whole_messages(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole messages in ``data``, and what there is of one more."""
    messages = []
    while len(data) >= (end := 5 + int.from_bytes(data[1:5], "big")) and data:
        assert data[0] == 0
        messages.append(data[5:end])
        data = data[end:]
    return messages, data


def cut_frames(data: bytes | bytearray) -> list[Frame]:
    """The whole frames in ``data``, which one end sent; a client's preface is skipped."""
    rest = bytes(data).removeprefix(PREFACE)
    frames = []
    while (cut := _cut_one(rest)) is not None:
        frame, rest = cut
        frames.append(frame)
    return frames


def _cut_one(data: bytes) -> tuple[Frame, bytes] | None:
    """The first frame in ``data`` and what follows it; None if it is not whole."""
    if len(data) < FRAME_HEADER_BYTES:
        return None
    frame, length = Frame.parse_frame_header(data[:FRAME_HEADER_BYTES])
    end = FRAME_HEADER_BYTES + length
    if len(data) < end:
        return None
    frame.parse_body(memoryview(data[FRAME_HEADER_BYTES:end]))
    return frame, data[end:]


class Exchange:
    """What came on one stream."""

    def __init__(self) -> None:
        self.blocks: list[list[Header]] = []
        self.data = bytearray()
        self.window_updates: list[int] = []
        self.ended = False
        self.reset: int | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing more may come."""
        return self.ended or self.reset is not None

    @property
    def messages(self) -> list[bytes]:
        """The gRPC messages in the data."""
        return unframed(bytes(self.data))

    @property
    def headers(self) -> dict[str, str]:
        """The first header block."""
        return dict(self.blocks[0])

    @property
    def trailers(self) -> dict[str, str]:
        """The last header block; in a Trailers-Only response it is the first as well."""
        assert self.ended
        return dict(self.blocks[-1])

    @property
    def status(self) -> int:
        """The gRPC status."""
        return int(self.trailers["grpc-status"])


class RawPeer:
    """One end of a connection. ``streams[n]`` is what came on stream n, ``control`` the frames on stream 0."""

    def __init__(self, stream: trio.abc.Stream, *, is_client: bool) -> None:
        self.stream = stream
        self.is_client = is_client
        self.streams: defaultdict[int, Exchange] = defaultdict(Exchange)
        self.control: list[Frame] = []
        self.frames: list[Frame] = []
        self.answers_pings = True
        self.at_eof = False
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._input = b""
        self._block = b""
        self._preface_left = 0 if is_client else len(PREFACE)

    # What goes out.

    async def start(self, settings: dict[int, int] | None = None) -> None:
        """Send the connection preface with ``settings``."""
        hello = SettingsFrame(0, settings=settings or {})
        await self.send(PREFACE if self.is_client else b"", hello)

    async def send(self, *parts: Frame | bytes) -> None:
        """Send frames, or bytes as they are, in one write."""
        await self.stream.send_all(b"".join(part if isinstance(part, bytes) else part.serialize() for part in parts))

    def headers(self, stream_id: int, headers: Sequence[Header], *, end_stream: bool = False) -> HeadersFrame:
        """A whole header block. Blocks must be sent in the order in which they are made: they share a table."""
        frame = HeadersFrame(stream_id, self._encoder.encode(list(headers)))
        frame.flags.add("END_HEADERS")
        if end_stream:
            frame.flags.add("END_STREAM")
        return frame

    def data(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> bytes:
        """DATA frames of legal size."""
        starts = range(0, len(data), MAX_FRAME_BYTES) if data else range(1)
        frames = [DataFrame(stream_id, data[start : start + MAX_FRAME_BYTES]) for start in starts]
        if end_stream:
            frames[-1].flags.add("END_STREAM")
        return b"".join(frame.serialize() for frame in frames)

    async def open_windows(self, *stream_ids: int, increment: int = 2**24) -> None:
        """Let the other end send ``increment`` more on the connection (0) and on each of ``stream_ids``."""
        await self.send(*(WindowUpdateFrame(n, window_increment=increment) for n in (0, *stream_ids)))

    async def round_trip(self) -> None:
        """Send a PING and read up to its acknowledgement: the other end has acted on everything sent before it."""
        opaque = len(self.frames).to_bytes(8, "big")
        await self.send(PingFrame(0, opaque_data=opaque))
        await self.until(lambda: any(frame.opaque_data == opaque for frame in self.pings(acknowledged=True)))

    # What came in.

    def pings(self, *, acknowledged: bool = False) -> list[PingFrame]:
        """The PINGs that came, or the answers to ours."""
        return [f for f in self.control if isinstance(f, PingFrame) and ("ACK" in f.flags) is acknowledged]

    def goaways(self) -> list[GoAwayFrame]:
        """The GOAWAYs that came."""
        return [frame for frame in self.control if isinstance(frame, GoAwayFrame)]

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Read until ``predicate()``; an EOF before that is an error."""
        while not predicate():
            assert not self.at_eof, f"EOF; before it came {self.frames}"
            await self._receive_once()

    async def until_closed(self, *stream_ids: int) -> None:
        """Read until nothing more may come on these streams."""
        await self.until(lambda: all(self.streams[stream_id].closed for stream_id in stream_ids))

    async def until_eof(self) -> None:
        """Read to the end."""
        while not self.at_eof:
            await self._receive_once()

    async def _receive_once(self) -> None:
        data = await self.stream.receive_some()
        self.at_eof = not data
        skipped = min(self._preface_left, len(data))
        self._preface_left -= skipped
        self._input += data[skipped:]
        answers = []
        while (cut := _cut_one(self._input)) is not None:
            frame, self._input = cut
            self.frames.append(frame)
            answers += self._note(frame)
        if answers:
            with contextlib.suppress(trio.BrokenResourceError):  # it has hung up; what it said before that counts
                await self.send(*answers)

    def _note(self, frame: Frame) -> list[Frame]:
        """Write ``frame`` down; return what to answer."""
        if frame.stream_id == 0:
            self.control.append(frame)
            if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                return [SettingsFrame(0, flags=["ACK"])]
            if isinstance(frame, PingFrame) and "ACK" not in frame.flags and self.answers_pings:
                return [PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"])]
            return []
        exchange = self.streams[frame.stream_id]
        match frame:
            case HeadersFrame() | ContinuationFrame():
                self._block += frame.data
                if "END_HEADERS" in frame.flags:
                    exchange.blocks.append(
                        [(str(name), str(value)) for name, value in self._decoder.decode(self._block)]
                    )
                    self._block = b""
            case DataFrame():
                exchange.data += frame.data
            case WindowUpdateFrame():
                exchange.window_updates.append(frame.window_increment)
            case RstStreamFrame():
                exchange.reset = frame.error_code
            case _:
                pass
        exchange.ended |= "END_STREAM" in frame.flags
        return []
