# ruff: noqa: T201 - run as a program, it prints
"""The seed campaign: a cluster, a while of every fault there is, then calm; checkers look on throughout.

``python -m tests.swim.campaign --seed 17 --trace`` replays one seed and tells what happened;
``python -m tests.swim.campaign --start 64 --seeds 1000`` runs a volume, and says now and then where to resume it.
"""

import argparse
import math
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import attrs

from inferencegw.swim.config import FAST, GATEWAY, SwimConfig
from inferencegw.swim.effects import Effect, MemberChanged, PacketDropped, Pruned

from .checkers import assert_converged, disagreement, watch
from .vandal import Vandal
from .world import META, Cause, Node, NodeState, Trace, World

__all__ = ["FAULTS", "Outcome", "calm", "converge", "replay_line", "run"]

JOINING: Final = 2.0
"""Seconds in which the first members start."""

FEWEST: Final = 3
MOST: Final = 16
"""Members."""

SEEDS: Final = 2
"""Members whose addresses everybody knows; they run when calm returns, or nobody could find back."""

KEY: Final = bytes(range(32))

LARGE: Final = attrs.evolve(META, model="m" * 64, model_version="v" * 64)
"""Metadata of which one piece or two fit into a small packet."""

BUFFER: Final = 64
"""Datagrams that wait for a frozen member: few, so that some overflow."""

PROGRESS: Final = 50
"""Seeds of a volume between two lines that say how far it is."""

FAULTS: Final = (
    "weather",
    "cut",
    "partition",
    "repair",
    "crash",
    "restart",
    "move",
    "leave",
    "freeze",
    "set_meta",
    "set_load",
    "step_clock",
)
"""What may strike, each as likely as the others; repair and two changes of what members say count too."""


@attrs.frozen
class Outcome:
    """What a seed did, for the assertion that the faults really happened.

    Attributes:
        counts: how often each fault struck, and what the cluster made of it.
        inputs: datagrams and timeouts.
        calm_needed: seconds from the last fault until everybody agreed.
        digest: the trace's.
    """

    counts: "Counter[str]"
    inputs: int
    calm_needed: float
    digest: str


