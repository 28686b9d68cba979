"""Length-prefixed messages (gRPC over HTTP/2, "Length-Prefixed-Message"): one flag byte, four length bytes, the bytes.

The rule: the length is checked as soon as the five bytes are there, before anything is stored. A reader is fed whatever
DATA frames carry (several messages, or part of one). A compressed message is kept as it came until somebody takes it,
or a small window could hold a great many large messages; and it never expands beyond the limit.
"""

import struct
import zlib
from typing import Final

from inferencegw.errors import RpcError, StatusCode

__all__ = ["ENCODINGS", "PREFIX_BYTES", "Compressed", "MessageReader", "frame_message", "inflate"]

ENCODINGS: Final = ("identity", "gzip")
"""What we can read. We send identity: tokens are too short to compress."""

PREFIX_BYTES: Final = 5
_PREFIX: Final = struct.Struct(">BI")
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS


def frame_message(message: bytes) -> bytes:
    """``message`` with its uncompressed prefix."""
    return _PREFIX.pack(0, len(message)) + message


class Compressed(bytes):
    """A message that is to be inflated when it is taken."""


class MessageReader:
    """Cuts one direction of one stream into messages."""

    __slots__ = ("_buffer", "_gzip", "_max_bytes")

    def __init__(self, max_bytes: int, encoding: str) -> None:
        self._max_bytes = max_bytes
        self._gzip = encoding == "gzip"
        self._buffer = bytearray()

    @property
    def partial_bytes(self) -> int:
        """Bytes held of a message that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes, out: list[bytes]) -> int:
        """Append every message that ``data`` completes to ``out``; return how many bytes of the wire they took.

        Raises:
            RpcError: RESOURCE_EXHAUSTED for a message over the limit, INTERNAL for a broken prefix. The stream cannot
                be read any further.
        """
        if not self._buffer and len(data) >= PREFIX_BYTES:
            flag, length = _PREFIX.unpack_from(data)
            if flag == 0 and length == len(data) - PREFIX_BYTES and length <= self._max_bytes:
                out.append(data[PREFIX_BYTES:])
                return len(data)
        self._buffer += data
        return self._cut(out)

    def _cut(self, out: list[bytes]) -> int:
        buffer, start = self._buffer, 0
        while len(buffer) - start >= PREFIX_BYTES:
            flag, length = _PREFIX.unpack_from(buffer, start)
            if length > self._max_bytes:
                raise RpcError(
                    StatusCode.RESOURCE_EXHAUSTED, f"message of {length} bytes: the limit is {self._max_bytes}"
                )
            if flag > 1 or (flag and not self._gzip):
                raise RpcError(StatusCode.INTERNAL, f"compressed flag {flag} on a stream without grpc-encoding")
            end = start + PREFIX_BYTES + length
            if end > len(buffer):
                break
            message = bytes(buffer[start + PREFIX_BYTES : end])
            out.append(Compressed(message) if flag else message)
            start = end
        del buffer[:start]
        return start


def inflate(message: bytes, max_bytes: int) -> bytes:
    """What is in a gzip message.

    Raises:
        RpcError: RESOURCE_EXHAUSTED for one that expands beyond ``max_bytes``, INTERNAL for broken gzip.
    """
    inflater = zlib.decompressobj(_GZIP_WBITS)
    try:
        plain = inflater.decompress(message, max_bytes + 1)
    except zlib.error as error:
        raise RpcError(StatusCode.INTERNAL, f"broken gzip message: {error}") from error
    if len(plain) > max_bytes:
        raise RpcError(StatusCode.RESOURCE_EXHAUSTED, f"message inflates to more than the limit of {max_bytes} bytes")
    if not inflater.eof:
        raise RpcError(StatusCode.INTERNAL, "broken gzip message: it ends early")
    return plain
