"""A rolling update as a decision: which replica is next, what is next with it, and when nothing may be.

The rule: one replica at a time, and none is taken away that is needed. What takes a replica away (CORDON, DRAIN, STOP)
is begun only while every other one is there and, together, they can carry what runs and waits; what brings one back is
never held up. Every wait has an end, and no replica is taken in hand more often than ``tries`` times, so that a rollout
always ends: FINISHED, PAUSED, or HALTED with the reason.

What has been done is not remembered but seen: a replica that serves the wanted version and has passed its canary is
done; one that is cordoned, drained or gone was in somebody's hand. So whoever resumes needs no more than the gossip,
and sees for himself (the canary) what he did not do himself.

The automaton is in :mod:`~inferencegw.policy.rollout_table`, what is seen in :mod:`~inferencegw.policy.rollout_view`.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import attrs

from inferencegw.policy.rollout_table import ACTIONS, ENDS, TRANSITIONS, RolloutEvent, RolloutPhase
from inferencegw.policy.rollout_view import Presence, ReplicaSight, RolloutView

__all__ = ["UNDO", "RolloutLimits", "RolloutPlan"]

ASK_AGAIN: Final = 1.0
"""Seconds until a replica is told again to take calls, or to take none. High: a lost order is mended late. Low: more
orders than the gossip can show the effect of."""

UNDO: Final = "`trio-gw rollout --rollback` gives it its own version back"
"""What helps where a bad version has calls."""


@attrs.frozen(kw_only=True)
class RolloutLimits:
    """How patient a rollout is. Times are seconds.

    Attributes:
        patience: for other replicas to be there, or less busy. High: a rollout hangs. Low: a hiccup halts it.
        rejoin: for a replica to be back after it was started. High: a bad version is noticed late. Low: large models,
            which take their time to load, seem not to come back.
        warm_up: from a passed canary to the next replica. High: slow rollouts. Low: several have cold caches at once.
        tries: how often one replica is taken in hand.
    """

    patience: float = 60.0
    rejoin: float = 10.0
    warm_up: float = 10.0
    tries: int = 3


class RolloutPlan:
    """One rollout.

    Args:
        version: what replicas are to serve.
        limits: how patient it is.
        versions: exceptions: what single replicas are to serve.
        only: the replicas that it is about; all if empty.
        resume: whether replicas that are found shut or gone are its own, and to be seen to first.
        was_in_hand: which one that is, empty for none; None if that is not known.
        pause_after: stop when so many are done; 0 for never.
        now: when it begins.

    Attributes:
        phase: what it does.
        in_hand: with which replica; empty in CHECK and at the end, unless it has HALTED or was given up.
        reason: why it is in its phase, for people.
        waits_for: what it waits for, likewise, where the phase does not say so.
        served: whether the replica in hand carried its part when it was taken. One that did not may have been shunned,
            and is not to have calls again but in another version.
        done: the processes that are done: id -> epoch.
        to_do: whether what its phase asks for is still to be done.
    """

    def __init__(
        self,
        version: str,
        *,
        limits: RolloutLimits,
        versions: Mapping[str, str] | None = None,
        only: Collection[str] = (),
        resume: bool = False,
        was_in_hand: str | None = None,
        pause_after: int = 0,
        now: float = 0.0,
    ) -> None:
        self._version = version
        self._versions = dict(versions or {})
        self._limits = limits
        self._only = frozenset(only)
        self._resume = resume
        self._was_in_hand = was_in_hand
        self._pause_after = pause_after
        self._pause = ""
        self._taken: dict[str, int] = {}
        self._epoch = 0
        self._obeyed = False
        self._ask_again = math.inf
        self._until = now + limits.patience
        self.phase = RolloutPhase.CHECK
        self.in_hand = ""
        self.reason = ""
        self.waits_for = ""
        self.served = False
        self.done: dict[str, int] = {}
        self.to_do = False

    def wanted(self, replica_id: str) -> str:
        """The version that this replica is to serve."""
        return self._versions.get(replica_id, self._version)

    def is_about(self, replica_id: str) -> bool:
        """Whether this replica is to serve it, or is left as it is."""
        return not self._only or replica_id in self._only

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.phase in ENDS

    @property
    def has_begun(self) -> bool:
        """Whether a replica was ever in hand: before that there is nothing to resume."""
        return bool(self._taken)

    def remaining(self, view: RolloutView) -> list[ReplicaSight]:
        """The replicas that are not done, by id; one that has left is nobody's, unless this resumes."""
        return [
            one
            for one in view.replicas.values()
            if self.is_about(one.replica_id)
            and (one.presence is not Presence.LEFT or self._is_ours(one))
            and (one.version != self.wanted(one.replica_id) or self.done.get(one.replica_id) != one.epoch)
        ]

    def next_deadline(self) -> float:
        """When :meth:`handle_view` decides something though nothing has changed; infinity if never."""
        return math.inf if self.is_over or self.to_do else min(self._until, self._ask_again)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def pause(self, why: str) -> None:
        """Stop between two replicas: at once, if none is in hand. One that has not been stopped gets calls again."""
        self._pause = self._pause or why

    def handle_view(self, view: RolloutView, now: float) -> None:
        """So it looks at ``now``: decide what can be decided."""
        match self.phase:
            case RolloutPhase.CHECK:
                self._check(view, now)
            case RolloutPhase.CORDON:
                self._note_process(view)
                self._obey_pause(now)
            case RolloutPhase.DRAIN:
                self._note_process(view)
                if not self._obey_pause(now):
                    self._watch_drain(view, now)
            case RolloutPhase.STOP:
                self._note_process(view)
            case RolloutPhase.RELEASE:
                self._watch_release(view, now)
            case RolloutPhase.SHUN:
                self._watch_shun(view, now)
            case RolloutPhase.REJOIN:
                self._watch_rejoin(view, now)
            case RolloutPhase.WARM_UP:
                self._watch_warm_up(view, now)
            case _:
                pass  # what is to be done is being done

    def handle_passed(self, now: float) -> None:
        """What the phase asks for has been done."""
        assert self.to_do, "there was something to do"
        self.to_do = False
        if self.phase is RolloutPhase.DRAIN:
            self._until = now + self._limits.patience  # whether it may be stopped depends on the others
        elif self.phase is RolloutPhase.RELEASE:
            self._obeyed, self._ask_again = True, now + ASK_AGAIN  # the gossip has to show it
        else:
            self._move(RolloutEvent.PASSED, now, self.reason if self.phase is RolloutPhase.SHUN else "")

    def handle_failed(self, reason: str, now: float) -> None:
        """It could not be done: STOP, START, CANARY; and RELEASE and SHUN, which are done again. Others are wishes."""
        assert self.to_do, "there was something to do"
        if self.phase in {RolloutPhase.RELEASE, RolloutPhase.SHUN}:
            self.to_do, self.waits_for, self._ask_again = False, reason, now + ASK_AGAIN
        else:
            self._move(RolloutEvent.FAILED, now, reason)

    def handle_refused(self, reason: str, now: float) -> None:
        """The canary found no slot, which proves nothing of the version; or the replica is not ours to SHUN."""
        assert self.to_do, "there was something to do"
        if self.phase is RolloutPhase.SHUN:
            self._leave_unshunned(reason, now)
        else:
            self._move(RolloutEvent.REFUSED, now, reason)

    def give_up(self, reason: str) -> None:
        """Whoever drives it cannot go on: it is PAUSED, wherever it was, with the replica in hand for who resumes."""
        self.phase, self.reason, self.waits_for, self.to_do = RolloutPhase.PAUSED, reason, "", False

    # -- decisions ---------------------------------------------------------------------------------------------------

    def _check(self, view: RolloutView, now: float) -> None:
        remaining = self.remaining(view)
        if not remaining and not self._lost(view):
            self._move(RolloutEvent.ALL_DONE, now)
            return
        if not self._pause and 0 < self._pause_after <= len(self.done):
            self._pause = f"{len(self.done)} are done, which was to be the pause"
        if self._pause:
            self._move(RolloutEvent.PAUSE_ASKED, now, self._pause)
            return
        candidate = self._candidate(remaining)
        self.waits_for = self._objection(view, candidate)
        if candidate is not None and self._taken.get(candidate.replica_id, 0) >= self._limits.tries:
            self._move(RolloutEvent.REFUSED, now, f"{candidate.replica_id} was taken in hand too often")
        elif candidate is not None and not self.waits_for:
            self._take(candidate, now)
        elif now >= self._until or (candidate is not None and self._overloads(view, candidate) and not self._taken):
            self._move(RolloutEvent.REFUSED, now, self.waits_for)

    def _lost(self, view: RolloutView) -> bool:
        """Whether one that is done may not be there any more; one that has left is nobody's."""
        done = (view.replicas[name] for name in self.done if name in view.replicas)
        return any(one.presence in {Presence.SUSPECT, Presence.DEAD} for one in done)

    def _candidate(self, remaining: Iterable[ReplicaSight]) -> ReplicaSight | None:
        """Whom to take, by id: those first that were left out by the rollout that this one resumes."""
        ours = (one for one in remaining if not one.serves and self._is_ours(one))
        serving = (one for one in remaining if one.serves)
        return next(ours, None) or next(serving, None)

    def _is_ours(self, one: ReplicaSight) -> bool:
        return self._resume and one.presence is not Presence.SUSPECT and self._was_in_hand in {None, one.replica_id}

    def _objection(self, view: RolloutView, candidate: ReplicaSight | None) -> str:
        """Why ``candidate`` may not be taken, or nobody can be; empty if it may."""
        missing = _missing(view, "" if candidate is None else candidate.replica_id)
        if missing or candidate is None:
            return missing
        short, words = view.shortfall(candidate)
        return f"{words}: {short} too few" if self._overloads(view, candidate) else ""

    def _overloads(self, view: RolloutView, candidate: ReplicaSight) -> bool:
        """Whether taking it away would be too much for the others; what carries nothing can always be taken."""
        needed = candidate.serves and candidate.version != self.wanted(candidate.replica_id)
        return needed and view.shortfall(candidate)[0] > 0

    def _take(self, candidate: ReplicaSight, now: float) -> None:
        self.in_hand, self._epoch, self.served = candidate.replica_id, candidate.epoch, candidate.serves
        self._taken[candidate.replica_id] = self._taken.get(candidate.replica_id, 0) + 1
        version = f"{candidate.version or 'no version'} -> {self.wanted(candidate.replica_id)}"
        if candidate.presence.is_gone:
            self._move(RolloutEvent.FOUND_GONE, now, f"{version}; it was found {candidate.presence.value}")
        elif candidate.serves and candidate.version == self.wanted(candidate.replica_id):
            self._move(RolloutEvent.FOUND_NEW, now, f"it serves {candidate.version} already")
        else:
            self._move(RolloutEvent.CLEAR, now, version)

    def _note_process(self, view: RolloutView) -> None:
        """Whoever has this name before it is started is not the one that has to come back."""
        one = view.replicas.get(self.in_hand)
        if one is not None:
            self._epoch = max(self._epoch, one.epoch)

    def _obey_pause(self, now: float) -> bool:
        """Whether the replica in hand is let go at once, for it is still as it was."""
        asked = bool(self._pause) and self.served
        if asked:
            self._move(RolloutEvent.PAUSE_ASKED, now, self._pause)
        return asked

    def _watch_release(self, view: RolloutView, now: float) -> None:
        """It is seen to: one that stayed shut would be nobody's."""
        one = view.replicas.get(self.in_hand)
        if one is None or one.presence.is_gone or (self._obeyed and not one.shut):
            self._move(RolloutEvent.PASSED, now)
        elif now >= self._until:
            why = self.waits_for or "it has been asked to take calls again"
            self._move(RolloutEvent.FAILED, now, f"{why}, and is shut after {self._limits.patience:g} s")
        elif now >= self._ask_again:
            self.to_do, self._ask_again = True, math.inf

    def _watch_shun(self, view: RolloutView, now: float) -> None:
        """It is told until it has heard: a bad version would keep its calls. Why it is shunned stays the reason."""
        one = view.replicas.get(self.in_hand)
        if one is None or one.presence.is_gone or one.shut:
            self._move(RolloutEvent.PASSED, now, self.reason)
        elif now >= self._until:
            self._leave_unshunned(self.waits_for, now)
        elif now >= self._ask_again:
            self.to_do, self._ask_again = True, math.inf

    def _leave_unshunned(self, why: str, now: float) -> None:
        """A bad version has calls: that is the operator's to end, and he is told how."""
        self._move(RolloutEvent.FAILED, now, f"{self.reason}; and it takes calls still, for {why}: {UNDO}")

    def _watch_drain(self, view: RolloutView, now: float) -> None:
        """Drained, it is stopped; but not while it may be needed: what carried nothing is not."""
        others = [one for one in view.replicas.values() if self.served and one.replica_id != self.in_hand]
        lost = next((one.trouble for one in others if one.presence is Presence.DEAD), "")
        self.waits_for = _missing(view, self.in_hand) if self.served and not self.to_do else ""
        if lost or (self.waits_for and now >= self._until):
            self._move(RolloutEvent.OTHER_LOST, now, lost or self.waits_for)
        elif not self.to_do and not self.waits_for:
            self._move(RolloutEvent.PASSED, now)

    def _watch_rejoin(self, view: RolloutView, now: float) -> None:
        one, wanted = view.replicas.get(self.in_hand), self.wanted(self.in_hand)
        came = one is not None and one.epoch > self._epoch and one.presence is Presence.ALIVE
        if came and one is not None and one.version != wanted:
            self._move(RolloutEvent.FAILED, now, f"it came back as {one.version or 'no version'}, not as {wanted}")
        elif came and one is not None and one.connected:
            self._epoch = one.epoch
            self._move(RolloutEvent.PASSED, now)
        elif now >= self._until:
            what = "there is no connection to it" if came else "it is not back in the gossip"
            self._move(RolloutEvent.FAILED, now, f"{what} after {self._limits.rejoin:g} s")

    def _watch_warm_up(self, view: RolloutView, now: float) -> None:
        one = view.replicas.get(self.in_hand)
        if one is None or one.presence.is_gone or one.epoch != self._epoch:
            self._move(RolloutEvent.FAILED, now, "it was lost when it had just come back")
        elif now >= self._until:
            self.done[self.in_hand] = self._epoch
            self._move(RolloutEvent.PASSED, now)

    def _move(self, event: RolloutEvent, now: float, reason: str = "") -> None:
        limits = self._limits
        self.phase = TRANSITIONS[self.phase, event]
        self.reason, self.waits_for = reason, ""
        self._obeyed, self._ask_again = False, math.inf
        self.to_do = self.phase in ACTIONS
        waits = {RolloutPhase.REJOIN: limits.rejoin, RolloutPhase.WARM_UP: limits.warm_up}
        self._until = now + waits.get(self.phase, limits.patience)
        if self.phase is RolloutPhase.CHECK or self.phase in {RolloutPhase.PAUSED, RolloutPhase.FINISHED}:
            self.in_hand = ""


def _missing(view: RolloutView, but: str) -> str:
    """Which replicas do not carry their part, and why, ``but`` that one; one that has left has none."""
    others = (one for one in view.replicas.values() if one.replica_id != but and one.presence is not Presence.LEFT)
    return ", ".join(one.trouble for one in others if not one.serves)
