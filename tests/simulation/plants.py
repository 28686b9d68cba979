"""Planted bugs: each one breaks the product in one place, as a slip of the hand would.

The rule: a plant changes the product and nothing of the network or the checkers, and what it breaks is a promise that a
client or an operator relies on. ``python -m tests.simulation.mutations`` measures how many seeds it takes to find each.
"""

from collections.abc import Callable
from typing import Any, Final

import pytest
import trio

from inferencegw.gateway import relay
from inferencegw.gateway.slots import Lease, Slots
from inferencegw.membership import Cluster, ClusterView
from inferencegw.policy.outcome import Outcome

__all__ = ["PLANTS", "Plant"]

Plant = Callable[[pytest.MonkeyPatch], None]


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


def leaked_slot(patch: pytest.MonkeyPatch) -> None:
    """A lease is given back where its attempt ends in order, and nowhere else."""
    release = Slots.release

    def forgetful(self: Slots, lease: Lease, outcome: Outcome = Outcome.CLIENT) -> None:
        if outcome is Outcome.SUCCESS:
            release(self, lease, outcome)

    patch.setattr(Slots, "release", forgetful)


PLANTS: Final[dict[str, Plant]] = {
    "a repeated token": repeated_token,
    "a swallowed RST": swallowed_reset,
    "a lost EOF": lost_eof,
    "a falling incarnation": falling_incarnation,
    "a leaked slot": leaked_slot,
}
