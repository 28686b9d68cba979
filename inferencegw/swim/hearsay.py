"""What was said of strangers: suspicions and deaths of members that are not known here.

The rule: bad news about a stranger is not passed on and makes nobody a member, or the dead would circulate for ever.
But it is remembered for a while: if the stranger then turns up at that very incarnation, it must be told, because it
does not know what is said of it, and would be believed ALIVE here and DEAD elsewhere.
"""

from typing import Final

from inferencegw.swim.member import MemberId, Status

__all__ = ["LIMIT", "Hearsay"]

LIMIT: Final = 1024
"""Strangers remembered; the oldest is forgotten first. High: memory. Low: a flood of names flushes what matters."""


class Hearsay:
    """The latest status heard of each stranger, for a while."""

    def __init__(self) -> None:
        self._heard: dict[MemberId, tuple[Status, float]] = {}

    def __len__(self) -> int:
        return len(self._heard)

    def note(self, member_id: MemberId, status: Status, until: float) -> None:
        """Remember ``status`` unless something later is remembered."""
        known = self._heard.pop(member_id, None)
        self._heard[member_id] = known if known is not None and known[0] > status else (status, until)
        if len(self._heard) > LIMIT:
            del self._heard[next(iter(self._heard))]

    def about(self, member_id: MemberId, now: float) -> Status | None:
        """What is remembered of a stranger."""
        known = self._heard.get(member_id)
        if known is None:
            return None
        if known[1] <= now:
            del self._heard[member_id]
            return None
        return known[0]

    def forget(self, member_id: MemberId) -> None:
        """It is not a stranger any more."""
        self._heard.pop(member_id, None)
