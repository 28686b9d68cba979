"""What a simulated model says, and where it stops saying it."""

import subprocess
import sys
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.replica.tokens import StopStrings, TokenSource, count_tokens, stable_fraction

SPEAK = (
    "from inferencegw.replica.tokens import TokenSource as S; s = S('m', 'p', 1); print([s.text(i) for i in range(99)])"
)


def texts(source: TokenSource, count: int) -> list[str]:
    """The first ``count`` tokens."""
    return [source.text(index) for index in range(count)]


def test_the_tokens_of_a_known_prompt_are_these() -> None:
    """They never change, not even with the release: what was begun yesterday can be continued."""
    said = texts(TokenSource("simulated", "Tell me a story.", 0), 12)
    assert "".join(said) == "Once. Letter ask little back less between great close, rock down round,"


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_says_the_same(hash_seed: str) -> None:
    """Whatever PYTHONHASHSEED it runs under."""
    said = subprocess.run(
        [sys.executable, "-c", SPEAK], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == str(texts(TokenSource("m", "p", 1), 99))


@given(st.permutations(range(100)))
def test_a_token_does_not_depend_on_those_asked_for_before_it(order: list[int]) -> None:
    """Any order gives the tokens of the straight one."""
    source = TokenSource("m", "p", 0)
    assert [source.text(index) for index in order] == [texts(TokenSource("m", "p", 0), 100)[index] for index in order]


@pytest.mark.parametrize("other", [("n", "p", 0), ("m", "q", 0), ("m", "p", 1), ("mp", "", 0), ("", "mp", 0)])
def test_model_prompt_and_seed_each_change_the_text(other: tuple[str, str, int]) -> None:
    """And so does where the one ends and the other begins."""
    assert texts(TokenSource(*other), 20) != texts(TokenSource("m", "p", 0), 20)


def test_the_text_reads_as_sentences() -> None:
    """Words with single spaces between; a capital letter at the beginning and after every full stop, nowhere else."""
    text = "".join(texts(TokenSource("m", "p", 0), 2000))
    sentences = text.split(". ")
    assert len(sentences) > 50
    assert all(sentence == sentence.capitalize() and "  " not in sentence for sentence in sentences)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("日本", 2)])
def test_a_text_counts_a_token_for_every_four_bytes_begun(text: str, tokens: int) -> None:
    """ceil(UTF-8 bytes / 4), as the interface says."""
    assert count_tokens(len(text.encode())) == tokens


@given(st.lists(st.one_of(st.integers(), st.binary())))
def test_a_stable_fraction_is_below_one(parts: list[int | bytes]) -> None:
    """From 0, and the same again for the same parts."""
    assert 0 <= stable_fraction(*parts) < 1
    assert stable_fraction(*parts) == stable_fraction(*parts)


letters = st.text("ab", max_size=4)


@given(st.lists(letters, max_size=12), st.lists(st.text("ab", min_size=1, max_size=5), max_size=3), st.data())
def test_a_stop_string_is_found_in_the_token_that_completes_it(
    tokens: list[str], stops: list[str], data: st.DataObject
) -> None:
    """However it is spread over tokens, and wherever a continuation begins: the answers equal those of plain search."""
    first = data.draw(st.integers(0, len(tokens)))
    ends = [*accumulate(map(len, tokens), initial=0)]
    whole = "".join(tokens)
    expected = [
        any(
            whole.startswith(stop, at - len(stop))
            for stop in stops
            for at in range(start + 1, end + 1)
            if at >= len(stop)
        )
        for start, end in pairwise(ends)
    ]
    matcher = StopStrings(tuple(stops), "".join(tokens[:first]))
    assert [matcher.completed_by(token) for token in tokens[first:]] == expected[first:]
