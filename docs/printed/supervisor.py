"""What the chapter on replica managers prints of the supervisor: what becomes of a child, and the pauses.

The rule: the table that the supervisor itself follows is drawn, and the pauses are its own numbers.
"""

from typing import Final

from inferencegw.cli.supervisor.upkeep import LONGEST_PAUSE, SHORTEST_PAUSE, STEADY, TRANSITIONS, Happening, Phase
from inferencegw.policy.backoff import FACTOR, JITTER

from .automaton import Edge, Place, figure

__all__ = ["automaton", "pauses"]

PLACES: Final[dict[str, Place]] = {
    "STARTING": (0.0, 0.0),
    "UP": (1.6, 0.0),
    "RESTING": (0.5, 1.0),
    "STOPPING": (1.6, 2.0),
    "STOPPED": (0.0, 2.0),
}

MEANINGS: Final = {
    Happening.READY: "ready",
    Happening.ENDED: "it ends",
    Happening.RESTED: "rested",
    Happening.STOP: "Stop",
    Happening.START: "Start",
}


def automaton() -> str:
    """The picture of the table; where two things lead the same way they share an arrow."""
    labels: dict[tuple[Phase, Phase], list[Happening]] = {}
    for (before, happening), after in TRANSITIONS.items():
        labels.setdefault((before, after), []).append(happening)
    edges = [
        Edge(
            before.name,
            after.name,
            " or ".join(MEANINGS[happening] for happening in happenings),
            "dashed" if Happening.RESTED in happenings else "solid",
        )
        for (before, after), happenings in labels.items()
    ]
    return figure(PLACES, edges, "The phases of a child of the supervisor, and what leads from one to another")


def pauses() -> str:
    """How long a child rests."""
    return (
        f"The first pause is {SHORTEST_PAUSE:g} s, each next one {FACTOR:g} times as long, up to {LONGEST_PAUSE:g} s, "
        f"and each is up to {JITTER:.0%} longer or shorter. A child that has been up for {STEADY:g} s, or is started "
        "by order, begins with the first one again.\n"
    )
