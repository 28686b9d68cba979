"""The oracle: what an unbroken stream says, from the request alone."""

from inferencegw.client import Token
from inferencegw.errors import StatusCode
from inferencegw.testing import Answer, Request, oracle

WHOLE = Request(prompt="once upon a time", max_tokens=30)


def test_a_continuation_is_the_rest_of_the_whole() -> None:
    """Wherever it begins."""
    texts = oracle(WHOLE)
    assert len(texts) == 30
    for offset in range(1, 30):
        rest = Request(prompt=WHOLE.prompt, max_tokens=30, resume_offset=offset, resume_text="".join(texts[:offset]))
        assert oracle(rest) == texts[offset:]


def test_a_stop_string_ends_it_with_the_token_that_completes_it() -> None:
    """Also where it began in an earlier token, and not where it was complete before the continuation began."""
    texts = oracle(WHOLE)
    across = texts[4][-2:] + texts[5][:2]
    assert oracle(Request(prompt=WHOLE.prompt, max_tokens=30, stop=(across,))) == texts[:6]
    resumed = Request(
        prompt=WHOLE.prompt, max_tokens=30, stop=(across,), resume_offset=6, resume_text="".join(texts[:6])
    )
    assert oracle(resumed) == texts[6:]


def test_another_seed_or_model_says_something_else() -> None:
    """Each is a model of its own."""
    told = {
        tuple(oracle(request))
        for request in (
            Request(prompt="p", max_tokens=20),
            Request(prompt="p", max_tokens=20, seed=1),
            Request(prompt="p", max_tokens=20, model="another"),
        )
    }
    assert len(told) == 3


def test_an_answer_is_whole_only_with_every_token_and_its_end() -> None:
    """An OK is not enough, and nor are the tokens."""
    answer = Answer(Request(prompt="p", max_tokens=2), "c1", "g1", begun=1.0)
    for index, text in enumerate(oracle(answer.request)):
        assert not answer.is_whole
        answer.tokens.append(Token(index, text, f"r{index}", 1))
    without_end, answer.code = answer.is_whole, StatusCode.OK
    assert (without_end, answer.is_whole) == (False, True)
    assert (answer.indexes, answer.replicas) == ([0, 1], ["r0", "r1"])
    assert str(answer) == "c1>g1 'p': 2 of 2 tokens from ['r0', 'r1'], OK"
