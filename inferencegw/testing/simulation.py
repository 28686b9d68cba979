"""Run something in virtual time, on a virtual network, with one seed that decides everything.

The rule: a simulation is a ``trio.run`` of its own, and the code in it is what runs in production. The same seed gives
the same trace, byte for byte, in every process; so a seed that fails is a bug report.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Generic, TypeVar

import attrs
import outcome
import trio

from inferencegw.testing.network import SimNetwork
from inferencegw.testing.resolver import Resolver
from inferencegw.testing.scheduler import decided_order, decided_ties, leaves, virtual_clock
from inferencegw.testing.trace import Trace

__all__ = ["HOME", "Simulated", "StuckError", "simulate"]

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
        Exception: what ``body`` raised, with a note that tells the seed and the last lines of the trace; or, whatever
            came of ``body``, the first error of an action or of a rule, caused by what ``body`` raised as well.
    """
    network = SimNetwork(seed)
    failures: list[Exception] = []
    everything = trio.CancelScope()

    def fail(error: Exception) -> None:
        failures.append(error)
        everything.cancel()

    network.paths.on_rule_failure = fail

    async def run() -> T:
        decided_ties()
        trio.socket.set_custom_socket_factory(network)
        trio.socket.set_custom_hostname_resolver(Resolver(network))
        network.at(time_limit + LAST_RESORT, partial(_break_off, network, trio.lowlevel.current_task()))
        with everything, trio.fail_after(time_limit), network.host(HOME, HOME_ADDRESS).entered():
            return await body(network)
        raise failures[0]

    try:
        with decided_order(seed):
            try:
                value = trio.run(run, clock=virtual_clock(network.agenda, fail))
            except Exception as error:
                if failures and error is not failures[0]:
                    raise failures[0] from error
                raise
        if failures:  # the body has ended all the same: nothing in it waited any more, or behind a shield only
            raise failures[0]
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
