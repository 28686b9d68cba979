"""One generation: which of its tokens are due when, and what goes wrong on the way. Pure.

The rule: one input, all its effects, then the next input. A :class:`Generation` is given the time and answers with
what is to be sent or broken now (:meth:`Generation.handle_timeout`) and when to ask again
(:meth:`Generation.next_deadline`). Nothing here sleeps, sends, logs or reads a clock.

Tokens are due at absolute times: the prefill, and then n delays after it, each off by its own jitter. A shell that
wakes late sends all that has become due in one batch and is on time again, so load makes bursts, not a slower model.
"""

import enum
import math
from typing import Final, TypeAlias

import attrs

from inferencegw.replica.faults import FaultKind, FaultPlan
from inferencegw.replica.prefill import PrefixCache, block_keys
from inferencegw.replica.tokens import StopStrings, TokenSource, count_tokens, stable_fraction

__all__ = [
    "CloseConnection",
    "Crash",
    "Effect",
    "FinishReason",
    "Generation",
    "Prompt",
    "ReleaseSlot",
    "Send",
    "Speed",
    "Token",
]

BATCH_TOKENS: Final = 64
"""Tokens sent at once. High: other streams wait while one batch is made. Low: more turns for the same tokens."""


class FinishReason(enum.Enum):
    """Why a generation ended."""

    LENGTH = "max_tokens were generated"
    STOP = "a stop string appeared"


@attrs.frozen
class Token:
    """One token; ``finish`` is set on the last one."""

    index: int
    text: str
    finish: FinishReason | None


@attrs.frozen
class Send:
    """Send these, in this order."""

    tokens: tuple[Token, ...]


@attrs.frozen
class ReleaseSlot:
    """The computing is done; comes before the last :class:`Send`, which may have to wait for the client."""


@attrs.frozen
class CloseConnection:
    """Drop the connection that carries the stream."""


@attrs.frozen
class Crash:
    """End the process without a goodbye."""


Effect: TypeAlias = Send | ReleaseSlot | CloseConnection | Crash


@attrs.frozen(kw_only=True)
class Prompt:
    """What is asked of the model: a whole generation, or the rest of one that was begun elsewhere."""

    text: str
    max_tokens: int
    """Of the whole generation."""
    seed: int = 0
    stops: tuple[str, ...] = ()
    first_index: int = 0
    generated_text: str = ""
    """The text of the tokens before ``first_index``."""

    def tokens(self) -> int:
        """How many tokens the prompt counts as."""
        return count_tokens(len(self.text.encode()))


@attrs.frozen(kw_only=True)
class Speed:
    """How fast the model is, in seconds, while nothing slows it."""

    token_delay: float
    """From one token to the next, and from the end of the prefill to the first."""
    jitter: float = 0.0
    """Share of ``token_delay`` by which a token may be early or late; up to 0.5, where it cannot overtake another."""
    prefill: float = 0.0
    """Before every generation, however short or well known its prompt is."""
    prefill_per_token: float = 0.0
    """For each token that has to be read: the prompt and what was generated so far, less what the cache knows."""
    seed: int = 0
    """Of the jitter."""


class WorkClock:
    """Turns an amount of work, in seconds at full speed, into the time at which it is done.

    Only :meth:`when` is for comparing with the time: the two directions differ by a rounding, and a deadline that has
    passed but is not yet due would be asked for again and again.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._done = 0.0
        self._slow_factor = 1.0

    def when(self, work: float) -> float:
        """When ``work`` is done if nothing changes: infinity while stopped."""
        if self._slow_factor == math.inf:
            return math.inf
        return self._since + (work - self._done) * self._slow_factor

    def set_slow_factor(self, slow_factor: float, now: float) -> None:
        """Go ``slow_factor`` times slower than full speed from now on; infinity stops."""
        self._done += (now - self._since) / self._slow_factor
        self._since = now
        self._slow_factor = slow_factor


class Generation:
    """The tokens of one call, from its first one to its end; without faults until :meth:`follow`."""

    def __init__(self, prompt: Prompt, source: TokenSource, speed: Speed, cache: PrefixCache, now: float) -> None:
        self._prompt = prompt
        self._speed = speed
        self._source = source
        self._stops = StopStrings(prompt.stops, prompt.generated_text)
        self._cache = cache
        context = (prompt.text + prompt.generated_text).encode()
        self._unread = block_keys(context)
        to_read = max(1, count_tokens(len(context)) - cache.cached_tokens(self._unread))
        self._prefill = speed.prefill + speed.prefill_per_token * to_read
        self._clock = WorkClock(now)
        self._plan = FaultPlan()
        self._index = prompt.first_index
        self._due = self._work_before(self._index)
        self.is_over = False
        """Whether nothing more will come."""

    def next_deadline(self) -> float:
        """When :meth:`handle_timeout` has something to do; infinity while frozen."""
        return self._clock.when(self._due)

    def follow(self, plan: FaultPlan, now: float) -> None:
        """Let ``plan`` act on what is still to come. A generation that is frozen goes on, unless it is hit again."""
        if plan is not self._plan:
            self._plan = plan
            self._clock.set_slow_factor(plan.slow_factor, now)

    def handle_timeout(self, now: float) -> list[Effect]:
        """Everything that is due, up to a batch."""
        tokens: list[Token] = []
        while not self.is_over and len(tokens) < BATCH_TOKENS and self.next_deadline() <= now:
            match self._plan.at_token(self._index):
                case None:
                    tokens.append(self._next_token())
                case FaultKind.REPEAT:
                    tokens += [self._next_token()] * 2
                case FaultKind.SKIP:
                    self._next_token()
                case _ if tokens:
                    break  # what comes before the fault goes out before it happens
                case FaultKind.FREEZE:
                    self._clock.set_slow_factor(math.inf, now)
                case kind:
                    self.is_over = True
                    return _ENDINGS[kind]
        sends: list[Effect] = [Send(tuple(tokens))] if tokens else []
        return [ReleaseSlot(), *sends] if self.is_over else sends

    def _next_token(self) -> Token:
        index = self._index
        if index == self._prompt.first_index:
            self._cache.insert(self._unread)  # the prefill was not cut short
        text = self._source.text(index)
        finish = None
        if self._stops.completed_by(text):
            finish = FinishReason.STOP
        elif index == self._prompt.max_tokens - 1:
            finish = FinishReason.LENGTH
        self.is_over = finish is not None
        self._index += 1
        self._due = self._work_before(self._index)
        return Token(index, text, finish)

    def _work_before(self, index: int) -> float:
        speed = self._speed
        jitter = speed.jitter * (2 * stable_fraction(speed.seed, self._source.key, index) - 1) if speed.jitter else 0.0
        return self._prefill + (index - self._prompt.first_index + 1 + jitter) * speed.token_delay


_ENDINGS: Final[dict[FaultKind, list[Effect]]] = {
    FaultKind.CRASH: [Crash()],
    FaultKind.CLOSE: [ReleaseSlot(), CloseConnection()],
    FaultKind.TRUNCATE: [ReleaseSlot()],
}
