"""The budget for cheap frames: a burst, then a rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.rpc.flood import BUDGETS, Flood, FloodGuard


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
