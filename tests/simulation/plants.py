"""Planted bugs: each one breaks the product in one place, as a slip of the hand would.

The rule: a plant changes the product and nothing of the network or the checkers, and what it breaks is a promise that a
client or an operator relies on. ``python -m tests.simulation.mutations`` measures how many seeds it takes to find each.
"""

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs
import pytest
import trio

from inferencegw.client.generation import InferCall
from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway import relay, updater
from inferencegw.gateway.attempt import Attempt
from inferencegw.gateway.call import Call
from inferencegw.gateway.race import Race
from inferencegw.gateway.record import CallRecord
from inferencegw.gateway.slots import Lease, Slots
from inferencegw.gateway.tally import Tally, receipt
from inferencegw.membership import Cluster, ClusterView
from inferencegw.policy import admission, rollout
from inferencegw.policy.candidate import Candidate
from inferencegw.policy.outcome import Outcome
from inferencegw.policy.rollout import RolloutPlan
from inferencegw.policy.rollout_table import RolloutPhase
from inferencegw.policy.rollout_view import ReplicaSight, RolloutView
from inferencegw.replica import servicer as replica_servicer
from inferencegw.rpc import ServerCall
from inferencegw.rpc.client_connection import ClientConnection, OutboundCall
from inferencegw.rpc.closed import ClosedBy
from inferencegw.v1.replica_pb2 import GenerateResponse

from .runner import Scale

__all__ = ["PLANTS", "Plant"]

Bug: TypeAlias = Callable[[pytest.MonkeyPatch], None]


@attrs.frozen
class Plant:
    """A bug, and which checkers' promises it breaks: another error than theirs is a plant that is broken itself.

    ``scale`` is of the seeds that find it.
    """

    bug: Bug
    checkers: tuple[str, ...]
    scale: Scale = Scale.SHORT


def repeated_token(patch: pytest.MonkeyPatch) -> None:
    """The relay sends the last token of a batch once more."""
    admit = relay._admit

    def twice(*args: Any) -> Any:
        fresh, fault = admit(*args)
        return [*fresh, *fresh[-1:]], fault

    patch.setattr(relay, "_admit", twice)


def swallowed_reset(patch: pytest.MonkeyPatch) -> None:
    """Whoever reads from a connection that was reset goes on waiting."""
    receive = trio.SocketStream.receive_some

    async def deaf(self: trio.SocketStream, size: int | None = None) -> bytes:
        try:
            return bytes(await receive(self, size))
        except trio.BrokenResourceError:
            await trio.sleep_forever()

    patch.setattr(trio.SocketStream, "receive_some", deaf)


def lost_eof(patch: pytest.MonkeyPatch) -> None:
    """Whoever reads from a connection that was closed goes on waiting."""
    receive = trio.SocketStream.receive_some

    async def deaf(self: trio.SocketStream, size: int | None = None) -> bytes:
        data = bytes(await receive(self, size))
        if not data:
            await trio.sleep_forever()
        return data

    patch.setattr(trio.SocketStream, "receive_some", deaf)


def falling_incarnation(patch: pytest.MonkeyPatch) -> None:
    """One view in ten is the one before the last."""
    publish = Cluster.publish
    published: dict[Cluster, list[ClusterView]] = {}

    def stale(self: Cluster, view: ClusterView) -> None:
        views = published.setdefault(self, [])
        views.append(view)
        publish(self, views[-3] if len(views) % 10 == 0 else view)

    patch.setattr(Cluster, "publish", stale)


def leaked_lease(patch: pytest.MonkeyPatch) -> None:
    """A lease is given back where its attempt ends in order, and nowhere else."""
    release = Slots.release

    def forgetful(self: Slots, lease: Lease, outcome: Outcome = Outcome.CLIENT) -> None:
        if outcome is Outcome.SUCCESS:
            release(self, lease, outcome)

    patch.setattr(Slots, "release", forgetful)


def overtaken_ticket(patch: pytest.MonkeyPatch) -> None:
    """The latest is asked first."""
    in_order = admission._in_order
    patch.setattr(admission, "_in_order", lambda lines: reversed(list(in_order(lines))))


def suppressed_reset(patch: pytest.MonkeyPatch) -> None:
    """A call that a gateway does not want any more is forgotten by it, and its replica is not told."""

    def forget(self: ClientConnection, call: OutboundCall) -> None:
        if not call.closed:
            self._forget(call, ClosedBy.RESET_SENT, RpcError(StatusCode.CANCELLED, "cancelled by the caller"))
            self._settle()

    patch.setattr(ClientConnection, "cancel", forget)


def patient_hedge(patch: pytest.MonkeyPatch) -> None:
    """The winner of a race sends its first token when the loser has ended by itself, or has a token as well."""
    send, races = relay.Relay._send, dict[Attempt, Race]()

    def commit(self: Race, winner: Attempt) -> None:
        self.winner = winner
        self._hedging.cancel()
        races[winner] = self

    async def patient(self: relay.Relay, fresh: list[GenerateResponse], attempt: Attempt) -> None:
        race = races.pop(attempt, None)
        while race is not None and any(one.ended is None for one in race.attempts if one is not attempt):  # noqa: ASYNC110 - a slip
            await trio.sleep(0.01)
        await send(self, fresh, attempt)

    patch.setattr(Race, "commit", commit)
    patch.setattr(relay.Relay, "_send", patient)


