"""cli/_prompts.py: what a load asks, and when, is drawn from its seed; prompts share what they are to and no more."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.cli._prompts import SHARED_TOKENS, WORDS, arrivals, made_prompts, read_prompts
from inferencegw.errors import ConfigError
from inferencegw.policy.ring import PREFIX_CHARACTERS
from inferencegw.replica.tokens import BYTES_PER_TOKEN

COUNT = 200


def test_arrivals_know_nothing_of_each_other() -> None:
    """A Poisson process: gaps have the mean 1 / rate, and a deviation as large; equal seeds, equal arrivals."""
    moments = list(itertools.islice(arrivals(random.Random(7), 50.0, 100.0), 20_000))
    gaps = [after - before for before, after in itertools.pairwise([100.0, *moments])]
    mean = sum(gaps) / len(gaps)
    assert min(gaps) > 0.0
    assert mean == pytest.approx(1 / 50, rel=0.02)
    assert math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(mean, rel=0.03)
    assert moments == list(itertools.islice(arrivals(random.Random(7), 50.0, 100.0), 20_000))


def test_words_are_as_long_as_they_are_counted() -> None:
    """All different, and a word with its space is a token of our replicas."""
    assert len(set(WORDS)) == len(WORDS) == 64
    assert {len(word) + 1 for word in WORDS} == {BYTES_PER_TOKEN}


@given(st.integers(1, 600), st.integers(0, 2**32))
def test_prompts_have_their_length_and_no_beginning_in_common(tokens: int, seed: int) -> None:
    """As far as a gateway looks; short ones as far as they go."""
    first, second = itertools.islice(made_prompts(random.Random(seed), tokens=tokens, prefixes=0), 2)
    assert len(first) == len(second) == tokens * BYTES_PER_TOKEN
    if tokens >= SHARED_TOKENS // 2:
        assert first[:PREFIX_CHARACTERS] != second[:PREFIX_CHARACTERS]


@pytest.mark.parametrize("tokens", [SHARED_TOKENS, 101, 1000])
@pytest.mark.parametrize("prefixes", [1, 5])
def test_so_many_beginnings_are_shared_and_nothing_after_them(tokens: int, prefixes: int) -> None:
    """What a gateway looks at is one of them; the half after it is each prompt's own."""
    prompts = list(itertools.islice(made_prompts(random.Random(3), tokens=tokens, prefixes=prefixes), COUNT))
    half = tokens // 2 * BYTES_PER_TOKEN
    assert {len(prompt) for prompt in prompts} == {tokens * BYTES_PER_TOKEN}
    assert len({prompt[:half] for prompt in prompts}) == len({prompt[:PREFIX_CHARACTERS] for prompt in prompts})
    assert len({prompt[:half] for prompt in prompts}) == prefixes
    assert len({prompt[half : half + PREFIX_CHARACTERS] for prompt in prompts}) == COUNT


def test_a_file_of_prompts_is_read_in_order_again_and_again() -> None:
    """Plain lines, or objects, whose prompts may have lines of their own; empty lines are none."""
    plain = read_prompts(b"one\n\n  two \nthree", as_json=False)
    objects = read_prompts(b'{"prompt": "a\\nb", "x": 1}\n\n{"prompt": "c"}\n', as_json=True)
    assert list(itertools.islice(plain, 4)) == ["one", "  two ", "three", "one"]
    assert list(itertools.islice(objects, 3)) == ["a\nb", "c", "a\nb"]


@pytest.mark.parametrize(
    ("data", "as_json", "problem"),
    [
        (b"", False, "has no prompt: one is needed on each line"),
        (b" \n\n", False, "has no prompt: one is needed on each line"),
        (b"a\xff", False, "is not UTF-8 at byte 1"),
        (b'{"prompt": "a"}\nhello', True, "line 2: is not JSON: .*"),
        (b'["a"]', True, 'line 1: must be an object with a text under "prompt"'),
        (b'{"prompt": ""}', True, 'line 1: must be an object with a text under "prompt"'),
        (b'{"prompt": 3}', True, 'line 1: must be an object with a text under "prompt"'),
    ],
)
def test_a_file_that_has_no_prompts_is_the_callers_mistake(data: bytes, as_json: bool, problem: str) -> None:
    """The line is named."""
    with pytest.raises(ConfigError, match=f"^{problem}$"):
        read_prompts(data, as_json=as_json)
