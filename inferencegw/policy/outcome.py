"""What the end of an attempt proves, and about whom.

The rule: classify first, then count. A status says little by itself: UNAVAILABLE is what a broken replica answers and
what a draining one does. So a replica's refusals carry trailing ``gw-reason``, and what is done about an attempt is
decided by its outcome, never by its status.

=================  ======================================  ==============================================
outcome            means                                   from a replica
=================  ======================================  ==============================================
SUCCESS            it finished                             OK
FAULT              the replica is to blame                 anything that is not in the other rows
NEUTRAL            nobody is: try elsewhere                RESOURCE_EXHAUSTED ``busy``; UNAVAILABLE
                                                           ``draining`` or ``handover``; UNAVAILABLE of a call that
                                                           was certainly never seen (GOAWAY, REFUSED_STREAM)
CLIENT             the caller is: it would go so anywhere  INVALID_ARGUMENT, CANCELLED, DEADLINE_EXCEEDED
=================  ======================================  ==============================================
"""

import enum
from typing import Final

from inferencegw.errors import RpcError, StatusCode

__all__ = ["Outcome", "classify", "is_refusal", "reason_of"]


class Outcome(enum.Enum):
    """Whom the end of an attempt speaks of."""

    SUCCESS = "success"
    FAULT = "fault"
    NEUTRAL = "neutral"
    CLIENT = "client"


_REASONED: Final = {
    (StatusCode.RESOURCE_EXHAUSTED, "busy"): Outcome.NEUTRAL,
    (StatusCode.UNAVAILABLE, "draining"): Outcome.NEUTRAL,
    (StatusCode.UNAVAILABLE, "handover"): Outcome.NEUTRAL,
}
_PLAIN: Final = {
    StatusCode.OK: Outcome.SUCCESS,
    StatusCode.INVALID_ARGUMENT: Outcome.CLIENT,
    StatusCode.CANCELLED: Outcome.CLIENT,
    StatusCode.DEADLINE_EXCEEDED: Outcome.CLIENT,
}


def classify(error: RpcError) -> Outcome:
    """The outcome of an attempt that ended with ``error``, by its status, its ``gw-reason`` and whether it was seen."""
    outcome = _REASONED.get((error.code, reason_of(error))) or _PLAIN.get(error.code, Outcome.FAULT)
    # What was never seen proves nothing: a server that goes away in good order answers so.
    return Outcome.NEUTRAL if outcome is Outcome.FAULT and not error.maybe_processed else outcome


def reason_of(error: RpcError) -> str:
    """The ``gw-reason`` that came with ``error``, or ""."""
    reason = error.metadata_value("gw-reason")
    return reason if isinstance(reason, str) else ""


def is_refusal(error: RpcError) -> bool:
    """Whether no generation was begun, so that asking another replica is no second attempt.

    Either the request was certainly never seen, or the replica said that it has no slot for it or takes no more.
    """
    return classify(error) is Outcome.NEUTRAL and reason_of(error) != "handover"
