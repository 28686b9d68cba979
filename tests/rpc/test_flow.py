"""The receiving half of flow control: every byte is owed back until it is credited."""

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.rpc.flow import InboundWindow

SIZE = 65_535


def test_a_peer_may_fill_the_window_and_not_a_byte_more() -> None:
    """RFC 9113 section 6.9.1: what exceeds the window is the peer's error, and is not counted."""
    window = InboundWindow(SIZE)
    assert window.try_receive(SIZE)
    assert not window.try_receive(1)
    assert (window.available, window.owed) == (0, SIZE)


def test_bytes_that_are_held_are_not_given_back() -> None:
    """A reader that does not read closes its window; when it reads, the whole window opens."""
    window = InboundWindow(SIZE)
    window.try_receive(SIZE)
    assert window.credit(held=SIZE) == 0
    assert window.credit(held=0) == SIZE


@given(st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE))))
def test_the_window_is_conserved_and_never_stalls(steps: list[tuple[int, int]]) -> None:
    """``available + owed == size`` at every step, and with nothing held at least half of the window is open."""
    window = InboundWindow(SIZE)
    for length, held in steps:
        before = window.available
        assert window.try_receive(length) == (length <= before)
        increment = window.credit(min(held, window.owed))
        assert window.available + window.owed == SIZE
        assert increment == 0 or increment * 2 >= SIZE
        window.credit(0)
        assert window.available * 2 >= SIZE
