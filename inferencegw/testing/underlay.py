"""What a cluster asks of the network under it; :class:`SimNetwork` and :class:`Loopback` are one each.

The rule: whatever happens to a cluster is said in these verbs, by names of hosts, so that a story runs on a virtual
network and on real sockets without knowing which. All verbs act at once and none waits.
"""

import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Protocol, TypeVar

__all__ = ["Underlay", "UnderlayHost"]

T = TypeVar("T")


class UnderlayHost(Protocol):
    """One machine."""

    @property
    def name(self) -> str:
        """What verbs call it."""

    @property
    def addresses(self) -> Sequence[str]:
        """Where it can be reached, in figures; the first one is what its processes listen on."""

    @property
    def left_open(self) -> Collection[object]:
        """What processes held that ended by themselves."""

    async def run(self, body: Callable[..., Awaitable[T]], /, *args: object) -> T | None:
        """Run ``body(*args)`` on this host; None if the host crashed under it."""

    def open_sockets(self) -> Collection[object]:
        """What its processes hold."""


class Underlay(Protocol):
    """A network with hosts on it."""

    @property
    def rng(self) -> random.Random:
        """Everything random in the cluster draws from here."""

    def host(self, name: str, /) -> UnderlayHost:
        """The host of that name; a new one is made, and one that has crashed is up again."""

    def wall_clock(self) -> float:
        """What a clock on the wall shows, in seconds since 1970."""

    def partition(self, *sides: Iterable[str]) -> None:
        """Let nothing through between any two sides."""

    def cut(self, sender: str, receiver: str, /) -> None:
        """Let nothing through that way; the other way is another cut."""

    def mend(self, sender: str, receiver: str, /) -> None:
        """Undo :meth:`cut`."""

    def hold(self, one: str, other: str, /) -> None:
        """Keep everything between these two waiting."""

    def release(self, one: str, other: str, /) -> None:
        """Deliver what was held, and hold no more."""

    def slow(self, host: str, factor: float, /) -> None:
        """Let everything to and from ``host`` take ``factor`` times as long; 1 is normal."""

    def set_loss(self, share: float, /) -> None:
        """Lose this share of all datagrams."""

    def repair(self) -> None:
        """Undo every partition, cut, hold, slowness and loss; the crashed and the frozen stay so."""

    def freeze(self, host: str, /) -> None:
        """As SIGSTOP: its kernel goes on, its processes do not."""

    def thaw(self, host: str, /) -> None:
        """As SIGCONT."""

    def crash(self, host: str, /, *, silent: bool = False, eof: bool = False) -> None:
        """As kill -9 of all its processes: they say no goodbye, and its kernel says that they are gone.

        It resets their connections, or with ``eof`` ends them in order, as it does where all input had been read; a
        real kernel chooses for itself. With ``silent`` as when the power fails: nobody says anything until the host is
        up again.
        """

    def under_way(self) -> Collection[object]:
        """What is still on its way from one host to another, and what else their kernels have still to do."""
