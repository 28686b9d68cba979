"""policy/ledger.py: tokens go out in order, each once, and the account of them is exact."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencegw.policy.ledger import TokenFault, TokenLedger


@pytest.mark.parametrize(
    ("before", "index", "is_final", "expected"),
    [
        ([], 0, False, True),
        ([0], 1, False, True),
        ([0, 1], 2, True, True),
        ([0, 1], 0, False, False),
        ([0, 1], 1, False, False),
        ([0], 2, False, "token 2 came where 1 was next"),
        ([0, 1], 2, False, "token 2 is the last that was asked for, and is not final"),
        ([0, 1, 2], 3, False, "token 3 came after the last one, 2"),
    ],
)
def test_only_the_next_token_is_admitted(before: list[int], index: int, is_final: bool, expected: bool | str) -> None:
    """The next one goes out, one behind is dropped, one ahead or past ``max_tokens`` (3 here) is a fault."""
    ledger = TokenLedger(0, 3)
    assert all(ledger.admit(one, is_final=one == 2) for one in before)
    if isinstance(expected, str):
        with pytest.raises(TokenFault, match=expected):
            ledger.admit(index, is_final=is_final)
        assert ledger.next_index == len(before)
    else:
        assert ledger.admit(index, is_final=is_final) is expected
        assert ledger.finished is is_final


def test_nothing_comes_after_the_final_token() -> None:
    """A final token ends the generation even where ``max_tokens`` would allow more; its repeat is still dropped."""
    ledger = TokenLedger(0, 100)
    assert ledger.admit(0, is_final=True)
    assert not ledger.admit(0, is_final=True)
    with pytest.raises(TokenFault, match="token 1 came after the last one, 0"):
        ledger.admit(1, is_final=False)


def test_a_resumed_generation_begins_where_it_was_left() -> None:
    """Indexes are those of the whole generation; the count and the digest are of this call alone."""
    ledger = TokenLedger(7, 9)
    assert not ledger.admit(6, is_final=False)
    assert ledger.admit(7, is_final=False)
    ledger.deliver("é")
    assert (ledger.delivered, ledger.resume_index, ledger.digest) == (1, 8, crc32("é".encode()))


def test_what_was_admitted_but_not_sent_is_not_delivered() -> None:
    """A client resumes after what it has, not after what was on its way."""
    ledger = TokenLedger(0, 9)
    for index in range(3):
        ledger.admit(index, is_final=False)
    ledger.deliver("a")
    assert (ledger.next_index, ledger.delivered, ledger.resume_index) == (3, 1, 1)


def test_a_call_is_complete_when_its_final_token_was_delivered() -> None:
    """Not when it was admitted: that is what a status OK is owed to."""
    ledger = TokenLedger(1, 9)
    steps = []
    for index, is_final in ((1, False), (2, True)):
        ledger.admit(index, is_final=is_final)
        steps.append(ledger.complete)
        ledger.deliver("a")
        steps.append(ledger.complete)
    assert steps == [False, False, False, True]


@given(st.integers(0, 5), st.integers(1, 12), st.lists(st.tuples(st.integers(0, 14), st.booleans()), max_size=40))
def test_whatever_replicas_send_the_client_gets_a_prefix(
    first: int, length: int, tokens: list[tuple[int, bool]]
) -> None:
    """The promise as a property: what goes out is first, first + 1, ..., inside ``max_tokens``, and ends at a final."""
    ledger = TokenLedger(first, first + length)
    sent: list[tuple[int, bool]] = []
    texts = b""
    for index, is_final in tokens:
        try:
            if not ledger.admit(index, is_final=is_final):
                continue
        except TokenFault:
            continue
        sent.append((index, is_final))
        ledger.deliver(f"t{index} ")
        texts += f"t{index} ".encode()
    assert [index for index, _ in sent] == list(range(first, first + len(sent)))
    assert len(sent) <= length
    assert not any(is_final for _, is_final in sent[:-1])
    assert ledger.finished is (bool(sent) and sent[-1][1])
    assert (ledger.delivered, ledger.digest) == (len(sent), crc32(texts))


class LedgerMachine(RuleBasedStateMachine):
    """Replicas send what they like, the client takes it when it likes; against the two lists of what went where."""

    def __init__(self) -> None:
        super().__init__()
        self.call(0, 6)

    @rule(first=st.integers(0, 3), length=st.integers(1, 6))
    def call(self, first: int, length: int) -> None:
        """A call comes, perhaps to be resumed."""
        self.first, self.end = first, first + length
        self.ledger = TokenLedger(self.first, self.end)
        self.admitted: list[tuple[str, bool]] = []
        self.sent: list[str] = []

    @rule(ahead=st.integers(-3, 2), is_final=st.booleans(), text=st.text(max_size=3))
    def arrive(self, ahead: int, is_final: bool, text: str) -> None:
        """A token: mostly the next one, or one close to it; from whichever replica."""
        following = self.first + len(self.admitted)
        index = max(0, following + ahead)
        is_over = following == self.end or any(final for _, final in self.admitted)
        if index < following:
            assert not self.ledger.admit(index, is_final=is_final)
        elif index == following and not is_over and (is_final or index < self.end - 1):
            assert self.ledger.admit(index, is_final=is_final)
            self.admitted.append((text, is_final))
        else:
            with pytest.raises(TokenFault):
                self.ledger.admit(index, is_final=is_final)

    @precondition(lambda self: len(self.sent) < len(self.admitted))
    @rule()
    def deliver(self) -> None:
        """The oldest one that waits is sent."""
        text, _ = self.admitted[len(self.sent)]
        self.ledger.deliver(text)
        self.sent.append(text)

    @invariant()
    def accounts(self) -> None:
        """What trailers say, and where another replica or another call would go on."""
        ended = any(final for _, final in self.admitted)
        assert self.ledger.next_index == self.first + len(self.admitted)
        assert (self.ledger.delivered, self.ledger.resume_index) == (len(self.sent), self.first + len(self.sent))
        assert self.ledger.digest == crc32("".join(self.sent).encode())
        assert (self.ledger.finished, self.ledger.complete) == (ended, ended and len(self.sent) == len(self.admitted))


TestLedgerMachine = LedgerMachine.TestCase