def endless_room(patch: pytest.MonkeyPatch) -> None:
    """Every replica has room."""
    patch.setattr(Candidate, "has_room", True)


def dropped_deadline(patch: pytest.MonkeyPatch) -> None:
    """The client does not pass on how long its caller wants to wait."""
    begin = InferCall.__init__

    def patient(self: InferCall, gateways: Any, plan: Any, request: Any, _timeout: float) -> None:
        begin(self, gateways, plan, request, math.inf)

    patch.setattr(InferCall, "__init__", patient)


def missing_account(patch: pytest.MonkeyPatch) -> None:
    """A call that fails does not say how far it got."""
    write = Call.write_trailers

    def curt(self: Call, rpc: ServerCall, error: BaseException | None) -> None:
        write(self, rpc, error)
        if error is not None:
            account = {"gw-delivered", "gw-digest", "gw-next-index"}
            rpc.trailing_metadata[:] = [one for one in rpc.trailing_metadata if one[0] not in account]

    patch.setattr(Call, "write_trailers", curt)


def impatient_rejoin(patch: pytest.MonkeyPatch) -> None:
    """A rollout takes the next replica when the last one was started, and does not wait until it is back."""
    watch = RolloutPlan._watch_rejoin

    def hasty(self: RolloutPlan, view: RolloutView, now: float) -> None:
        watch(self, view, now)
        if self.phase is RolloutPhase.REJOIN:
            self.done[self.in_hand] = self._epoch
            self.phase, self.in_hand = RolloutPhase.CHECK, ""

    patch.setattr(RolloutPlan, "_watch_rejoin", hasty)


def blind_check(patch: pytest.MonkeyPatch) -> None:
    """A rollout does not look whether the other replicas are there before it takes one."""
    patch.setattr(rollout, "_missing", lambda _view, _but: "")


def forgotten_stragglers(patch: pytest.MonkeyPatch) -> None:
    """A rollout calls itself finished when one replica is done."""
    remaining = RolloutPlan.remaining

    def content(self: RolloutPlan, view: RolloutView) -> list[ReplicaSight]:
        return [] if self.done else remaining(self, view)

    patch.setattr(RolloutPlan, "remaining", content)


def handover_dropped(patch: pytest.MonkeyPatch) -> None:
    """A call that was handed over is counted as dropped, too."""
    note = Tally.note_handed_over

    def twice(self: Tally, record: CallRecord) -> None:
        note(self, record)
        self._dropped += 1

    patch.setattr(Tally, "note_handed_over", twice)


def forgotten_marks(patch: pytest.MonkeyPatch) -> None:
    """A receipt begins to count when its rollout ends."""
    patch.setattr(updater, "receipt", lambda before, after, silent, **times: receipt(after, after, silent, **times))


def abandoned_calls(patch: pytest.MonkeyPatch) -> None:
    """A replica that drains hands nothing over: it ends its calls as if it had lost them."""
    patch.setattr(replica_servicer, "_HANDOVER", ())


PLANTS: Final[dict[str, Plant]] = {
    "a repeated token": Plant(repeated_token, ("StreamsArePrefixes", "HonestEnds")),
    "a swallowed RST": Plant(swallowed_reset, ("CallsGoOn",)),
    "a lost EOF": Plant(lost_eof, ("CallsGoOn",)),
    "a falling incarnation": Plant(falling_incarnation, ("NewsOnlyGrows",)),
    "a leaked lease": Plant(leaked_lease, ("LeasesConserved",)),
    "an overtaken ticket": Plant(overtaken_ticket, ("TicketsInOrder",)),
    "a suppressed RST": Plant(suppressed_reset, ("LosersStop",)),
    "a hedge that waits for the loser": Plant(patient_hedge, ("FirstTokenWins",)),
    "a replica that always has room": Plant(endless_room, ("LeasesConserved",)),
    "a deadline that is not passed on": Plant(dropped_deadline, ("DeadlinesHold",)),
    "an end without an account": Plant(missing_account, ("HonestEnds",)),
    "a rollout that waits for nobody to come back": Plant(impatient_rejoin, ("OneOutAtATime",), Scale.ROLLOUT),
    "a rollout that does not look at the others": Plant(blind_check, ("OneOutAtATime",), Scale.ROLLOUT),
    "a rollout that is content with one replica": Plant(forgotten_stragglers, ("OneOutAtATime",), Scale.ROLLOUT),
    "a hand-over that is counted as a drop": Plant(handover_dropped, ("ReceiptsAreTrue",), Scale.ROLLOUT),
    "a receipt that counts from its end": Plant(forgotten_marks, ("ReceiptsAreTrue",), Scale.ROLLOUT),
    "a drain that loses its calls": Plant(abandoned_calls, ("ReceiptsAreTrue", "HonestEnds"), Scale.ROLLOUT),
}
