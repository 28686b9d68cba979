"""What the outside may order of a running replica (drain, undrain, misbehave), and how those it concerns hear of it.

The rule: handlers wait on a *state*: the engine's plan and the time at which its slots are handed over. An order
changes the state and wakes every handler, which looks and acts, or sleeps on. So an order needs no list of handlers,
none can miss it, and a drain whose caller goes away still ends in time.
"""

import math
from typing import Protocol

import trio

from inferencegw.errors import RpcError, StatusCode
from inferencegw.replica.engine import SimulatedEngine
from inferencegw.replica.faults import FaultPlan
from inferencegw.replica.slots import Slot

__all__ = ["ReplicaControl"]


class Announce(Protocol):
    """Tells the world that the replica wants no new calls, or takes none, or no longer so."""

    def __call__(self, *, cordoned: bool, draining: bool) -> None: ...


class ReplicaControl:
    """The orders that one replica is under.

    Args:
        engine: what they are about.
        announce: called at every order to cordon, drain or undrain.
    """

    def __init__(self, engine: SimulatedEngine, announce: Announce) -> None:
        self.engine = engine
        self._announce = announce
        self._ordered = trio.lowlevel.ParkingLot()
        self._idle = trio.lowlevel.ParkingLot()
        self._leaving = False
        self._cordoned = False

    def cordon(self) -> None:
        """Want no new calls from now on; those that come are taken all the same."""
        self._cordoned = True
        self._announce(cordoned=True, draining=self.engine.slots.draining)

    def drain(self, handover_at: float, *, for_good: bool = False) -> None:
        """Admit nobody from now on, and hand over at ``handover_at`` what still runs; ``for_good``: until the end."""
        self._leaving = self._leaving or for_good
        self._cordoned = self._cordoned or for_good
        self._set_handover_at(handover_at)

    def undrain(self) -> None:
        """Admit again, and want to; RpcError FAILED_PRECONDITION where the process is about to end."""
        if self._leaving:
            raise RpcError(StatusCode.FAILED_PRECONDITION, "the replica is shutting down")
        self._cordoned = False
        self._set_handover_at(math.inf)

    def set_plan(self, plan: FaultPlan, *, restart: bool) -> None:
        """Let ``plan`` act on every call and every token from now on."""
        self.engine.set_plan(plan, restart=restart)
        self._ordered.unpark_all()

    def release(self, slot: Slot) -> None:
        """Give ``slot`` back, without a checkpoint."""
        slot.release()
        if self.engine.slots.active == 0:
            self._idle.unpark_all()

    async def nap_until(self, deadline: float) -> None:
        """Return at ``deadline``, or when there are new orders, or for no reason: look again."""
        with trio.move_on_at(deadline):
            await self._ordered.park()

    async def wait_idle(self) -> None:
        """Return when no slot is taken."""
        await trio.lowlevel.checkpoint()
        while self.engine.slots.active:
            await self._idle.park()

    def _set_handover_at(self, handover_at: float) -> None:
        slots = self.engine.slots
        slots.handover_at = handover_at
        self._announce(cordoned=self._cordoned, draining=slots.draining)
        self._ordered.unpark_all()
