"""policy/flight.py: what a request is that comes again, and what is kept for it."""

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencegw.policy.flight import TOKEN_SIZE, Asked, Replay, Verdict, judge

TEXTS = ["a", "bc", "", "ö", "🙂"]


@attrs.frozen
class Runs:
    """A call for ``"essence"`` that began at token 2, after ``"xy"``, and has the tokens before ``next_index``."""

    kept_from: int = 2
    next_index: int = 7
    essence: object = "essence"

    def text_before(self, index: int) -> str:
        """As a call's."""
        assert self.kept_from <= index <= self.next_index
        return "xy" + "".join(TEXTS[: index - 2])


@pytest.mark.parametrize(
    ("running", "asked", "verdict"),
    [
        (None, Asked("essence", 0, ""), Verdict.NEW),
        (Runs(), Asked("essence", 2, "xy"), Verdict.ATTACH),
        (Runs(), Asked("essence", 4, "xyabc"), Verdict.ATTACH),
        (Runs(), Asked("essence", 5, "xyabc"), Verdict.ATTACH),  # token 4 is empty
        (Runs(), Asked("essence", 7, "xyabcö🙂"), Verdict.ATTACH),
        (Runs(kept_from=4), Asked("essence", 4, "xyabc"), Verdict.ATTACH),
        (Runs(kept_from=4), Asked("essence", 3, "xya"), Verdict.REPLACE),
        (Runs(), Asked("essence", 8, "xyabcö🙂?"), Verdict.REPLACE),
        (Runs(), Asked("essence", 1, "x"), Verdict.REPLACE),
        (Runs(), Asked("essence", 0, ""), Verdict.REPLACE),
        (Runs(), Asked("essence", 4, "xyabd"), Verdict.REPLACE),
        (Runs(), Asked("essence", 4, "xyab"), Verdict.REPLACE),
        (Runs(), Asked("another", 4, "xyabc"), Verdict.CONFLICT),
        (Runs(), Asked("another", 9, "?"), Verdict.CONFLICT),
    ],
)
def test_a_request_that_comes_again_is_what_the_table_says(
    running: Runs | None, asked: Asked, verdict: Verdict
) -> None:
    """Only the very text of the running call is its beginning; another request never gets a token of it."""
    assert judge(running, asked) is verdict


class ReplayMachine(RuleBasedStateMachine):
    """A call that delivers, a reader that reads, leaves, and comes again further back."""

    FIRST = 3
    MOST = 6 * TOKEN_SIZE

    def __init__(self) -> None:
        super().__init__()
        self.replay: Replay[int] = Replay(self.FIRST, "before", self.MOST)
        self.texts: list[str] = []
        self.position = self.FIRST

    @rule(texts=st.lists(st.sampled_from([*TEXTS, "x" * 100]), min_size=1, max_size=4))
    def deliver(self, texts: list[str]) -> None:
        """A batch comes."""
        first = self.FIRST + len(self.texts)
        self.replay.extend(range(first, first + len(texts)), texts)
        self.texts += texts

    @rule(share=st.floats(0, 1))
    def read(self, share: float) -> None:
        """The reader takes some of what is there."""
        there = self.replay.waiting()
        count = round(share * len(there))
        self.replay.advance(count)
        self.position += count

    @precondition(lambda self: self.replay.kept_from < self.replay.next_index)
    @rule(share=st.floats(0, 1))
    def come_again(self, share: float) -> None:
        """Another reader wants it from a token on that is kept."""
        self.position = self.replay.kept_from + round(share * (self.replay.next_index - self.replay.kept_from))
        self.replay.rewind(self.position)

    @invariant()
    def the_reader_gets_every_token_from_its_index_on(self) -> None:
        """Each once, in order: what is unread is never dropped."""
        assert self.replay.read_to == self.position
        assert self.replay.waiting() == list(range(self.position, self.FIRST + len(self.texts)))

    @invariant()
    def sizes_are_those_of_what_is_there(self) -> None:
        """And no more is kept than may be, beside what is unread."""
        sizes = [TOKEN_SIZE + len(text) for text in self.texts]
        assert self.replay.unread == sum(sizes[self.position - self.FIRST :])
        assert self.replay.kept == sum(sizes[self.replay.kept_from - self.FIRST :])
        assert self.replay.kept <= max(self.MOST, self.replay.unread)
        assert self.FIRST <= self.replay.kept_from <= self.position <= self.replay.next_index

    @invariant()
    def the_text_is_known_for_every_index(self) -> None:
        """Of what was dropped too: it is how a client proves what it has."""
        for count in range(len(self.texts) + 1):
            assert self.replay.text_before(self.FIRST + count) == "before" + "".join(self.texts[:count])


TestReplay = ReplayMachine.TestCase
