"""The budget for cheap frames: a burst, then a rate."""

from collections.abc import Callable

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.config import RpcLimits
from inferencegw.rpc.flood import BUDGETS, Flood, FloodGuard
from inferencegw.rpc.server_connection import ServerConnection
from tests.rpc.conformance.frames import PREFACE, data, headers, settings, window_update
from tests.rpc.support import request_headers

HEAD = [(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "test")]


@pytest.mark.parametrize("kind", Flood)
def test_a_burst_is_allowed_and_then_only_the_rate(kind: Flood) -> None:
    """Exactly ``burst`` at once, then one for each ``1 / rate`` seconds."""
    burst, per_second = BUDGETS[kind]
    guard = FloodGuard(now=100.0)
    assert sum(guard.allows(kind, 100.0) for _ in range(int(burst) + 10)) == burst
    assert guard.allows(kind, 100.0 + 1 / per_second + 1e-9)
    assert not guard.allows(kind, 100.0 + 1 / per_second + 1e-9)


def test_each_kind_has_its_own_budget() -> None:
    """A peer that has used up its PINGs may still reset streams."""
    guard = FloodGuard(now=0.0)
    while guard.allows(Flood.PING, 0.0):
        pass
    assert guard.allows(Flood.RESET, 0.0)


@given(st.lists(st.floats(0, 10), max_size=200))
def test_no_schedule_gets_more_than_burst_plus_rate(gaps: list[float]) -> None:
    """The token bucket's bound, for any times."""
    burst, per_second = BUDGETS[Flood.SETTINGS]
    guard, now, allowed = FloodGuard(now=0.0), 0.0, 0
    for gap in gaps:
        now += gap
        allowed += guard.allows(Flood.SETTINGS, now)
    assert allowed <= burst + now * per_second + 1e-6


def call(stream: int, *, fields: list[tuple[str, str]] | None = None, end_stream: bool = False) -> bytes:
    """HEADERS of a request that leaves no trace in the table."""
    return headers(stream, Encoder().encode(fields or request_headers()), end_stream=end_stream)


@pytest.mark.parametrize(
    ("kind", "first", "again"),
    [
        (Flood.SPLINTER, call(1) + data(1, b"\x00\x00\x10\x00\x00"), lambda _: data(1, b"x")),
        (Flood.SPLINTER, call(1, fields=HEAD), lambda _: data(1, b"x")),
        (Flood.SURPLUS, call(1), call),
        (Flood.FOREIGN, b"", lambda stream: call(stream, fields=HEAD, end_stream=True)),
        (Flood.MALFORMED, b"", lambda stream: call(stream) + window_update(stream, 0)),
    ],
    ids=["splinters", "splinters that nobody wants", "above the limit", "not gRPC", "MadeYouReset"],
)
def test_what_costs_its_sender_nothing_ends_the_connection(
    kind: Flood, first: bytes, again: Callable[[int], bytes]
) -> None:
    """As often as its budget says it is borne, and once more is too often."""
    connection = ServerConnection(RpcLimits(max_streams=1), 0.0)
    connection.receive_untrusted(PREFACE + settings() + first, 0.0)
    borne = -1
    while connection.ended is None:
        borne += 1
        connection.take_output()
        connection.receive_untrusted(again(2 * borne + 3), 0.0)
    # The prefix of the message is a splinter, too.
    assert borne == BUDGETS[kind][0] - (kind is Flood.SPLINTER and len(first) > len(call(1)))
    assert str(connection.ended.message).startswith(f"ENHANCE_YOUR_CALM: too many: {kind.value}")
