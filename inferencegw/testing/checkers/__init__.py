"""What must hold while a cluster runs and when it has ended, whatever is done to it.

The rule: a checker knows what can be seen from outside (calls as their clients saw them, views, public counts) and
keeps its own books. What excuses a bad end or a wrong view is an entry in the cluster's history that touches the hosts
concerned, and nothing else. Each is proved to bite on a planted bug: one that never failed proves nothing.

:data:`CHECKERS` are those that every cluster runs with; give ``open_cluster`` others, or more, as ``checkers=``.
"""

from typing import Final

from inferencegw.testing.checkers.base import Checker, CheckFailed
from inferencegw.testing.checkers.deadlines import DeadlinesHold
from inferencegw.testing.checkers.hedges import FirstTokenWins, LosersStop
from inferencegw.testing.checkers.leases import LeasesConserved
from inferencegw.testing.checkers.liveness import CallsGoOn
from inferencegw.testing.checkers.membership import CrashesAreFound, NewsOnlyGrows, NobodyDiesForNothing, ViewsConverge
from inferencegw.testing.checkers.order import TicketsInOrder
from inferencegw.testing.checkers.quiet import QuietEnd
from inferencegw.testing.checkers.rollouts import OneOutAtATime, ReceiptsAreTrue
from inferencegw.testing.checkers.spending import OwnHedgesArePaid
from inferencegw.testing.checkers.streams import HonestEnds, StreamsArePrefixes

__all__ = ["CHECKERS", "CheckFailed", "Checker"]

CHECKERS: Final[tuple[type[Checker], ...]] = (
    StreamsArePrefixes,
    HonestEnds,
    DeadlinesHold,
    CallsGoOn,
    LeasesConserved,
    TicketsInOrder,
    FirstTokenWins,
    LosersStop,
    OwnHedgesArePaid,
    NewsOnlyGrows,
    NobodyDiesForNothing,
    CrashesAreFound,
    ViewsConverge,
    OneOutAtATime,
    ReceiptsAreTrue,
    QuietEnd,
)
