"""A server's places for connections: how many are taken, by whom, and who makes room when they run short.

The rule: pure counting. The last places are kept free for as long as there are connections without a call: for each
that comes, one of those goes. It is one of the host that has most of them, and of that host's the one that has been
without a call for longest. So who fills the house from one address, or just forgets his connections there, makes room
for others and at last for himself; who is served is never sent away. Nor does being served count against anybody: a
proxy with hundreds of busy connections and one that is new is not who fills the house.
"""

from typing import Final

__all__ = ["SPARE", "Places"]

SPARE: Final = 16
"""One place in so many is kept free. High: fewer at once can come while those who were sent away still leave. Low:
connections are sent away that would have had a place."""


class Places:
    """Places for ``most`` connections. Each is known by a number of its own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._hosts: dict[int, str] = {}
        # Of each host those without a call, the longest first.
        self._resting: dict[str, dict[int, None]] = {}
        self._leaving: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether nobody else can be taken in."""
        return len(self._hosts) >= self._most

    def enter(self, place: int, host: str) -> int | None:
        """Take a connection of ``host`` in, without a call at first; return which one is to be sent away, if any is."""
        surplus = self._choose() if self._is_short() else None
        self._hosts[place] = host
        self.rest(place)
        return surplus

    def work(self, place: int) -> None:
        """A call has begun there."""
        self._forget(place, self._hosts[place])

    def rest(self, place: int) -> None:
        """The last of its calls has ended."""
        if place not in self._leaving:
            self._resting.setdefault(self._hosts[place], {})[place] = None

    def leave(self, place: int) -> None:
        """It is gone."""
        host = self._hosts.pop(place)
        self._leaving.discard(place)
        self._forget(place, host)

    def _is_short(self) -> bool:
        return len(self._hosts) - len(self._leaving) >= self._most - self._most // SPARE

    def _choose(self) -> int | None:
        if not self._resting:
            return None
        host = max(self._resting, key=lambda host: len(self._resting[host]))
        place = next(iter(self._resting[host]))
        self._forget(place, host)
        self._leaving.add(place)
        return place

    def _forget(self, place: int, host: str) -> None:
        resting = self._resting.get(host, {})
        if place in resting:
            del resting[place]
            if not resting:
                del self._resting[host]
