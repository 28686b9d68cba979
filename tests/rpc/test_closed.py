"""rpc/closed.py: what a late frame means is decided by one table, for as long as the stream is remembered."""

import itertools

import pytest

from inferencegw.rpc.closed import LATE, ClosedBy, ClosedStreams, Late
from inferencegw.rpc.flow import InboundWindow
from inferencegw.rpc.frames import ErrorCode, FrameType
from inferencegw.rpc.framing import ConnectionViolation


def test_the_table_is_whole() -> None:
    """Both kinds of frames that open or use a stream, however it ended."""
    assert set(LATE) == set(itertools.product((FrameType.DATA, FrameType.HEADERS), ClosedBy))


@pytest.mark.parametrize(("kind", "how"), LATE)
def test_a_late_frame_is_judged_by_how_its_stream_ended(kind: FrameType, how: ClosedBy) -> None:
    """Ignored, answered with a reset, or the end of the connection, with the code of the table."""
    streams = ClosedStreams()
    if how is not ClosedBy.UNKNOWN:
        streams.add(1, how, InboundWindow(10))
    expected = LATE[kind, how]
    if isinstance(expected, ErrorCode):
        with pytest.raises(ConnectionViolation) as violation:
            streams.judge(kind, 1)
        assert violation.value.code is expected
    else:
        assert streams.judge(kind, 1) is (expected is Late.RESET)


def test_only_the_last_thousand_are_remembered() -> None:
    """1,024: an end in order is then no better known than a stream that was skipped."""
    streams = ClosedStreams()
    for stream_id in range(1, 2 * 1025, 2):
        streams.add(stream_id, ClosedBy.RESET_SENT, InboundWindow(10))
    assert streams.judge(FrameType.DATA, 1)
    assert not streams.judge(FrameType.DATA, 3)


def test_what_was_on_its_way_to_a_stream_that_we_reset_is_expected_up_to_its_window() -> None:
    """Not a byte more, and nothing empty."""
    streams = ClosedStreams()
    streams.add(1, ClosedBy.RESET_SENT, InboundWindow(10))
    streams.add(5, ClosedBy.RESET_RECEIVED, InboundWindow(10))
    assert [streams.is_expected(1, length) for length in (0, 6, 5, 4, 1)] == [False, True, False, True, False]
    assert not streams.is_expected(3, 1)
    assert not streams.is_expected(5, 1)
