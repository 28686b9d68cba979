"""Clusters to measure: how they come about, and how one listens to them."""

from collections.abc import Callable, Sequence
from functools import partial

from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.effects import Effect, MemberChanged
from inferencegw.swim.member import MemberId

from .checkers import disagreement
from .world import Cause, Node, World

__all__ = ["Changes", "Listener", "agreed", "names", "settled"]


def names(count: int) -> list[MemberId]:
    """``n0000`` and so on; equally long, so that packets of small and large clusters compare."""
    return [f"n{number:04}" for number in range(count)]


def agreed(world: World, *, within: float) -> float:
    """Run until every running member holds exactly those that run, as they are; the seconds that took."""
    began = world.now
    while (what := disagreement(world)) is not None:
        assert world.now - began < within, f"no agreement after {within} s: {what}"
        world.run_for(0.05)
    return world.now - began


def settled(seed: int, members: int, *, config: SwimConfig = GATEWAY, key: bytes | None = None) -> World:
    """A cluster in which everybody knows everybody and no news is on its way.

    The members join one another through the first, as they would, and then have time to tell each other.
    """
    world = World(seed, config=config, key=key)
    first, *others = names(members)
    seeds = [world.start(first).address]
    for name in others:
        world.at(world.rng.uniform(0.0, 1.0), partial(world.start, name, seeds=seeds))
    world.run_for(1.0)
    agreed(world, within=30.0)
    # As long as news is passed on, and a random phase of everybody's probing.
    world.run_for(10.0 + world.rng.uniform(0.0, config.probe_interval))
    return world


class Listener:
    """A watcher made of a function."""

    def __init__(self, handled: Callable[[Node, Cause, Sequence[Effect]], None]) -> None:
        self.handled = handled


class Changes:
    """A watcher that calls a function for each change of a member's state, newcomers included."""

    def __init__(self, seen: Callable[[Node, Cause, MemberChanged], None]) -> None:
        self._seen = seen

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        """Pass on what is a change of state."""
        for effect in effects:
            if type(effect) is MemberChanged:
                before = effect.before
                if before is None or before.status.state is not effect.after.status.state:
                    self._seen(node, cause, effect)
