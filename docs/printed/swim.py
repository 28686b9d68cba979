"""What the chapter on the protocol prints: its automaton, and its formulas' values for every profile.

The rule: the functions that the protocol itself calls, on members made for the purpose; no formula is written anew
where the code has it. Two are not the code's, because it only obeys them: how soon a crash is found and how often a
lost packet makes a suspicion. ``nox -s bench -- swim`` measures both.
"""

import random
from collections.abc import Iterable
from typing import Final

from inferencegw.swim.accusations import Accusations
from inferencegw.swim.config import PROFILES, SwimConfig
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.member import MemberState, Meta, Record, Status
from inferencegw.swim.node import Node
from inferencegw.swim.prober import Prober
from inferencegw.swim.suspicion import suspicion_timeout
from inferencegw.swim.tombstones import Tombstones
from inferencegw.swim.transitions import TRANSITIONS, Reaction

from .automaton import Edge, Line, Place, figure
from .tables import table

__all__ = [
    "automaton",
    "confirmations",
    "expected_first_dead",
    "helpless",
    "members",
    "reactions",
    "suspicions",
    "timings",
]

SIZES: Final = (3, 10, 100, 1000)
"""Members of the clusters in the tables."""

LOSSES: Final = (0.01, 0.05, 0.1, 0.3)

STRANGER: Final = "a stranger"

PLACES: Final[dict[str, Place]] = {
    STRANGER: (0.2, 0.0),
    "ALIVE": (1.0, 0.0),
    "SUSPECT": (2.5, 0.0),
    "LEFT": (1.0, 1.5),
    "DEAD": (2.5, 1.5),
}

NEEDED: Final[tuple[tuple[str, Line, int, int], ...]] = (
    ("same version", "solid", 0, 0),
    ("later incarnation", "dashed", 0, 1),
    ("later epoch", "dotted", 1, 0),
)
"""What news must have over what is held, the least first: its name, its line, the steps in epoch and in incarnation."""


def _name(state: MemberState | None) -> str:
    return STRANGER if state is None else state.name


def _needed(before: MemberState | None, after: MemberState) -> tuple[str, Line]:
    """The least that makes news of ``after`` outrank ``before``, asked of the order itself."""
    if before is None:
        return "any version", "solid"
    held = Status(1, 0, before).version
    return next(
        (name, line)
        for name, line, epoch, incarnation in NEEDED
        if Status(1 + epoch, incarnation, after).version > held
    )


def _done(reactions: Iterable[Reaction]) -> str:
    return ", ".join(reaction.value for reaction in reactions) or "nothing"


def automaton() -> str:
    """The picture of the table."""
    edges = [
        Edge(_name(before), _name(after), _done(reactions), _needed(before, after)[1])
        for (before, after), reactions in TRANSITIONS.items()
    ]
    return figure(PLACES, edges, "The states of a member, and what follows each change")


def reactions() -> str:
    """The table itself: a row for each state before, a column for each state after."""
    rows = [["before", *(f"after: {state.name}" for state in MemberState)]]
    for before in (None, *MemberState):
        cells = []
        for after in MemberState:
            what = TRANSITIONS.get((before, after))
            cells.append("not taken in" if what is None else f"**{_done(what)}** ({_needed(before, after)[0]})")
        rows.append([_name(before), *cells])
    return table(rows)


def _member(config: SwimConfig, size: int) -> Node:
    """One of ``size`` members that are all held ALIVE."""
    meta = Meta(epoch=1, address=("192.0.2.1", 1))
    records = [Record(str(number), Status(1, 0, MemberState.ALIVE), meta) for number in range(size)]
    rng = random.Random(0)  # noqa: S311 - no secret
    node = Node(records[0], config, Envelope("", None, None), rng=rng, now=0.0, wall_at_zero=0.0)
    for record in records[1:]:
        node.roster.put(record)
    return node


def members(config: SwimConfig, size: int) -> tuple[int, float]:
    """``K`` once one of ``size`` members is a suspect, and how long a tombstone made then is kept."""
    node = _member(config, size)
    tombstones = Tombstones(node, lambda _: None)
    accusations: Accusations = Prober(node).accusations
    node.roster.put(Record(str(size - 1), Status(1, 0, MemberState.SUSPECT), node.own.meta))
    return accusations.expected, tombstones.lifetime


def expected_first_dead(config: SwimConfig, size: int) -> float:
    """Seconds from a crash to the first DEAD, on average, where all that may confirm do so in time."""
    shortest, longest = config.suspicion_bounds(size)
    expected, _ = members(config, size)
    first_probe = config.probe_interval * (size - 1) / size
    suspicion = suspicion_timeout(shortest, longest, expected, expected)
    return first_probe + config.probe_interval + suspicion + config.probe_timeout


def timings() -> str:
    """Every formula's value, for each profile and size."""
    rows = [["profile", "n", "susp_min", "susp_max", "K", "first DEAD", "sends of a piece of news", "tombstone"]]
    for name, config in PROFILES.items():
        for size in SIZES:
            shortest, longest = config.suspicion_bounds(size)
            expected, lifetime = members(config, size)
            rows.append(
                [
                    name,
                    str(size),
                    f"{shortest:.2f} s",
                    f"{longest:.2f} s",
                    str(expected),
                    f"{expected_first_dead(config, size):.2f} s",
                    str(config.retransmissions(size)),
                    f"{lifetime:.0f} s",
                ]
            )
    return table(rows)


def confirmations() -> str:
    """``susp(C)`` among ten members."""
    size = 10
    rows = [["profile", *(f"C = {count}" for count in range(4))]]
    for name, config in PROFILES.items():
        expected, _ = members(config, size)
        bounds = config.suspicion_bounds(size)
        rows.append([name, *(f"{suspicion_timeout(*bounds, count, expected):.2f} s" for count in range(4))])
    return table(rows)


def helpless(loss: float, helpers: int) -> float:
    """How likely a probe of a member that lives is not answered: two packets directly, four by way of each helper."""
    arrives = 1.0 - loss
    return (1.0 - arrives**2) * (1.0 - arrives**4) ** helpers


def suspicions() -> str:
    """What loss alone makes of probes, for the numbers of helpers that profiles have."""
    rows = [["helpers", *(f"{loss:.0%} loss" for loss in LOSSES)]]
    rows += [
        [str(helpers), *(f"1 in {1 / helpless(loss, helpers):,.0f}" for loss in LOSSES)]
        for helpers in sorted({config.indirect_probes for config in PROFILES.values()})
    ]
    return table(rows)
