"""What happens when a member's state changes: the whole automaton, as a table.

The rule: the order of news (:mod:`inferencegw.swim.member`) decides *whether* a state changes; this table says what
follows when it has. Code reads it, the documentation draws it, a test walks it. Every pair of states is in it, because
a later epoch may bring any state after any other; a pair of equal states is the same state of a later version.
"""

import enum
from typing import Final

from inferencegw.swim.member import MemberState

__all__ = ["TRANSITIONS", "Reaction"]


class Reaction(enum.Enum):
    """What is done about a change of state. In the table they stand in the order in which they are done."""

    ADMIT = "admit"
    """Probe it and gossip to it from now on; it is not a tombstone any more."""
    ACCUSE = "accuse"
    """Give it time to object, from the beginning."""
    ACQUIT = "acquit"
    """Drop the suspicion."""
    BURY = "bury"
    """Stop probing and gossiping to it; keep a tombstone for a while. If it is DEAD, try to reach it now and then."""


_ADMIT, _ACCUSE, _ACQUIT, _BURY = Reaction
_ALIVE, _SUSPECT, _DEAD, _LEFT = MemberState

TRANSITIONS: Final[dict[tuple[MemberState | None, MemberState], tuple[Reaction, ...]]] = {
    # A stranger is only ever taken in ALIVE, with its metadata: without an address it could not be asked.
    (None, _ALIVE): (_ADMIT,),
    (_ALIVE, _ALIVE): (),
    (_ALIVE, _SUSPECT): (_ACCUSE,),
    (_ALIVE, _DEAD): (_BURY,),
    (_ALIVE, _LEFT): (_BURY,),
    (_SUSPECT, _ALIVE): (_ACQUIT,),
    (_SUSPECT, _SUSPECT): (_ACCUSE,),
    (_SUSPECT, _DEAD): (_ACQUIT, _BURY),
    (_SUSPECT, _LEFT): (_ACQUIT, _BURY),
    (_DEAD, _ALIVE): (_ADMIT,),
    (_DEAD, _SUSPECT): (_ADMIT, _ACCUSE),
    (_DEAD, _DEAD): (_BURY,),
    (_DEAD, _LEFT): (_BURY,),
    (_LEFT, _ALIVE): (_ADMIT,),
    (_LEFT, _SUSPECT): (_ADMIT, _ACCUSE),
    (_LEFT, _DEAD): (_BURY,),
    (_LEFT, _LEFT): (_BURY,),
}
"""(state before, state after) -> reactions; None before: a stranger."""
