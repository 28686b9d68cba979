"""What the gateway may spend to win time: hedges of its own accord, bounded by a share of what was useful.

The rule: counted in tokens, not in attempts, because a hedge of a long prompt costs more than one of a short (Google's
"The Tail at Scale", Communications of the ACM 56(2), bounds hedges too, by attempts). Useful is what was delivered;
spent is the prompt that a second replica reads and what the loser generates, which is known only when it has ended. So
a withdrawal asks whether there is something left, and what it came to is charged later.

A floor lets a few through whatever the share says, or a gateway that has just started could never hedge.

Neither failovers nor hedges that the client asked for are charged here: a replica's death moves all its streams at
once, and none of them may be refused.
"""

from collections import deque

__all__ = ["Budget"]


class Budget:
    """The account of one gateway.

    Args:
        share: of useful tokens that may be spent.
        window: seconds over which both are counted.
        floor: attempts in the window that are always granted.
    """

    def __init__(self, *, share: float = 0.2, window: float = 10.0, floor: int = 3) -> None:
        self._share = share
        self._window = window
        self._floor = floor
        self._useful = _Window(window)
        self._spent = _Window(window)
        self._attempts = _Window(window)
        self.granted = 0
        self.denied = 0

    def deposit(self, tokens: int, now: float) -> None:
        """So many tokens were delivered."""
        self._useful.add(tokens, now)

    def try_withdraw(self, tokens: int, now: float) -> bool:
        """Whether an attempt may begin that costs ``tokens`` at once: the prompt, and the text to go on from."""
        within = self._spent.total(now) + tokens <= self._share * self._useful.total(now)
        granted = within or self._attempts.total(now) < self._floor
        if granted:
            self._attempts.add(1, now)
            self._spent.add(tokens, now)
            self.granted += 1
        else:
            self.denied += 1
        return granted

    def charge(self, tokens: int, now: float) -> None:
        """A loser has generated so many tokens."""
        self._spent.add(tokens, now)

    def spent(self, now: float) -> int:
        """Tokens spent in the window."""
        return self._spent.total(now)

    def useful(self, now: float) -> int:
        """Tokens delivered in the window."""
        return self._useful.total(now)


class _Window:
    """A sum over the last seconds, to a tenth of them: what is added within one slice is forgotten together."""

    def __init__(self, seconds: float) -> None:
        self._slice = seconds / 10
        self._slices: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, count: int, now: float) -> None:
        number = int(now // self._slice)
        if self._slices and self._slices[-1][0] == number:
            number, before = self._slices.pop()
            self._slices.append((number, before + count))
        else:
            self.total(now)  # or what nobody asks for would grow for ever
            self._slices.append((number, count))
        self._total += count

    def total(self, now: float) -> int:
        oldest = int(now // self._slice) - 10
        while self._slices and self._slices[0][0] <= oldest:
            self._total -= self._slices.popleft()[1]
        return self._total
