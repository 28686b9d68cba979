"""rpc/places.py: who makes room when places for connections run short."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.rpc.places import SPARE, Places

MOST = 2 * SPARE
"""Two of them are kept free."""


def filled(*hosts: str) -> Places:
    """Places that connections of these ``hosts`` have taken, numbered from 0, none of which had to go."""
    places = Places(MOST)
    assert [places.enter(number, host) for number, host in enumerate(hosts)] == [None] * len(hosts)
    return places


def test_nobody_is_sent_away_while_there_is_room() -> None:
    """All but the spare ones."""
    places = filled(*["eve"] * (MOST - 2))
    assert places.enter(100, "bob") == 0
    assert not places.full


def test_the_host_with_most_makes_room_with_its_longest_without_a_call() -> None:
    """However long others have been without one, and none that has one."""
    places = filled("bob", "bob", *["eve"] * (MOST - 4))
    for number in (2, 3, 5):
        places.work(number)
    places.rest(3)
    assert [places.enter(100 + number, "bob") for number in range(2)] == [4, 6]
    assert places.full


def test_who_is_served_on_many_connections_is_not_who_fills_the_house() -> None:
    """A proxy's new connection stays, though its busy ones are most; of two that do nothing one goes."""
    busy = MOST - 5
    places = filled("eve", "eve", *["proxy"] * busy, "proxy")
    for number in range(2, 2 + busy):
        places.work(number)
    assert places.enter(100, "bob") == 0


def test_who_comes_is_not_sent_away_itself_and_turned_away_only_when_all_are_served() -> None:
    """Where every other has a call, the spare places are taken, too."""
    places = filled(*["bob"] * (MOST - 2))
    for number in range(MOST - 2):
        places.work(number)
    for number in (100, 101):
        assert not places.full
        assert places.enter(number, "bob") is None
        places.work(number)
    assert places.full


def test_who_was_sent_away_is_not_sent_away_again() -> None:
    """Not even if a call of its has ended meanwhile; its place is taken until it has left."""
    places = filled(*["bob"] * (MOST - 2))
    assert places.enter(100, "bob") == 0
    places.rest(0)
    assert places.enter(101, "bob") == 1
    assert places.full
    places.leave(0)
    assert not places.full


@given(
    st.lists(st.tuples(st.sampled_from(["enter", "work", "rest", "leave"]), st.integers(0, 60), st.sampled_from("abc")))
)
def test_any_history_is_counted_as_a_model_counts_it(history: list[tuple[str, int, str]]) -> None:
    """Who goes is without a call, of a host that has most of those, and there the longest."""
    places, hosts, resting, leaving = Places(MOST), dict[int, str](), list[int](), set[int]()
    for what, place, host in history:
        if what == "enter" and place not in hosts and not places.full:
            short = len(hosts) - len(leaving) >= MOST - 2
            surplus = places.enter(place, host)
            assert (surplus is not None) == (short and bool(resting))
            if surplus is not None:
                counts = Counter(hosts[other] for other in resting)
                assert counts[hosts[surplus]] == max(counts.values())
                assert surplus == next(other for other in resting if hosts[other] == hosts[surplus])
                resting.remove(surplus)
                leaving.add(surplus)
            hosts[place] = host
            resting.append(place)
        elif what == "work" and place in hosts:
            places.work(place)
            if place in resting:
                resting.remove(place)
        elif what == "rest" and place in hosts and place not in resting:
            places.rest(place)
            if place not in leaving:
                resting.append(place)
        elif what == "leave" and place in hosts:
            places.leave(place)
            leaving.discard(place)
            del hosts[place]
            if place in resting:
                resting.remove(place)
        assert places.full == (len(hosts) >= MOST)