class Tally:
    """A watcher that counts what the cluster made of the faults."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        """Count transitions by the state they led to, and drops by their reason."""
        for effect in effects:
            if isinstance(effect, MemberChanged):
                before, after = effect.before, effect.after
                if before is None or before.status.state is not after.status.state:
                    was = before.status.state.name if before else "unknown"
                    self.counts[f"{was} -> {after.status.state.name}"] += 1
                if effect.member_id == node.name and before:
                    self.counts["own epoch rose"] += after.status.epoch > before.status.epoch
                    self.counts["own incarnation rose"] += after.status.incarnation > before.status.incarnation
            elif isinstance(effect, PacketDropped):
                self.counts[f"dropped: {effect.reason.name}"] += 1
            elif isinstance(effect, Pruned):
                self.counts["pruned"] += 1


class Mischief:
    """Strikes a cluster at random moments; every draw is from ``rng``, and what cannot strike now is not drawn."""

    def __init__(self, world: World, rng: random.Random, say: Callable[[str], None]) -> None:
        self._world = world
        self._rng = rng
        self._say = say
        self.counts: Counter[str] = Counter()

    def strike(self) -> None:
        """One fault, if the one that was drawn is possible now."""
        name = self._rng.choice(FAULTS)
        what = getattr(self, f"_{name}")()
        if what is not None:
            self.counts[name] += 1
            self._say(f"{self._world.now:.3f} {name}: {what}")

    def _one(self, state: NodeState, spare: int = 0) -> Node | None:
        """A host in ``state`` where there are more than ``spare`` of them; not one that says goodbye just now."""
        nodes = [node for node in self._world.nodes.values() if node.state is state]
        nodes = [node for node in nodes if state is NodeState.DOWN or not node.left]
        return self._rng.choice(nodes) if len(nodes) > spare else None

    def _weather(self) -> str:
        links, rng = self._world.links, self._rng
        links.loss = rng.choice([0.0, 0.05, 0.1, 0.3])
        links.duplication = rng.choice([0.0, 0.1, 0.3])
        links.latency, links.jitter = rng.choice([(0.0002, 0.0003), (0.002, 0.02), (0.01, 0.1)])
        return f"loss {links.loss}, duplication {links.duplication}, jitter {links.jitter}"

    def _cut(self) -> str:
        one, other = self._rng.sample(sorted(self._world.nodes), 2)
        self._world.links.cut(one, other)
        return f"{one} -> {other}"

    def _partition(self) -> str:
        names = sorted(self._world.nodes)
        self._rng.shuffle(names)
        where = self._rng.randint(1, len(names) - 1)
        self._world.links.partition([names[:where], names[where:]])
        return f"{names[:where]} | {names[where:]}"

    def _repair(self) -> str:
        self._world.links.repair()
        return "everything"

    def _crash(self) -> str | None:
        node = self._one(NodeState.RUNNING, spare=1)
        if node is None:
            return None
        self._world.crash(node.name)
        return node.name

    def _restart(self) -> str | None:
        node = self._one(NodeState.DOWN)
        if node is None:
            return None
        # Clocks may be behind: the new epoch would lose against the old one.
        wall_offset = self._rng.choice([node.wall_offset, node.wall_offset, node.wall_offset - 3600.0])
        self._world.restart(node.name, wall_offset=wall_offset)
        return f"{node}, wall clock {wall_offset:+.0f} s"

    def _move(self) -> str | None:
        node = self._one(NodeState.DOWN)
        if node is None or node.address in node.seeds:
            return None
        self._world.restart(node.name, address=self._world.new_address())
        return f"{node} to {node.address[0]}"

    def _leave(self) -> str | None:
        node = self._one(NodeState.RUNNING, spare=2)
        if node is None:
            return None
        self._world.leave(node.name)
        return node.name

    def _freeze(self) -> str | None:
        node = self._one(NodeState.RUNNING, spare=1)
        if node is None:
            return None
        self._world.freeze(node.name)
        seconds = self._rng.choice([0.1, 1.0, 5.0, 20.0]) * node.config.probe_interval
        self._world.at(self._world.now + seconds, lambda: self._world.thaw(node.name))
        return f"{node} for {seconds:.2f} s"

    def _set_meta(self) -> str | None:
        node = self._one(NodeState.RUNNING)
        if node is None:
            return None
        weight = float(self._rng.randint(1, 1000))
        self._world.set_meta(node.name, weight=weight)
        return f"{node} weighs {weight}"

    def _set_load(self) -> str | None:
        node = self._one(NodeState.RUNNING)
        if node is None:
            return None
        active = self._rng.randint(0, 100)
        self._world.command(node.name, lambda core, now: core.set_load(active, now))
        return f"{node} does {active}"

    def _step_clock(self) -> str | None:
        node = self._one(NodeState.RUNNING)
        if node is None:
            return None
        # Far behind, everybody else seems to live in the future; far ahead is worse, and only a restart helps.
        seconds = self._rng.choice([-90_000.0, -1.0, 1.0, 1800.0])
        self._world.step_wall_clock(node.name, seconds)
        return f"{node} {seconds:+.0f} s"


def calm(world: World) -> None:
    """The network is good, clocks are right, nobody is frozen, the seeds are there. Others that are down stay so."""
    world.links.calm()
    for node in list(world.nodes.values()):
        world.step_wall_clock(node.name, -node.wall_offset)
        if node.state is NodeState.FROZEN:
            world.thaw(node.name)
        if node.left and node.state is not NodeState.DOWN:
            world.crash(node.name)  # its goodbye has been said
        if node.address in node.seeds and node.state is NodeState.DOWN:
            world.restart(node.name)


def converge(world: World) -> float:
    """Run until everybody agrees, and a while longer: nothing may happen any more. How long it took."""
    began = world.now
    bound = calm_bound(world.config, len(world.nodes))
    while disagreement(world) is not None and world.now - began < bound:
        world.run_for(world.config.probe_interval)
    assert_converged(world)
    needed = world.now - began
    world.run_for(longest_suspicion(world.config, len(world.nodes)))
    assert_converged(world)
    return needed


def run(seed: int, say: Callable[[str], None] = lambda line: None) -> Outcome:
    """Play one seed. What it raises, CheckFailed as a rule, has a note with the line that replays it."""
    rng = random.Random(seed)
    sealed, tight = rng.random() < 0.25, rng.random() < 0.25
    vandalised = rng.random() < 0.25
    config = GATEWAY if rng.random() < 0.25 else FAST
    world = World(
        seed,
        config=attrs.evolve(config, max_packet_bytes=1024) if tight else config,
        key=KEY if sealed else None,
        meta=LARGE if tight else META,
        scattered_clocks=True,
        socket_buffer=BUFFER,
    )
    if vandalised:
        # It remembers less than a tombstone does: nobody can know a copy that is older than all memory.
        Vandal(world, rate=100.0, memory=64)
    try:
        outcome = _play(world, MOST if tight else world.rng.randint(FEWEST, MOST), say)
    except Exception as failure:  # a core that raises has broken a promise too
        failure.add_note(replay_line(seed))
        raise
    outcome.counts.update(sealed=sealed, tight=tight, vandalised=vandalised)
    return outcome


def replay_line(seed: int) -> str:
    """What to type to see a seed again."""
    return f"replay: python -m tests.swim.campaign --seed {seed} --trace"


def _play(world: World, members: int, say: Callable[[str], None]) -> Outcome:
    rng = world.rng
    trace, tally = Trace(world), Tally()
    watch(world)
    world.watchers += [trace, tally]
    world.links.watch_order = True
    mischief = Mischief(world, rng, say)
    # The seeds' addresses are known before they run, as a headless service's names are.
    addresses = [world.new_address() for _ in range(SEEDS)]
    say(f"{members} members, probing every {world.config.probe_interval} s")
    for number in range(members):
        address = addresses[number] if number < SEEDS else world.new_address()
        start = partial(world.start, f"n{number}", address=address, seeds=addresses)
        world.at(rng.uniform(0.0, JOINING), start)
    world.run(JOINING)
    # Longer than a suspicion lasts, so that members die.
    until = world.now + rng.uniform(1.0, 3.0) * longest_suspicion(world.config, members)
    while world.now < until:
        mischief.strike()
        world.run_for(rng.expovariate(1 / (2 * world.config.probe_interval)))
    calm(world)
    say(f"{world.now:.3f} calm")
    calm_needed = converge(world)
    say(f"{world.now:.3f} everybody agrees, and has since {calm_needed:.3f} s of calm")
    counts = mischief.counts + tally.counts + world.links.counts
    return Outcome(counts, world.inputs, calm_needed, trace.digest())


def longest_suspicion(config: SwimConfig, members: int) -> float:
    """susp_max of the design: a lonely suspicion lasts so long."""
    return config.suspicion_beta * config.suspicion_alpha * max(1.0, math.log10(members)) * config.probe_interval


def calm_bound(config: SwimConfig, members: int) -> float:
    """Seconds in which everybody has to agree again.

    A dead member has to be probed by somebody whose local health is bad (9 x the interval, each 2n - 1 periods), a
    lonely suspicion has to run out, and whoever was cut off is contacted every heal interval, in the worst case last.
    """
    probing = 9 * (2 * members - 1) * config.probe_interval
    return probing + longest_suspicion(config, members) + members * config.heal_interval + 2 * config.sync_interval


def main() -> int:
    """Play seeds; 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.swim.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=64, help="how many")
    parser.add_argument("--trace", action="store_true", help="tell what happens")
    options = parser.parse_args()
    seeds = range(options.start, options.start + options.seeds) if options.seed is None else [options.seed]
    failed = 0
    totals: Counter[str] = Counter()
    slowest = 0.0
    for played, seed in enumerate(seeds, 1):
        try:
            outcome = run(seed, print if options.trace else lambda line: None)
        except Exception:  # noqa: BLE001 - the next seed may fail in another way
            failed += 1
            traceback.print_exc()
        else:
            totals += outcome.counts
            slowest = max(slowest, outcome.calm_needed)
        if played % PROGRESS == 0 and played < len(seeds):
            rest = f"--start {seed + 1} --seeds {len(seeds) - played}"
            print(f"{played} seeds, {failed} failed; to resume: {rest}", file=sys.stderr, flush=True)
    for name, count in sorted(totals.items()):
        print(f"{count:10,}  {name}")
    print(f"{len(seeds)} seeds, {failed} failed; at most {slowest:.1f} s of calm were needed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
