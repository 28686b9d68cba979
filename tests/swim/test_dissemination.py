"""swim/dissemination.py: what goes first, what replaces what, and when enough is enough."""

from hypothesis import given
from hypothesis import strategies as st

from inferencegw.swim.dissemination import SLACK, BroadcastQueue

ROOM = 1400


def queue(*news: tuple[str, bytes], limit: int = 100) -> BroadcastQueue:
    """With ``news`` in it, put in that order."""
    made = BroadcastQueue(limit)
    for subject, data in news:
        made.put(subject, data)
    return made


def test_the_least_sent_goes_first_then_the_longest_then_the_oldest() -> None:
    """Fresh news overtakes old; long news is packed while there is room; nobody starves."""
    news = queue(("a", b"aa"), ("b", b"bbbb"), ("c", b"cc"))
    assert news.take(4, 9) == [b"bbbb"]
    assert news.take(ROOM, 9) == [b"aa", b"cc", b"bbbb"]
    news.put("d", b"d")
    assert news.take(ROOM, 9) == [b"d", b"aa", b"cc", b"bbbb"]


def test_newer_news_about_a_member_replaces_older() -> None:
    """Its count begins anew: it is other news."""
    news = queue(("a", b"old"), ("b", b"b"))
    news.take(ROOM, 9)
    news.put("a", b"new")
    assert news.take(ROOM, 9) == [b"new", b"b"]
    assert len(news) == 2


def test_a_further_accuser_goes_beside_and_both_go_when_something_newer_comes() -> None:
    """The first K accusers are each passed on; a refutation makes all of them old."""
    news = queue(("a", b"by x"))
    news.put("a", b"by y", beside=True)
    assert sorted(news.take(ROOM, 9)) == [b"by x", b"by y"]
    news.put("a", b"refuted")
    assert news.take(ROOM, 9) == [b"refuted"]


def test_news_is_dropped_when_it_has_been_sent_as_often_as_the_budget_says() -> None:
    """Not once more and not once less, also when the cluster shrinks meanwhile."""
    news = queue(("a", b"a"))
    assert [news.take(ROOM, 3) for _ in range(4)] == [[b"a"], [b"a"], [b"a"], []]
    assert len(news) == 0
    news.put("b", b"b")
    assert [news.take(ROOM, 5), news.take(ROOM, 5), news.take(ROOM, 2)] == [[b"b"], [b"b"], []]
    assert len(news) == 0


def test_what_does_not_fit_waits_and_what_is_shorter_goes() -> None:
    """Nothing is cut, and a large piece of news does not keep small ones back."""
    news = queue(("a", bytes(900)), ("b", bytes(800)), ("c", bytes(100)))
    assert [len(one) for one in news.take(1000, 9)] == [900, 100]
    assert [len(one) for one in news.take(1000, 9)] == [800, 100]


def test_news_about_its_receiver_is_left_out_and_kept() -> None:
    """Who is spoken to is told separately what is held of it."""
    news = queue(("a", b"a"), ("b", b"b"))
    assert news.take(ROOM, 9, but="a") == [b"b"]
    assert news.take(ROOM, 9) == [b"a", b"b"]


def test_what_is_in_the_packet_already_is_not_put_into_it_again() -> None:
    """It counts as sent."""
    news = queue(("a", b"a"), ("b", b"b"))
    assert news.take(ROOM, 1, besides=[b"a"]) == [b"b"]
    assert len(news) == 0


def test_a_packet_has_no_more_items_than_asked_for() -> None:
    """Load reports are many and unimportant."""
    news = queue(*((name, name.encode()) for name in "abcde"))
    assert [len(news.take(ROOM, 9, most=2)) for _ in range(3)] == [2, 2, 2]


def test_a_full_queue_drops_from_its_far_end() -> None:
    """What was sent already goes; what has not been yet stays."""
    news = queue(*((name, name.encode()) for name in "abcd"), limit=4)
    news.take(2, 9)  # a and b
    news.put("e", b"e")
    assert len(news) == 4
    assert {b"c", b"d", b"e"} <= set(news.take(ROOM, 9))


def test_what_everybody_knows_is_dropped_but_for_what_is_wanted() -> None:
    """A suspicion's accusers are kept."""
    news = queue(("a", b"a"), ("b", b"b"))
    news.put("b", b"b too", beside=True)
    news.retain(lambda subject: subject == "b")
    assert sorted(news.take(ROOM, 9)) == [b"b", b"b too"]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.sampled_from("abcd"), st.integers(1, 30)),
            st.tuples(st.just("beside"), st.sampled_from("abcd"), st.integers(1, 30)),
            st.tuples(st.just("take"), st.sampled_from(["", "a"]), st.integers(0, 60)),
            st.tuples(st.just("discard"), st.sampled_from("abcd"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_nothing_is_sent_too_often_or_after_it_was_replaced_and_the_queue_is_bounded(
    script: list[tuple[str, str, int]],
) -> None:
    """Whatever happens to the queue, in whatever order."""
    news, budget, limit = BroadcastQueue(5), 3, 5
    sends: dict[bytes, int] = {}
    current: dict[str, set[bytes]] = {}
    for number, (step, subject, size) in enumerate(script):
        data = f"{number}".encode().ljust(size, b".")
        if step == "take":
            taken = news.take(size, budget, but=subject)
            assert sum(map(len, taken)) <= size
            assert len(set(taken)) == len(taken)
            for one in taken:
                sends[one] = sends.get(one, 0) + 1
                assert sends[one] <= budget
                assert any(one in known for about, known in current.items() if about != subject)
        elif step == "discard":
            news.discard(subject)
            current.pop(subject, None)
        else:
            news.put(subject, data, beside=step == "beside")
            current[subject] = {data} | (current.get(subject, set()) if step == "beside" else set())
        assert len(news) <= limit
        assert len(news._heap) <= 2 * len(news) + SLACK + limit


def test_a_subject_that_changes_all_the_time_leaves_no_heap_behind() -> None:
    """Replaced items are tidied up before they outnumber the others by much."""
    news = BroadcastQueue(10)
    for number in range(10_000):
        news.put("a", str(number).encode())
    assert len(news._heap) <= SLACK + 3
    assert news.take(ROOM, 3) == [b"9999"]
