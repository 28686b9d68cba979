"""Length-prefixed messages: any cut of the bytes gives the same messages, and limits hold before memory is spent."""

import gzip
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc.messages import PREFIX_BYTES, Compressed, MessageReader, frame_message, inflate

LIMIT = 4096


def compressed(message: bytes) -> bytes:
    """``message`` with the compressed flag."""
    body = gzip.compress(message, mtime=0)
    return struct.pack(">BI", 1, len(body)) + body


def read(reader: MessageReader, *pieces: bytes) -> list[bytes]:
    """Feed pieces one by one; return the messages."""
    out: list[bytes] = []
    consumed = sum(reader.feed(piece, out) for piece in pieces)
    assert consumed + reader.partial_bytes == sum(map(len, pieces))
    return [inflate(message, LIMIT) if isinstance(message, Compressed) else message for message in out]


@given(st.lists(st.tuples(st.binary(max_size=300), st.booleans())), st.data())
def test_any_cut_gives_the_same_messages(messages: list[tuple[bytes, bool]], data: st.DataObject) -> None:
    """DATA frames need not respect messages: nginx and C core re-slice."""
    wire = b"".join(compressed(body) if squeeze else frame_message(body) for body, squeeze in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert read(MessageReader(LIMIT, "gzip"), *pieces) == [body for body, _ in messages]


@pytest.mark.parametrize(("length", "fits"), [(LIMIT, True), (LIMIT + 1, False), (2**32 - 1, False)])
def test_the_length_is_judged_by_its_prefix_alone(length: int, fits: bool) -> None:
    """Five bytes are enough to refuse a message of four gigabytes."""
    reader = MessageReader(LIMIT, "identity")
    prefix = struct.pack(">BI", 0, length)
    if fits:
        assert read(reader, prefix) == []
        return
    with pytest.raises(RpcError, match=f"{length} bytes: the limit is {LIMIT}") as caught:
        reader.feed(prefix, [])
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED


def test_a_gzip_bomb_is_stopped_at_the_limit() -> None:
    """A megabyte of zeros fits into a kilobyte; it is not inflated past the limit."""
    with pytest.raises(RpcError, match="inflates to more than") as caught:
        read(MessageReader(LIMIT, "gzip"), compressed(bytes(2**20)))
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED


def test_what_is_not_taken_is_not_inflated() -> None:
    """A window's worth of small gzip messages stays as small as it came, however large they say they are."""
    out: list[bytes] = []
    wire = b"".join(compressed(bytes(LIMIT)) for _ in range(50))
    MessageReader(LIMIT, "gzip").feed(wire, out)
    assert sum(map(len, out)) == len(wire) - 50 * PREFIX_BYTES


@pytest.mark.parametrize(
    ("wire", "encoding", "said"),
    [
        (b"\x01\0\0\0\x02hi", "identity", "compressed flag 1"),
        (b"\x02\0\0\0\x02hi", "gzip", "compressed flag 2"),
        (b"\x01\0\0\0\x02hi", "gzip", "broken gzip"),
        (struct.pack(">BI", 1, 12) + gzip.compress(b"cut off", mtime=0)[:12], "gzip", "it ends early"),
    ],
)
def test_a_broken_message_ends_the_stream_as_internal(wire: bytes, encoding: str, said: str) -> None:
    """GRPC over HTTP/2: a flag without an encoding, and what does not inflate, are INTERNAL."""
    with pytest.raises(RpcError, match=said) as caught:
        read(MessageReader(LIMIT, encoding), wire)
    assert caught.value.code is StatusCode.INTERNAL
