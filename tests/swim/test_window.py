"""swim/window.py: every packet once, in any order, within reason."""

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.window import SIZE, PacketWindow


@given(st.lists(st.one_of(st.integers(1, 40), st.integers(1, 3 * SIZE)), min_size=1))
def test_a_packet_is_heard_once_unless_it_is_too_old_to_tell(numbers: list[int]) -> None:
    """A table of all numbers would say the same, but for those further back than the window reaches."""
    first, *others = numbers
    window, heard, top = PacketWindow(1, first), {first}, first
    for number in others:
        assert window.accept(number) is (number not in heard and number > top - SIZE)
        heard.add(number)
        top = max(top, number)


def test_the_window_does_not_grow() -> None:
    """However far numbers jump."""
    window = PacketWindow(1, 1)
    for number in (5, 900, 10**6, 2**63, 2**63 - 5):
        assert window.accept(number)
        assert window._seen.bit_length() <= SIZE
