"""Run something in virtual time, on a virtual network, with one seed that decides everything.

The rule: a simulation is a ``trio.run`` of its own, and the code in it is what runs in production. The same seed gives
the same trace, byte for byte, in every process; so a seed that fails is a bug report.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Final, Generic, TypeVar

import attrs
import outcome
import trio

from inferencegw.testing.network import SimNetwork
from inferencegw.testing.resolver import Resolver
from inferencegw.testing.scheduler import decided_order, decided_ties, leaves, virtual_clock
from inferencegw.testing.trace import Trace

__all__ = ["HOME", "Simulated", "StuckError", "current_network", "simulate"]

HOME: Final = "home"
"""The host on which the body of a simulation runs, where it does not say otherwise."""

HOME_ADDRESS: Final = "10.255.255.254"
"""Its address, out of the way of those that others are given."""

LAST_RESORT: Final = 600.0
"""Virtual seconds after its time limit in which a simulation may end. High: one that hangs says so late. Low: one
that would have ended in order is broken off."""

LAST_LINES: Final = 30
"""Lines of the trace that a failure shows."""

T = TypeVar("T")

_current: ContextVar[SimNetwork] = ContextVar("inferencegw.testing.network")


@attrs.frozen
class Simulated(Generic[T]):
    """What came of a simulation.

    Attributes:
        value: what its body returned.
        trace: what happened.
        seconds: how long it took, in virtual time.
    """

    value: T
    trace: Trace
    seconds: float


class StuckError(Exception):
    """Tasks of a simulation do not end though they were cancelled: something waits behind a shield for ever."""


def simulate(body: Callable[[SimNetwork], Awaitable[T]], *, seed: int, time_limit: float = 3600.0) -> Simulated[T]:
    """Run ``body(network)`` to its end; ``time_limit`` is in virtual seconds. Not to be called inside of trio.

    Raises:
        TooSlowError: it has not ended in ``time_limit``, and was cancelled.
        StuckError: it has not ended when it was cancelled, either; where there are nurseries, in an ExceptionGroup.
        Exception: what ``body`` raised, with a note that tells the seed and the last lines of the trace.
    """
    network = SimNetwork(seed)
    failures: list[Exception] = []
    everything = trio.CancelScope()

    def fail(error: Exception) -> None:
        failures.append(error)
        everything.cancel()

    async def run() -> T:
        decided_ties()
        trio.socket.set_custom_socket_factory(network)
        trio.socket.set_custom_hostname_resolver(Resolver(network))
        _current.set(network)
        network.at(time_limit + LAST_RESORT, partial(_break_off, network, trio.lowlevel.current_task()))
        with everything, trio.fail_after(time_limit), network.host(HOME, HOME_ADDRESS).entered():
            return await body(network)
        raise failures[0]

    try:
        with decided_order(seed):
            value = trio.run(run, clock=virtual_clock(network.agenda, fail))
    except BaseException as error:
        lines = [f"  {line}" for line in network.trace.lines[-LAST_LINES:]]
        note = [f"seed {seed}, {network.agenda.now:.3f} virtual seconds; the trace ends:", *lines]
        error.add_note("\n".join(note))
        raise
    return Simulated(value, network.trace, network.agenda.now)


def _break_off(network: SimNetwork, main: trio.lowlevel.Task) -> None:
    """Raise StuckError in every task that is left; again and again, until none is."""
    error = StuckError("it waits behind a shield, though it was cancelled long ago")
    for task in leaves(main):
        trio.lowlevel.reschedule(task, outcome.Error(error))
    network.agenda.after(1.0, partial(_break_off, network, main))


def current_network() -> SimNetwork:
    """The network of the simulation that this code is part of; RuntimeError outside of one."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no virtual network here: this code does not run in a simulation") from None
