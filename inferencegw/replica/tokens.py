"""What a simulated model says: token i is a function of (model, prompt, seed, i), and of nothing else.

The rule: no state, no clock, no process. Two replicas of the same model give the same token for the same request, and
so does one that begins at token k what another has left there. Text comes from a keyed hash (BLAKE2b, RFC 7693) in
counter mode, never from ``hash()``, which differs from process to process; ``random.Random`` would do as well for one
stream but cannot begin in the middle.

Temperature and top_p change nothing: they choose among a model's likely tokens, and there is no model.
"""

import hashlib
from typing import Final

__all__ = ["StopStrings", "TokenSource", "count_tokens", "stable_fraction"]

BYTES_PER_TOKEN: Final = 4
"""UTF-8 bytes that count as one token of a prompt. High: prompts look cheap. Low: they look dear."""

_WORDS: Final = (
    "about above after again along always among answer any around ask away back because before begin behind below"
    " better between both bring bright build call came carry change clear close cloud cold come could dark day deep"
    " door down each early earth end enough even every fall far few field find fire first follow found four friend"
    " from gave give glass gold good grass great green half hand hear heart high hold home hour house how idea keep"
    " kind large last late leave left less letter light line little long look made many might mind moon more morning"
    " most mountain move near never new next night north often old once only open other paper part people place point"
    " quiet rain read ride right river road rock room round"
)
WORDS: Final = tuple(_WORDS.split())
_WORD_MASK: Final = 127  # 128 words: seven bits choose one without bias
_TOKENS_PER_BLOCK: Final = 32  # of one 64-byte digest, two bytes each


def count_tokens(text_bytes: int) -> int:
    """How many tokens a text of ``text_bytes`` bytes of UTF-8 counts as: a quarter of them, rounded up."""
    return -(-text_bytes // BYTES_PER_TOKEN)


def stable_fraction(*parts: int | bytes) -> float:
    """A number in [0, 1) that looks random and is the same for equal ``parts`` in every process."""
    return int.from_bytes(_digest(8, *parts)) / 2**64


def _digest(size: int, *parts: int | bytes) -> bytes:
    state = hashlib.blake2b(digest_size=size)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        # The length first: ("ab", "c") and ("a", "bc") are different requests.
        state.update(len(data).to_bytes(8))
        state.update(data)
    return state.digest()


class TokenSource:
    """The tokens of one request, in any order, without end.

    The digest of the latest block is kept, because streams are read in order: one hash for 32 tokens.
    """

    def __init__(self, model: str, prompt: str, seed: int) -> None:
        self.key: Final = _digest(32, model.encode(), prompt.encode(), seed)
        """Names the request among all others: equal for equal model, prompt and seed."""
        self._number = -1
        self._block = b""

    def text(self, index: int) -> str:
        """The text of token ``index``: a word with the space before it and the punctuation after it."""
        bits = self._bits(index)
        word = WORDS[bits & _WORD_MASK]
        if index == 0 or _ends_sentence(self._bits(index - 1)):
            word = word.capitalize()
        return f"{' ' if index else ''}{word}{_punctuation(bits)}"

    def _bits(self, index: int) -> int:
        number, position = divmod(index, _TOKENS_PER_BLOCK)
        if number != self._number:
            self._block = hashlib.blake2b(number.to_bytes(8), key=self.key).digest()
            self._number = number
        return int.from_bytes(self._block[2 * position : 2 * position + 2])


def _ends_sentence(bits: int) -> bool:
    return bits >> 7 < 40  # of 512: a sentence has 13 words on average


def _punctuation(bits: int) -> str:
    if _ends_sentence(bits):
        return "."
    return "," if bits >> 7 < 90 else ""


class StopStrings:
    """Whether a stop string has appeared, asked token by token.

    A token that completes one is the last, and is sent whole: it is what it is, whatever the request's stop strings.
    A stop string may begin in an earlier token, also in one that another replica has generated, but it counts only
    where it ends, so that a continuation does not end again at what its first part was meant to contain.
    """

    def __init__(self, stops: tuple[str, ...], text_so_far: str) -> None:
        self._stops = stops
        self._tail_chars = max(map(len, stops), default=1) - 1
        self._tail = self._tail_of(text_so_far)

    def completed_by(self, text: str) -> bool:
        """Whether one ends within ``text``, which follows everything seen so far."""
        seen = self._tail + text
        before = len(self._tail)
        self._tail = self._tail_of(seen)
        return any(seen.find(stop, max(0, before - len(stop) + 1)) >= 0 for stop in self._stops)

    def _tail_of(self, text: str) -> str:
        return text[-self._tail_chars :] if self._tail_chars else ""
