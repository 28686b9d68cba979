"""The job that the load pair gives every proxy, as bytes: what the replica sends and what the client has to receive.

The rule: both sides come from the generated messages, once, before the load begins; on the token path bytes are copied
and compared, never encoded or parsed. A token is one 32-byte message (at a two-byte index) in one DATA frame, its text
the time at which it was sent and some filler, so that the receiver knows its delay.

A frame that is sent again and again differs only in its stream id and its time. A template holds marks in their places:
`bytes.replace` then prepares a whole batch at the speed of memory.
"""

import functools
import struct
from typing import Final, Literal, TypeAlias

from inferencegw.v1 import gateway_pb2, replica_pb2

from .wire import DATA, END_HEADERS, END_STREAM, HEADERS, frame, literal

REPLICA_ID: Final = "bench-replica"
# As long as the first one's, so that a token is as long whoever sends it.
REPLICA_IDS: Final = (REPLICA_ID, "bench-another")

Event: TypeAlias = Literal["", "hedged", "failed-over"]
"""What befalls each call early on: of two attempts at once one stays silent, or the first one fails."""

# Index of the first token that only comes after the event.
EVENT_INDEX: Final = 8
# Templates are cut at multiples of this, so that streams of any length share them.
BATCH_TOKENS: Final = 64

STAMP_BYTES: Final = 16
STAMP_MARK: Final = b"~" * STAMP_BYTES
FILLER: Final = b" token text"
# No stream id has its highest bit set (RFC 9113 section 4.1), and no varint of an index has four such bytes in a row.
STREAM_MARK: Final = b"\xff\xff\xff\xff"

TRAILERS: Final = frame(HEADERS, END_HEADERS | END_STREAM, 0, literal(b"grpc-status", b"0"))


def grpc_message(payload: bytes) -> bytes:
    """A gRPC length-prefixed message, not compressed."""
    return struct.pack(">BI", 0, len(payload)) + payload


def response(index: int, *, final: bool, text: bytes = STAMP_MARK + FILLER) -> replica_pb2.GenerateResponse:
    """Token ``index`` as the replica sends it."""
    message = replica_pb2.GenerateResponse(index=index, text=text.decode())
    if final:
        message.is_final = True
        message.finish_reason = replica_pb2.FINISH_REASON_LENGTH
        message.usage.prompt_tokens = 1
        message.usage.completion_tokens = index + 1
    return message


@functools.lru_cache(maxsize=16_384)
def template(index: int, count: int, *, final: bool) -> tuple[bytes, int]:
    """The frames of ``count`` tokens from ``index`` on, and what they take of the flow-control windows.

    With ``final`` the last of them ends the generation, and the stream's trailers follow it.
    """
    frames = []
    flow_controlled_bytes = 0
    for position in range(index, index + count):
        last = final and position == index + count - 1
        payload = grpc_message(response(position, final=last).SerializeToString())
        flow_controlled_bytes += len(payload)
        frames.append(_marked(frame(DATA, 0, 0, payload)))
    if final:
        frames.append(_marked(TRAILERS))
    return b"".join(frames), flow_controlled_bytes


def _marked(frame_bytes: bytes) -> bytes:
    return frame_bytes[:5] + STREAM_MARK + frame_bytes[9:]


def fill(frames: bytes, stream_id: int, now_ns: int) -> bytes:
    """A template's frames for one stream, sent now."""
    return frames.replace(STREAM_MARK, stream_id.to_bytes(4, "big")).replace(STAMP_MARK, b"%016x" % now_ns)


class Expectation:
    """What a client has to receive: token by token the replica's messages, with the proxy's two fields after them.

    ``beginnings[i]``, a stamp and one of ``endings[i]`` are the bytes of token ``i`` where it is not the last: to
    compare them is the fast way. Whatever looks different, each last token included, is parsed and compared by field.
    """

    def __init__(self, tokens: int, *, relayed: bool, event: Event = "") -> None:
        self.tokens = tokens
        self.relayed = relayed
        self.event = event
        whole = [grpc_message(self._expected(index, self._suffixes(index)[0], final=False)) for index in range(tokens)]
        # One more than there are, which nothing begins with: a token too many goes to the comparison that refuses it.
        self.beginnings = [message.split(STAMP_MARK)[0] for message in whole] + [b"\xff"]
        before, after = (
            tuple(FILLER + suffix for suffix in self._suffixes(index)) for index in (EVENT_INDEX - 1, EVENT_INDEX)
        )
        self.endings = [before if index < EVENT_INDEX else after for index in range(tokens + 1)]
        self.rest_bytes = STAMP_BYTES + len(before[0])

    def _suffixes(self, index: int) -> list[bytes]:
        """What a proxy may have added to token ``index``."""
        if not self.relayed:
            return [b""]
        failed_over = self.event == "failed-over" and index >= EVENT_INDEX
        attempts = [1, 2] if self.event == "hedged" else [2 if failed_over else 1]
        return [
            gateway_pb2.InferResponse(replica_id=replica_id, attempt=attempt).SerializeToString()
            for replica_id in REPLICA_IDS
            for attempt in attempts
        ]

    def _expected(self, index: int, suffix: bytes, *, final: bool, text: bytes = STAMP_MARK + FILLER) -> bytes:
        message = response(index, final=final, text=text).SerializeToString()
        return gateway_pb2.InferResponse.FromString(message + suffix).SerializeToString(deterministic=True)

    def sent_at(self, message: bytes, index: int, tokens: int) -> int:
        """When the replica sent this message. ValueError if it is not token ``index`` of ``tokens`` in every field."""
        received = gateway_pb2.InferResponse.FromString(message)
        text = received.text.encode()
        final = index == tokens - 1
        expected = [self._expected(index, suffix, final=final, text=text) for suffix in self._suffixes(index)]
        exact = text[STAMP_BYTES:] == FILLER and received.SerializeToString(deterministic=True) in expected
        if index >= tokens or not exact:
            raise ValueError(f"token {index} of {tokens} came as {received!r}")
        return int(text[:STAMP_BYTES], 16)
