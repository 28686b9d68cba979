"""What is the matter with a replica: gossip and data, taken together.

The rule: two witnesses, who see different things. Gossip sees processes, by small packets from many sides; data sees
work, by the connection and how attempts ended. Where they disagree, that is the news:

===========  ===================  ==========================  =======================================================
verdict      gossip says          data says                   so
===========  ===================  ==========================  =======================================================
HEALTHY      alive                it works                    send it calls
GRAY         alive                not connected, or the       go around it; it cannot know that it is broken
                                  breaker is not closed
PARTITIONED  suspect, dead, left  connected                   no new calls while others can take them; keep its
                                                              streams: a connection that delivers proves more
DEAD         suspect, dead, left  not connected               gone
===========  ===================  ==========================  =======================================================
"""

import enum

from inferencegw.policy.breaker import BreakerState

__all__ = ["Verdict", "verdict"]


class Verdict(enum.Enum):
    """See the table."""

    HEALTHY = "healthy"
    GRAY = "gray"
    PARTITIONED = "partitioned"
    DEAD = "dead"


def verdict(*, alive: bool, connected: bool, breaker: BreakerState) -> Verdict:
    """The verdict on a replica that gossip holds ``alive`` (ALIVE, cordoned or not, and heard from) or does not."""
    if not alive:
        return Verdict.PARTITIONED if connected else Verdict.DEAD
    works = connected and breaker is BreakerState.CLOSED
    return Verdict.HEALTHY if works else Verdict.GRAY
