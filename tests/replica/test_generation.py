"""One generation: which tokens are due when, and what goes wrong on the way."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.replica.faults import FaultPlan
from inferencegw.replica.generation import (
    BATCH_TOKENS,
    CloseConnection,
    Crash,
    Effect,
    FinishReason,
    Generation,
    Prompt,
    ReleaseSlot,
    Send,
    Speed,
    Token,
)
from inferencegw.replica.prefill import PrefixCache
from tests.replica.support import DELAY, PROMPT, a_generation, drive, oracle

SPEED: Final = Speed(token_delay=DELAY)
AT_ONCE: Final = Speed(token_delay=0)


def tokens_of(happened: list[tuple[float, Effect]]) -> list[Token]:
    """Everything that was sent."""
    return [token for _, effect in happened if isinstance(effect, Send) for token in effect.tokens]


def times_of(happened: list[tuple[float, Effect]]) -> list[float]:
    """When each token was sent."""
    return [time for time, effect in happened if isinstance(effect, Send) for _ in effect.tokens]


def faulty(plan: str, max_tokens: int = 8, speed: Speed = SPEED) -> Generation:
    """A generation under ``plan``."""
    generation = a_generation(Prompt(text=PROMPT, max_tokens=max_tokens), speed)
    generation.follow(FaultPlan.parse(plan), 0.0)
    return generation


# What is said.


@given(
    st.text(min_size=1),
    st.integers(0, 2**64 - 1),
    st.integers(1, 200),
    st.lists(st.sampled_from("aeiou,."), max_size=2),
    st.data(),
)
def test_a_continuation_equals_the_rest_of_the_unbroken_stream(
    text: str, seed: int, max_tokens: int, stops: list[str], data: st.DataObject
) -> None:
    """Wherever it was broken, token for token, finish included."""
    whole = Prompt(text=text, max_tokens=max_tokens, seed=seed, stops=tuple(stops))
    unbroken = tokens_of(drive(a_generation(whole, AT_ONCE)))
    cut = data.draw(st.integers(0, len(unbroken) - 1))
    rest = Prompt(
        text=text,
        max_tokens=max_tokens,
        seed=seed,
        stops=tuple(stops),
        first_index=cut,
        generated_text="".join(token.text for token in unbroken[:cut]),
    )
    assert tokens_of(drive(a_generation(rest, AT_ONCE))) == unbroken[cut:]


@pytest.mark.parametrize("max_tokens", [1, 2, BATCH_TOKENS, BATCH_TOKENS + 1, 1000])
def test_without_stop_strings_it_ends_with_its_last_token(max_tokens: int) -> None:
    """Indexes 0 to n-1, each once; only the last one says LENGTH."""
    tokens = tokens_of(drive(a_generation(Prompt(text=PROMPT, max_tokens=max_tokens), AT_ONCE)))
    assert [(token.index, token.text) for token in tokens] == oracle(max_tokens)
    assert [token.finish for token in tokens] == [None] * (max_tokens - 1) + [FinishReason.LENGTH]


def test_it_ends_with_the_token_that_completes_a_stop_string() -> None:
    """That token is sent whole, is what it always is, and says STOP; also where it would have been the last anyway."""
    text = [text for _, text in oracle(5)]
    stop = "".join(text[2:5])[1:-1]
    for max_tokens in (8, 5):
        tokens = tokens_of(drive(a_generation(Prompt(text=PROMPT, max_tokens=max_tokens, stops=(stop,)), AT_ONCE)))
        assert [token.text for token in tokens] == text
        assert [token.finish for token in tokens] == [None] * 4 + [FinishReason.STOP]


# When.


def test_tokens_are_due_at_absolute_times() -> None:
    """The prefill, and n delays after it, the first token's included."""
    speed = Speed(token_delay=DELAY, prefill=2.0)
    happened = drive(a_generation(Prompt(text=PROMPT, max_tokens=8), speed, now=10.0))
    assert times_of(happened) == [12.0 + DELAY * n for n in range(1, 9)]


def test_who_comes_late_gets_everything_that_is_due_and_is_on_time_again() -> None:
    """A late wake makes a burst; the tokens after it are not later for it."""
    generation = a_generation(Prompt(text=PROMPT, max_tokens=8), SPEED)
    (burst,) = generation.handle_timeout(3.6 * DELAY)
    assert isinstance(burst, Send)
    assert [token.index for token in burst.tokens] == [0, 1, 2]
    assert generation.next_deadline() == 4 * DELAY
    assert generation.handle_timeout(3.9 * DELAY) == []


def test_a_batch_has_a_limit() -> None:
    """With no delay everything is due at once, and still others get their turn."""
    happened = drive(a_generation(Prompt(text=PROMPT, max_tokens=150), AT_ONCE))
    assert [len(effect.tokens) for _, effect in happened if isinstance(effect, Send)] == [64, 64, 22]


@given(st.floats(0, 0.5), st.integers(0, 2**64 - 1))
def test_jitter_moves_tokens_but_never_past_each_other(jitter: float, seed: int) -> None:
    """Each by at most its share of the delay, around times that do not drift; and the same again for the same seed."""
    speed = Speed(token_delay=DELAY, jitter=jitter, seed=seed)
    first, second = (times_of(drive(a_generation(Prompt(text=PROMPT, max_tokens=50), speed))) for _ in range(2))
    assert first == second == sorted(first)
    assert all(abs(time - DELAY * n) <= DELAY * jitter + 1e-9 for n, time in enumerate(first, 1))


