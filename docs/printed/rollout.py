"""What the chapter on rollouts prints: the automaton of one, and how patient it is.

The rule: the table that the plan itself follows is drawn.
"""

from typing import Final

from inferencegw.policy.rollout import RolloutLimits
from inferencegw.policy.rollout_table import ENDS, TRANSITIONS, RolloutEvent, RolloutPhase

from .automaton import Edge, Line, Place, figure
from .tables import table

__all__ = ["automaton", "limits", "phases"]

PLACES: Final[dict[str, Place]] = {
    "FINISHED": (0.0, 0.0),
    "PAUSED": (0.0, 2.0),
    "CHECK": (1.2, 1.0),
    "CORDON": (2.2, 0.0),
    "DRAIN": (3.6, 0.0),
    "RELEASE": (2.9, 0.9),
    "STOP": (5.0, 0.6),
    "START": (5.0, 2.2),
    "REJOIN": (4.2, 3.4),
    "CANARY": (2.9, 2.2),
    "SHUN": (2.0, 3.4),
    "WARM_UP": (1.6, 2.2),
    "HALTED": (3.1, 4.6),
}

MEANINGS: Final = {
    RolloutEvent.CLEAR: "may be",
    RolloutEvent.FOUND_GONE: "found gone",
    RolloutEvent.FOUND_NEW: "found new",
    RolloutEvent.ALL_DONE: "all done",
    RolloutEvent.PAUSE_ASKED: "asked to",
    RolloutEvent.REFUSED: "may not be",
    RolloutEvent.PASSED: "done",
    RolloutEvent.FAILED: "failed",
    RolloutEvent.OTHER_LOST: "another is lost",
}

LINES: Final[dict[RolloutEvent, Line]] = {
    RolloutEvent.FAILED: "dashed",
    RolloutEvent.REFUSED: "dashed",
    RolloutEvent.OTHER_LOST: "dashed",
    RolloutEvent.PAUSE_ASKED: "dashed",
    RolloutEvent.FOUND_GONE: "dotted",
    RolloutEvent.FOUND_NEW: "dotted",
}

DOINGS: Final = {
    RolloutPhase.CHECK: "it looks whether the others are there and can do without one; then it takes the next, by name",
    RolloutPhase.CORDON: "by gossip, all gateways are asked to send it no new calls; those that come are taken",
    RolloutPhase.DRAIN: "it refuses new calls, and has ``--drain-timeout`` to finish; then each call goes on elsewhere",
    RolloutPhase.RELEASE: "another replica was lost meanwhile, or it is to pause, so this one gets calls again",
    RolloutPhase.STOP: "the manager ends its process",
    RolloutPhase.START: "the manager starts it, with the new version",
    RolloutPhase.REJOIN: "it has ``--rejoin-timeout`` to be back in the gossip, with that version, and connected",
    RolloutPhase.CANARY: "one generation has to be whole, and not much slower than the old version's",
    RolloutPhase.SHUN: "it has failed: it is drained at once, and stays so",
    RolloutPhase.WARM_UP: "its share of the calls grows, for the gateway's ``--slow-start``",
    RolloutPhase.PAUSED: "it was asked to stop here; no replica is out",
    RolloutPhase.HALTED: "it says why; the replica in hand stays as it is",
    RolloutPhase.FINISHED: "all are done",
}


def automaton() -> str:
    """The picture of the table."""
    events: dict[tuple[RolloutPhase, RolloutPhase], list[RolloutEvent]] = {}
    for (before, event), after in TRANSITIONS.items():
        events.setdefault((before, after), []).append(event)
    edges = [
        Edge(before.name, after.name, " or ".join(MEANINGS[one] for one in several), LINES.get(several[0], "solid"))
        for (before, after), several in events.items()
    ]
    return figure(PLACES, edges, "What a rollout does with one replica, and what leads from one step to another")


def phases() -> str:
    """What is done in each."""
    rows = [["phase", "what happens"]]
    rows += [[f"**{phase.name}**" if phase in ENDS else phase.name, DOINGS[phase]] for phase in RolloutPhase]
    return table(rows)


def limits() -> str:
    """How long it waits."""
    limits = RolloutLimits()
    return (
        f"It waits {limits.patience:g} seconds for others to be there, or less busy, and takes one replica in hand "
        f"{limits.tries} times at most; then it halts.\n"
    )
