"""The automaton of a rolling update, whole: the phases, what moves it on, and where to.

:mod:`~inferencegw.policy.rollout` follows it, and the documentation is drawn from it.
"""

import enum
from typing import Final

__all__ = ["ACTIONS", "ENDS", "TRANSITIONS", "RolloutEvent", "RolloutPhase"]


class RolloutPhase(enum.Enum):
    """What a rollout does."""

    CHECK = "check"
    """It looks whether a replica may be taken, and which."""
    CORDON = "cordon"
    """Gateways are asked, by gossip, to send it no new calls."""
    DRAIN = "drain"
    """Its calls finish, or are handed over."""
    RELEASE = "release"
    """It gets calls again: another one was lost, or it is to stop here."""
    STOP = "stop"
    """Its process ends."""
    START = "start"
    """It is started with the wanted version."""
    REJOIN = "rejoin"
    """The gossip has to show that it is back."""
    CANARY = "canary"
    """One generation has to succeed."""
    SHUN = "shun"
    """It has failed its canary: gateways are asked to send it no calls."""
    WARM_UP = "warm_up"
    """Its share of the calls grows."""
    PAUSED = "paused"
    """It has stopped because it was asked to, or its gateway could not go on; who was in hand is brought back."""
    HALTED = "halted"
    """It has stopped because it must not go on."""
    FINISHED = "finished"
    """Every replica serves the wanted version."""


class RolloutEvent(enum.Enum):
    """What moves a rollout on."""

    CLEAR = "clear"
    """A replica is to be updated, and may be."""
    FOUND_GONE = "found_gone"
    """A replica was stopped, or died, in the hands of the rollout that is resumed."""
    FOUND_NEW = "found_new"
    """A replica serves the wanted version, and nobody here has seen that it works."""
    ALL_DONE = "all_done"
    """None is left."""
    PAUSE_ASKED = "pause_asked"
    """It is to stop here."""
    REFUSED = "refused"
    """The others cannot do without it, or are not there; or it has no slot to be tried in."""
    PASSED = "passed"
    """What was to be done is done."""
    FAILED = "failed"
    """It cannot be done, or was not done in time."""
    OTHER_LOST = "other_lost"
    """Another replica is gone, or not to be relied on."""


_S, _E = RolloutPhase, RolloutEvent
TRANSITIONS: Final[dict[tuple[RolloutPhase, RolloutEvent], RolloutPhase]] = {
    (_S.CHECK, _E.CLEAR): _S.CORDON,
    (_S.CHECK, _E.FOUND_GONE): _S.STOP,
    (_S.CHECK, _E.FOUND_NEW): _S.CANARY,
    (_S.CHECK, _E.ALL_DONE): _S.FINISHED,
    (_S.CHECK, _E.PAUSE_ASKED): _S.PAUSED,
    (_S.CHECK, _E.REFUSED): _S.HALTED,
    (_S.CORDON, _E.PASSED): _S.DRAIN,
    (_S.CORDON, _E.PAUSE_ASKED): _S.RELEASE,
    (_S.DRAIN, _E.PASSED): _S.STOP,
    (_S.DRAIN, _E.PAUSE_ASKED): _S.RELEASE,
    (_S.DRAIN, _E.OTHER_LOST): _S.RELEASE,
    (_S.RELEASE, _E.PASSED): _S.CHECK,
    (_S.RELEASE, _E.FAILED): _S.HALTED,
    (_S.STOP, _E.PASSED): _S.START,
    (_S.STOP, _E.FAILED): _S.HALTED,
    (_S.START, _E.PASSED): _S.REJOIN,
    (_S.START, _E.FAILED): _S.HALTED,
    (_S.REJOIN, _E.PASSED): _S.CANARY,
    (_S.REJOIN, _E.FAILED): _S.HALTED,
    (_S.CANARY, _E.PASSED): _S.WARM_UP,
    (_S.CANARY, _E.FAILED): _S.SHUN,
    (_S.CANARY, _E.REFUSED): _S.HALTED,
    (_S.SHUN, _E.PASSED): _S.HALTED,
    (_S.SHUN, _E.FAILED): _S.HALTED,
    (_S.WARM_UP, _E.PASSED): _S.CHECK,
    (_S.WARM_UP, _E.FAILED): _S.HALTED,
}
"""(phase, event) -> the next phase; no other event happens in a phase. Its gateway may give it up, which pauses it."""

ACTIONS: Final = frozenset({_S.CORDON, _S.DRAIN, _S.RELEASE, _S.STOP, _S.START, _S.CANARY, _S.SHUN})
"""The phases in which something is to be done; in the others, but the last ones, something is waited for."""

ENDS: Final = frozenset({_S.PAUSED, _S.HALTED, _S.FINISHED})
"""The phases that nothing leads out of: a rollout that is resumed is another one."""
