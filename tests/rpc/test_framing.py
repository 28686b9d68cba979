"""From bytes to frames: any cut gives the same frames, and what breaks the framing rules has the RFC's code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.rpc import frames
from inferencegw.rpc.frames import ErrorCode, Flag, FrameType
from inferencegw.rpc.framing import ConnectionViolation, Frame, FrameSplitter

SETTINGS = frames.settings({3: 100})

whole_frames = st.lists(
    st.one_of(
        st.builds(lambda data, sid: (FrameType.DATA, 0, sid, data), st.binary(max_size=100), st.integers(1, 9)),
        st.builds(lambda data: (FrameType.PING, 0, 0, data), st.binary(min_size=8, max_size=8)),
        st.builds(lambda data: (0xF0, 3, 0, data), st.binary(max_size=50)),
        st.builds(lambda data: (FrameType.HEADERS, Flag.END_HEADERS, 1, data), st.binary(max_size=100)),
    ),
    max_size=12,
)


@given(whole_frames, st.data())
def test_any_cut_of_the_bytes_gives_the_same_frames(expected: list[Frame], data: st.DataObject) -> None:
    """TCP promises nothing about where reads end."""
    wire = frames.CLIENT_PREFACE + SETTINGS + b"".join(frames.frame(*frame) for frame in expected)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    splitter = FrameSplitter(frames.CLIENT_PREFACE)
    got: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        got += splitter.feed_untrusted(wire[start:end])
    assert got[1:] == expected


@given(st.binary(max_size=40), st.integers(1, 30), st.integers(0, 40))
def test_a_header_block_is_the_same_however_it_was_framed(block: bytes, piece: int, padding: int) -> None:
    """Padding, priority and continuations are gone when the frame leaves here."""
    pieces = [block[start : start + piece] for start in range(0, len(block), piece)] or [b""]
    first = bytes((padding,)) + b"\x80\0\0\0\x07" + pieces[0] + bytes(padding)
    end = Flag.END_HEADERS if len(pieces) == 1 else 0
    flags = Flag.PADDED | Flag.PRIORITY | Flag.END_STREAM | end
    wire = SETTINGS + frames.frame(FrameType.HEADERS, flags, 1, first)
    for number, data in enumerate(pieces[1:], 2):
        wire += frames.frame(FrameType.CONTINUATION, Flag.END_HEADERS if number == len(pieces) else 0, 1, data)
    *_, (kind, got_flags, stream_id, got) = FrameSplitter(b"").feed_untrusted(wire)
    assert (kind, got_flags & Flag.END_STREAM, stream_id, got) == (FrameType.HEADERS, Flag.END_STREAM, 1, block)


@given(st.binary(max_size=300))
def test_garbage_is_a_violation_or_frames_and_nothing_else(data: bytes) -> None:
    """One documented error, whatever comes."""
    try:
        list(FrameSplitter(b"").feed_untrusted(SETTINGS + data))
    except ConnectionViolation as violation:
        assert violation.code in (ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
        (frames.CLIENT_PREFACE + frames.ping(bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frames.CLIENT_PREFACE + frames.frame(FrameType.SETTINGS, Flag.ACK, 0), ErrorCode.PROTOCOL_ERROR),
        (frames.CLIENT_PREFACE + frames.data_header(2**14 + 1, 1), ErrorCode.FRAME_SIZE_ERROR),
        (frames.CLIENT_PREFACE + SETTINGS + frames.frame(FrameType.PING, 0, 0, b"short"), ErrorCode.FRAME_SIZE_ERROR),
        (
            frames.CLIENT_PREFACE + SETTINGS + frames.frame(FrameType.HEADERS, 0, 1) + frames.ping(bytes(8)),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (
            frames.CLIENT_PREFACE
            + SETTINGS
            + frames.frame(FrameType.HEADERS, 0, 1)
            + 64 * frames.frame(FrameType.CONTINUATION, 0, 1),
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
    ],
)
def test_each_broken_rule_has_its_code(wire: bytes, code: ErrorCode) -> None:
    """RFC 9113 sections 3.4, 4.2, 6.7 and 6.10; the last is the CONTINUATION flood."""
    with pytest.raises(ConnectionViolation) as caught:
        list(FrameSplitter(frames.CLIENT_PREFACE).feed_untrusted(wire))
    assert caught.value.code == code


def test_a_long_block_is_written_as_continuations() -> None:
    """HEADERS and CONTINUATION frames within the frame limit give the block back."""
    block = bytes(range(256)) * 200
    wire = SETTINGS + frames.headers(5, block, end_stream=True, max_frame_bytes=frames.MAX_FRAME_BYTES)
    *_, got = FrameSplitter(b"").feed_untrusted(wire)
    assert got == (FrameType.HEADERS, Flag.END_STREAM, 5, block)
