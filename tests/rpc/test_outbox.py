"""The sending half: DATA stays within three limits, and whoever had to wait is named when there is room."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.rpc import frames
from inferencegw.rpc.frames import FrameType
from inferencegw.rpc.framing import FrameSplitter
from inferencegw.rpc.outbox import HIGH_WATER_BYTES, Outbox


def a_stream(stream_id: int, window: int) -> Any:
    """As much of a stream as an outbox looks at."""
    return SimpleNamespace(id=stream_id, h2=SimpleNamespace(outbound_flow_control_window=window))


def data_of(wire: bytes) -> dict[int, bytes]:
    """The bytes of DATA in ``wire``, by stream."""
    found: dict[int, bytes] = {}
    for kind, _, stream_id, payload in FrameSplitter(b"").feed_untrusted(frames.settings({}) + wire):
        if kind == FrameType.DATA:
            found[stream_id] = found.get(stream_id, b"") + payload
    return found


@given(
    st.lists(st.integers(0, 100_000), min_size=1, max_size=4),
    st.integers(0, 300_000),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 100_000)), max_size=12),
)
def test_writes_never_exceed_a_window_and_lose_no_byte(
    windows: list[int], connection_window: int, writes: list[tuple[int, int]]
) -> None:
    """What was accepted is what is framed; what was not is reported, and its stream waits."""
    h2 = SimpleNamespace(outbound_flow_control_window=connection_window)
    outbox = Outbox(h2)
    streams = [a_stream(2 * number + 1, window) for number, window in enumerate(windows)]
    accepted: dict[int, bytes] = {}
    short = set()
    for which, length in writes:
        stream = streams[which % len(streams)]
        data = bytes((which,)) * length
        sent = outbox.add_data(stream, data)
        if sent:
            accepted[stream.id] = accepted.get(stream.id, b"") + data[:sent]
        if sent < length:
            short.add(stream.id)
    assert len(outbox) <= HIGH_WATER_BYTES + frames.HEADER_BYTES * 200
    assert data_of(outbox.take()) == accepted
    assert h2.outbound_flow_control_window == connection_window - sum(map(len, accepted.values())) >= 0
    assert all(stream.h2.outbound_flow_control_window >= 0 for stream in streams)
    h2.outbound_flow_control_window += 1
    for stream in streams:
        stream.h2.outbound_flow_control_window += 1
    assert {stream.id for stream in outbox.pop_writable()} == short
    assert outbox.pop_writable() == []


def test_a_full_buffer_stops_writers_until_it_is_taken() -> None:
    """A peer that does not read costs at most the high-water mark."""
    outbox = Outbox(SimpleNamespace(outbound_flow_control_window=2**31 - 1))
    stream = a_stream(1, 2**31 - 1)
    sent = outbox.add_data(stream, bytes(2**20))
    assert sent == HIGH_WATER_BYTES
    assert outbox.pop_writable() == []
    outbox.take()
    assert outbox.take_room_made()
    assert outbox.pop_writable() == [stream]


def test_an_ended_stream_waits_no_longer() -> None:
    """Nobody is woken for it."""
    outbox = Outbox(SimpleNamespace(outbound_flow_control_window=10))
    stream = a_stream(1, 0)
    outbox.add_data(stream, b"x")
    outbox.forget(stream)
    stream.h2.outbound_flow_control_window = 10
    assert outbox.pop_writable() == []
