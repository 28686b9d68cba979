"""The job that the load pair gives every proxy, as bytes: what the replica sends and what the client has to receive.

The rule: both sides come from the generated messages, once, before the load begins; on the token path bytes are copied
and compared, never encoded or parsed. A token is one 32-byte message (at a two-byte index) in one DATA frame, its text
the time at which it was sent and some filler, so that the receiver knows its delay.

A frame that is sent again and again differs only in its stream id and its time. A template holds marks in their places:
`bytes.replace` then prepares a whole batch at the speed of memory.
"""

import functools
import struct
from typing import Final

from inferencegw.v1 import gateway_pb2, replica_pb2

from .wire import DATA, END_HEADERS, END_STREAM, HEADERS, frame, literal

REPLICA_ID: Final = "bench-replica"
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

    ``beginnings[i]``, a stamp and ``ending`` are the bytes of token ``i`` where it is not the last: comparing them is
    the fast way. Whatever looks different, every last token included, is parsed and compared field by field.
    """

    def __init__(self, tokens: int, *, relayed: bool) -> None:
        self.tokens = tokens
        self.relayed = relayed
        whole = [grpc_message(self._expected(index, final=False)) for index in range(tokens)]
        # One more than there are, which nothing begins with: a token too many goes to the comparison that refuses it.
        self.beginnings = [message.split(STAMP_MARK)[0] for message in whole] + [b"\xff"]
        self.ending = whole[0].split(STAMP_MARK)[1]

    def _expected(self, index: int, *, final: bool, text: bytes = STAMP_MARK + FILLER) -> bytes:
        message = gateway_pb2.InferResponse.FromString(response(index, final=final, text=text).SerializeToString())
        if self.relayed:
            message.replica_id = REPLICA_ID
            message.attempt = 1
        return message.SerializeToString(deterministic=True)

    def sent_at(self, message: bytes, index: int, tokens: int) -> int:
        """When the replica sent this message. ValueError if it is not token ``index`` of ``tokens`` in every field."""
        received = gateway_pb2.InferResponse.FromString(message)
        text = received.text.encode()
        expected = self._expected(index, final=index == tokens - 1, text=text)
        exact = text[STAMP_BYTES:] == FILLER and received.SerializeToString(deterministic=True) == expected
        if index >= tokens or not exact:
            raise ValueError(f"token {index} of {tokens} came as {received!r}")
        return int(text[:STAMP_BYTES], 16)