def test_jitter_differs_between_seeds_and_requests() -> None:
    """Replicas do not tick in step."""
    times = {
        tuple(
            times_of(drive(a_generation(Prompt(text=text, max_tokens=5), Speed(token_delay=1, jitter=0.5, seed=seed))))
        )
        for text in ("p", "q")
        for seed in (0, 1)
    }
    assert len(times) == 4


def test_a_prompt_that_was_read_before_needs_less_prefill() -> None:
    """Per token that has to be read; at least one always has. What was generated elsewhere has to be read too."""
    cache = PrefixCache()
    speed = Speed(token_delay=0, prefill=1.0, prefill_per_token=0.5)

    def prefill(text: str, generated_text: str = "") -> float:
        first_index = 1 if generated_text else 0
        prompt = Prompt(text=text, max_tokens=8, first_index=first_index, generated_text=generated_text)
        return drive(a_generation(prompt, speed, cache=cache))[0][0]

    long = "x" * 256
    assert prefill(long) == 1.0 + 64 * 0.5
    assert prefill(long) == 1.0 + 1 * 0.5
    assert prefill(long + "yyyy") == 1.0 + 1 * 0.5
    assert prefill(long, "z" * 8) == 1.0 + 2 * 0.5
    assert prefill("a") == 1.0 + 1 * 0.5


def test_a_prefill_that_was_cut_short_is_not_remembered() -> None:
    """A call that was cancelled before its first token has read nothing that counts."""
    cache = PrefixCache()
    speed = Speed(token_delay=0, prefill_per_token=0.5)
    for _ in range(2):
        abandoned = a_generation(Prompt(text="x" * 64, max_tokens=1), speed, cache=cache)
        assert abandoned.handle_timeout(7.9) == []
        assert abandoned.next_deadline() == 8.0


# What goes wrong.


@pytest.mark.parametrize(
    ("plan", "indexes", "ending"),
    [
        ("", [0, 1, 2, 3, 4, 5, 6, 7], [ReleaseSlot]),
        ("crash@3", [0, 1, 2], [Crash]),
        ("close@3", [0, 1, 2], [ReleaseSlot, CloseConnection]),
        ("truncate@3", [0, 1, 2], [ReleaseSlot]),
        ("freeze@3", [0, 1, 2], []),
        ("repeat@3", [0, 1, 2, 3, 3, 4, 5, 6, 7], [ReleaseSlot]),
        ("skip@3", [0, 1, 2, 4, 5, 6, 7], [ReleaseSlot]),
        ("repeat@7", [0, 1, 2, 3, 4, 5, 6, 7, 7], [ReleaseSlot]),
        ("skip@7", [0, 1, 2, 3, 4, 5, 6], [ReleaseSlot]),
        ("repeat@1,skip@2,truncate@4", [0, 1, 1, 3], [ReleaseSlot]),
        ("crash@0", [], [Crash]),
        ("crash@8", [0, 1, 2, 3, 4, 5, 6, 7], [ReleaseSlot]),
    ],
)
@pytest.mark.parametrize("speed", [SPEED, AT_ONCE])
def test_each_fault_does_at_its_token_what_it_says(
    plan: str, indexes: list[int], ending: list[type[Effect]], speed: Speed
) -> None:
    """What comes before it is sent before it, in a paced stream and in one that is all due at once."""
    happened = drive(faulty(plan, speed=speed))
    assert [token.index for token in tokens_of(happened)] == indexes
    assert [type(effect) for _, effect in happened if not isinstance(effect, Send)] == ending


def test_the_slot_is_free_before_the_last_tokens_wait_for_the_client() -> None:
    """ReleaseSlot comes right before the last Send."""
    happened = [effect for _, effect in drive(a_generation(Prompt(text=PROMPT, max_tokens=2), SPEED))]
    assert [type(effect) for effect in happened] == [Send, ReleaseSlot, Send]


def test_a_slow_factor_stretches_the_prefill_and_every_delay() -> None:
    """Three times slower is three times later."""
    times = times_of(drive(faulty("slow=3", speed=Speed(token_delay=DELAY, prefill=1.0))))
    assert times == [3 * (1.0 + DELAY * n) for n in range(1, 9)]


def test_a_slow_factor_acts_on_what_is_still_to_come() -> None:
    """Set between two tokens, it stretches what is left of the delay between them; taken away, all is as before."""
    generation = a_generation(Prompt(text=PROMPT, max_tokens=8), Speed(token_delay=1.0))
    assert len(generation.handle_timeout(1.0)) == 1
    generation.follow(FaultPlan.parse("slow=4"), 1.5)
    assert generation.next_deadline() == 1.5 + 0.5 * 4
    generation.follow(FaultPlan(), 2.5)
    assert generation.next_deadline() == 2.5 + 0.25


def test_a_frozen_generation_wants_never_to_be_asked_again_until_the_plan_is_cleared() -> None:
    """Then it goes on from where it stood, one token a delay: what it missed does not come in a heap."""
    generation = faulty("freeze@2")
    assert len(tokens_of(drive(generation))) == 2
    assert generation.next_deadline() == float("inf")
    assert not generation.is_over
    generation.follow(FaultPlan(), 100.0)
    assert times_of(drive(generation)) == [100.0 + DELAY * n for n in range(6)]


def test_a_plan_that_changes_something_else_leaves_it_frozen() -> None:
    """It looks, and is hit again."""
    generation = faulty("freeze@2")
    drive(generation)
    generation.follow(FaultPlan.parse("freeze@2,slow=2"), 100.0)
    assert drive(generation) == []
    assert generation.next_deadline() == float("inf")
