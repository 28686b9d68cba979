"""A state machine that does what a test says, for the shell's own tests: inputs are noted, effects are handed out."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from inferencegw.swim.config import SwimConfig
from inferencegw.swim.effects import Effect, MemberChanged
from inferencegw.swim.keyring import Keyring
from inferencegw.swim.member import Address, Load, MemberId, MemberState, Meta, Record, Status

__all__ = ["ScriptedCore", "record"]

EPOCH = 1_800_000_000_000


def record(member_id: MemberId, state: MemberState = MemberState.ALIVE, *, epoch: int = EPOCH, **meta: Any) -> Record:
    """A record with metadata."""
    return Record(member_id, Status(epoch, 0, state), Meta(epoch=epoch, **meta))


class ScriptedCore:
    """Has the face of SwimProtocol.

    Attributes:
        inputs: what it was given, as (name, time, arguments).
        answers: the effects of the next inputs of each name, first come first served; none where there is nothing.
        deadline: what :meth:`next_deadline` says; a timeout takes it away.
    """

    def __init__(
        self,
        member_id: MemberId,
        address: Address,
        meta: Meta,
        config: SwimConfig,
        *,
        rng: random.Random,
        now: float,
        wall_at_zero: float,
        label: str = "",
        keyring: Keyring | None = None,
        nonce: Callable[[], bytes] | None = None,
    ) -> None:
        self.own = member_id
        self.made = {"address": address, "now": now, "wall_at_zero": wall_at_zero, "label": label, "keyring": keyring}
        self.inputs: list[tuple[str, float, Any]] = []
        self.answers: dict[str, list[list[Effect]]] = {}
        self.deadline = math.inf
        self.walls: list[float] = []
        self.heard: set[MemberId] = set()
        self.rtts: dict[MemberId, float] = {}
        self._members: dict[MemberId, Record] = {
            member_id: Record(member_id, Status(EPOCH, 0, MemberState.ALIVE), meta)
        }

    @property
    def members(self) -> Mapping[MemberId, Record]:
        return self._members

    @property
    def epoch(self) -> int:
        return EPOCH

    def heard_from(self, member_id: MemberId) -> bool:
        return member_id in self.heard

    def rtt(self, member_id: MemberId) -> float | None:
        return self.rtts.get(member_id)

    def statistics(self) -> dict[str, int]:
        return {"inputs": len(self.inputs)}

    def next_deadline(self) -> float:
        return self.deadline

    def handle_datagram_untrusted(self, data: bytes, source: Address, now: float) -> list[Effect]:
        return self._input("datagram", now, (data, source))

    def handle_timeout(self, now: float) -> list[Effect]:
        self.deadline = math.inf
        return self._input("timeout", now, None)

    def join(self, seeds: Sequence[Address], now: float) -> list[Effect]:
        return self._input("join", now, list(seeds))

    def leave(self, now: float) -> list[Effect]:
        return self._input("leave", now, None)

    def set_meta(self, meta: Meta, now: float) -> list[Effect]:
        return self._input("set_meta", now, meta)

    def set_load(self, active: int, now: float) -> list[Effect]:
        return self._input("set_load", now, active)

    def set_wall(self, offset: float) -> None:
        self.walls.append(offset)

    # -- what a test does --------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The inputs so far, by name."""
        return [name for name, _, _ in self.inputs]

    def given(self, name: str) -> list[Any]:
        """What the inputs of one name were given."""
        return [argument for one, _, argument in self.inputs if one == name]

    def answer(self, name: str, *effects: Effect) -> None:
        """The next input of this name has these effects."""
        self.answers.setdefault(name, []).append(list(effects))

    def hold(self, news: Record) -> MemberChanged:
        """Hold ``news`` from now on; the effect that says so."""
        before = self._members.get(news.member_id)
        self._members[news.member_id] = news
        return MemberChanged(news.member_id, before, news)

    def forget(self, member_id: MemberId) -> None:
        """Hold nothing of a member any more."""
        del self._members[member_id]

    def load(self, member_id: MemberId, active: int) -> MemberChanged:
        """Hold another load of a member; the effect that says so."""
        before = self._members[member_id]
        return self.hold(attrs.evolve(before, load=Load(EPOCH, 1, active)))

    def _input(self, name: str, now: float, argument: Any) -> list[Effect]:
        self.inputs.append((name, now, argument))
        queued = self.answers.get(name)
        return queued.pop(0) if queued else []
