"""client/transcript.py: whatever a gateway sends, what is handed out is a prefix, and the account of it is exact."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.client import Token, Transcript
from inferencegw.errors import Metadata, RpcError, StatusCode
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.client.support import digest, facts, messages, tokens, trailers


@attrs.define
class Call:
    """What a transcript is of."""

    request: InferRequest
    initial_metadata: Metadata = ()
    trailing_metadata: Metadata = ()
    gateway: str = ""
    is_cut: bool = False

    @property
    def first_index(self) -> int:
        """Of its only stream."""
        return self.request.resume_offset


def take_all(transcript: Transcript) -> list[Token]:
    """What can be handed out now."""
    return list(iter(transcript._take, None))


def test_facts_are_those_of_what_was_handed_out() -> None:
    """What has arrived and was not taken does not count: a caller who stops here would miss it."""
    call = Call(InferRequest(max_tokens=10, request_id="mine"))
    transcript = Transcript(call)
    assert transcript._admit(messages(call.request)) is True
    assert facts(transcript) == ("mine", 0, "00000000", 0, 0, None, None, "")
    assert [transcript._take() for _ in range(4)] == tokens(10)[:4]
    assert facts(transcript) == ("mine", 4, digest(["he", "llo", " ", "wörld"]), 4, 1, None, None, "")
    assert take_all(transcript) == tokens(10)[4:]
    assert facts(transcript)[3:7] == (10, 1, "length", tokens(10)[-1].usage)


def test_a_resumed_generation_counts_its_own_tokens_and_the_index_of_all() -> None:
    """``delivered`` and ``digest`` are about this call, ``next_index`` about the whole generation."""
    call = Call(InferRequest(max_tokens=9, resume_offset=7))
    transcript = Transcript(call)
    sent = messages(call.request)
    transcript._admit(sent)
    call.trailing_metadata = tuple(trailers(sent))
    assert take_all(transcript) == tokens(9, first=7)
    assert transcript._admit(None) is False
    assert (transcript.delivered, transcript.next_index) == (2, 9)


@pytest.mark.parametrize(
    ("told", "attempts"), [("3", 3), ("", 2), ("many", 2), ("-1", 2)], ids=["told", "empty", "a word", "negative"]
)
def test_attempts_are_as_the_gateway_says_or_else_as_the_tokens_say(told: str, attempts: int) -> None:
    """A number that is none does not break anything: no check hangs on it."""
    call = Call(InferRequest(max_tokens=9))
    transcript = Transcript(call)
    transcript._admit([InferResponse(attempt=2)])
    take_all(transcript)
    call.trailing_metadata = (("gw-attempts", told),)
    assert transcript.attempts == attempts


@given(
    first=st.integers(0, 3),
    length=st.integers(1, 8),
    arriving=st.lists(st.lists(st.tuples(st.integers(0, 11), st.text(max_size=3), st.booleans()), max_size=5)),
    honest=st.booleans(),
)
def test_what_is_handed_out_is_a_prefix_and_an_end_is_believed_only_if_it_is_the_end(
    first: int, length: int, arriving: list[list[tuple[int, str, bool]]], honest: bool
) -> None:
    """The promise as a property: first, first + 1, ... each once; OK only after a final token, and counted right."""
    call = Call(InferRequest(max_tokens=first + length, resume_offset=first))
    transcript = Transcript(call)
    taken: list[Token] = []
    code = StatusCode.OK
    try:
        for batch in arriving:
            transcript._admit([InferResponse(index=i, text=text, is_final=final) for i, text, final in batch])
            while (token := transcript._take()) is not None:
                taken.append(token)
        sent = [InferResponse(text=token.text) for token in taken]
        call.trailing_metadata = tuple(trailers(sent if honest else [*sent, InferResponse(text="x")]))
        transcript._admit(None)
    except RpcError as error:
        code = error.code
    assert [token.index for token in taken] == list(range(first, first + len(taken)))
    assert (transcript.delivered, transcript.next_index) == (len(taken), first + len(taken))
    assert transcript.digest == digest(token.text for token in taken)
    everything = [message for batch in arriving for message in batch]
    believed = len(everything) == len(taken) and bool(taken) and taken[-1].is_final and honest
    assert code is (StatusCode.OK if believed else StatusCode.DATA_LOSS)
