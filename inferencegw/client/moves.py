"""Whether a call whose try has ended is made again, where, and when. Pure: errors in, pauses out.

The rule: what has brought no token may be made again where nothing is then done twice that a caller could see; and with
several gateways what has brought tokens goes on elsewhere, at its index. A new token is what earns more tries: they are
counted in a row, from the last token on.

==================================================  =======================  ==========================================
a try ended                                         with one gateway         with several
==================================================  =======================  ==========================================
and no handler has seen it                          once more                as if the connection had been lost
as the connection was lost, or none could be made   the caller's to know     at another; if all were tried, again, after
                                                                             growing pauses, ``TRIES`` in a row
refused, with a pause (``grpc-retry-pushback-ms``)  after it, ``RETRIES``    likewise, and at another
                                                    times
UNAVAILABLE, without one                            the caller's to know     at one that was not tried in this row
otherwise                                           the caller's to know     the caller's to know
==================================================  =======================  ==========================================

UNAVAILABLE with a pause of -1 says that the call must not be made as it stands; with the tokens that this try brought
it is another one. So that a sick cluster is not asked for one token more for ever, ``FAILURES`` such ends are enough.
"""

import math
import random
from collections.abc import Iterator
from typing import Final

from inferencegw.errors import ConnectionLost, RpcError, StatusCode
from inferencegw.policy.backoff import backoff

__all__ = ["FAILURES", "LONGEST_PAUSE", "RETRIES", "TRIES", "MovePlan"]

RETRIES: Final = 3
"""Refusals after which a call is made again. High: a gateway that is overloaded stays so. Low: bursts fail calls."""

LONGEST_PAUSE: Final = 5.0
"""Seconds; if the gateway asks for more, its refusal is the caller's to know. High: callers wait without knowing why.
Low: bursts fail calls."""

TRIES: Final = 10
"""Tries in a row that end with their connections. High: callers wait for gateways that are gone. Low: a restart of all
of them fails calls."""

FIRST_PAUSE: Final = 0.05
"""Seconds before a gateway is tried again that was lost in the same row. High: calls are late. Low: useless tries."""

LAST_PAUSE: Final = 1.0
"""What it grows to, in seconds. Likewise."""

FAILURES: Final = 8
"""UNAVAILABLE ends of one call, whatever they brought. High: a sick cluster is asked again. Low: long calls fail."""


class MovePlan:
    """The tries of one call at ``gateways`` gateways; ``rng`` draws jitter.

    Attributes:
        avoided: the gateways that failed it in this row, by number.
    """

    def __init__(self, gateways: int, rng: random.Random) -> None:
        self._gateways = gateways
        self._rng = rng
        self._may_resend = True
        self._failures = 0
        self.avoided: set[int] = set()
        self._begin_row()

    def _begin_row(self) -> None:
        self.avoided.clear()
        self._tries = 0
        self._retries = RETRIES
        self._pauses: Iterator[float] = backoff(self._rng, initial=FIRST_PAUSE, maximum=LAST_PAUSE)

    def handle_token(self) -> None:
        """A try has brought one."""
        if self._gateways > 1:
            self._begin_row()
        else:
            self._may_resend, self._retries = False, 0

    def handle_unreachable(self) -> float | None:
        """None of them could be connected to; as :meth:`handle_end`."""
        self.avoided.clear()
        return self._count_try() if self._gateways > 1 else None

    def handle_end(self, gateway: int, error: RpcError, *, brought: bool) -> float | None:
        """A try at ``gateway`` has ended with ``error``; seconds until the next, None if there is none.

        Args:
            gateway: which one, from 0.
            error: how.
            brought: whether it has brought a token.
        """
        lost = error.code is StatusCode.UNAVAILABLE and (isinstance(error, ConnectionLost) or not error.maybe_processed)
        if self._gateways == 1:
            return self._resend(error, unseen=lost and not error.maybe_processed)
        self.avoided.add(gateway)
        all_tried = len(self.avoided) == self._gateways
        if lost:
            if all_tried:
                self.avoided = {gateway}
                return self._count_try()
            self._tries += 1
            return 0.0
        if error.code is StatusCode.UNAVAILABLE:
            self._failures += 1
        pause = pushback(error)
        if pause is not None and not (brought and pause == math.inf):
            self.avoided = {gateway}
            return self._heed(pause)
        may_move = error.code is StatusCode.UNAVAILABLE and not all_tried and self._failures < FAILURES
        return 0.0 if may_move else None

    def _resend(self, error: RpcError, *, unseen: bool) -> float | None:
        if self._may_resend and unseen:
            self._may_resend = False
            return 0.0
        pause = pushback(error)
        return None if pause is None else self._heed(pause)

    def _heed(self, pause: float) -> float | None:
        if not self._retries or pause > LONGEST_PAUSE:
            return None
        self._retries -= 1
        return pause

    def _count_try(self) -> float | None:
        self._tries += 1
        return next(self._pauses) if self._tries < TRIES else None


def pushback(error: RpcError) -> float | None:
    """Seconds after which the gateway wants the call again; infinity: it does not. None: it does not say."""
    told = error.metadata_value("grpc-retry-pushback-ms")
    if error.code not in {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED} or not isinstance(told, str):
        return None
    return int(told) / 1000 if told.isdecimal() and len(told) < 9 else math.inf
