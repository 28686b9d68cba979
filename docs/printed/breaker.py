"""What the chapter on calls prints of the circuit breaker: its automaton, and how long it rests.

The rule: the table that the breaker itself follows is drawn, and the rests are those of a breaker that is driven here.
"""

from typing import Final

from inferencegw.config import GatewayConfig
from inferencegw.policy.breaker import TRANSITIONS, BreakerEvent, BreakerState, CircuitBreaker
from inferencegw.policy.outcome import Outcome

from .automaton import Edge, Place, figure

__all__ = ["automaton", "rests"]

PLACES: Final[dict[str, Place]] = {"CLOSED": (0.0, 0.0), "OPEN": (1.6, 0.0), "HALF_OPEN": (0.8, 1.0)}

MEANINGS: Final = {
    BreakerEvent.TRIPPED: "more than half were faults",
    BreakerEvent.RESTED: "it has rested",
    BreakerEvent.PROBE_PASSED: "the probe passed",
    BreakerEvent.PROBE_FAILED: "the probe was a fault",
}


def automaton() -> str:
    """The picture of the table."""
    edges = [
        Edge(before.name, after.name, MEANINGS[event], "dashed" if event is BreakerEvent.RESTED else "solid")
        for (before, event), after in TRANSITIONS.items()
    ]
    return figure(PLACES, edges, "The states of a circuit breaker, and what leads from one to another")


def rests() -> str:
    """How long a breaker of the default configuration is open, one failed probe after the other, until that is all."""
    limits = GatewayConfig().breaker
    breaker, now = CircuitBreaker(limits), 0.0
    while breaker.state is BreakerState.CLOSED:
        breaker.settle(breaker.acquire(), Outcome.FAULT, now)
    found: list[float] = []
    while not found or found[-1] < limits.open_at_most:
        found.append(breaker.next_deadline() - now)
        now = breaker.next_deadline()
        breaker.handle_timeout(now)
        breaker.settle(breaker.acquire(), Outcome.FAULT, now)
    return f"It rests for {', '.join(f'{seconds:g}' for seconds in found)} seconds, and then as long each time.\n"
