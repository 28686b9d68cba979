"""swim/timers.py: each key is due once, at the latest moment that was set, and garbage is bounded."""

import math

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.timers import SLACK, Timers

orders = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from("abc"), st.integers(0, 20)),
        st.tuples(st.just("cancel"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("pop"), st.just(""), st.integers(0, 20)),
    )
)


@given(orders)
def test_a_heap_of_timers_is_a_table_of_moments(script: list[tuple[str, str, int]]) -> None:
    """Whatever is set, moved, cancelled and taken: what is due is what a plain table says."""
    timers: Timers[str] = Timers()
    table: dict[str, int] = {}
    for order, key, when in script:
        if order == "set":
            timers.set(key, when)
            table[key] = when
        elif order == "cancel":
            timers.cancel(key)
            table.pop(key, None)
        else:
            earliest = min(table.values(), default=math.inf)
            due = timers.pop(when)
            assert (due is None) is (earliest > when)
            if due is not None:
                assert table.pop(due) == earliest
        assert timers.next() == min(table.values(), default=math.inf)
        assert len(timers) == len(table)


def test_equal_moments_are_due_in_the_order_in_which_they_were_set() -> None:
    """So that a run is the same every time."""
    timers: Timers[str] = Timers()
    for key in ("b", "a", "c"):
        timers.set(key, 1.0)
    assert [timers.pop(1.0) for _ in range(4)] == ["b", "a", "c", None]


def test_a_timer_that_is_moved_a_thousand_times_leaves_no_heap_behind() -> None:
    """A flood of packets moves a suspicion's timer with each of them."""
    timers: Timers[str] = Timers()
    for moment in range(10_000):
        timers.set("a", float(moment))
        assert len(timers._heap) <= 2 * len(timers) + SLACK + 1
    assert timers.next() == 9999.0
    timers.clear()
    assert timers.next() == math.inf
