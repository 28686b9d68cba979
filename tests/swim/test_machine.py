"""Whatever befalls a few cores in whatever order, every promise holds after each input, and calm brings agreement."""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from inferencegw.swim.config import FAST

from .campaign import calm, converge
from .checkers import watch
from .world import NodeState, World

LONGEST_FREEZE: Final = FAST.tombstone_time / 2
"""Seconds. Who sleeps longer than tombstones last may bring back a leaver for a moment: nobody remembers it by then."""

NAMES: Final = [f"n{number}" for number in range(5)]
names = st.sampled_from(NAMES)


class Cluster(RuleBasedStateMachine):
    """Three to five cores and everything that can befall them; hypothesis picks what, and shrinks what went wrong."""

    @initialize(seed=st.integers(0, 2**32), members=st.integers(3, 5))
    def begin(self, seed: int, members: int) -> None:
        """All start at once and know the first one."""
        self.world = World(seed, config=FAST, scattered_clocks=True)
        watch(self.world)
        self.members = members
        self.seeds = [self.world.new_address()]
        for number, name in enumerate(NAMES[:members]):
            self.world.start(name, seeds=self.seeds, address=self.seeds[0] if number == 0 else None)

    def state(self, name: str) -> NodeState | None:
        """What a host does; None where there is none, or where it is saying goodbye."""
        node = self.world.nodes.get(name)
        return None if node is None or (node.left and node.state is not NodeState.DOWN) else node.state

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        """Whatever is due happens."""
        self.world.run_for(seconds)

    @rule(
        loss=st.sampled_from([0.0, 0.2, 0.8]),
        duplication=st.sampled_from([0.0, 0.5]),
        jitter=st.sampled_from([0.0, 0.2]),
    )
    def weather_changes(self, loss: float, duplication: float, jitter: float) -> None:
        """Packets are lost, doubled and reordered."""
        links = self.world.links
        links.loss, links.duplication, links.jitter = loss, duplication, jitter

    @rule(sender=names, receiver=names)
    def cut(self, sender: str, receiver: str) -> None:
        """One direction fails."""
        self.world.links.cut(sender, receiver)

    @rule(side=st.sets(names, min_size=1, max_size=4))
    def partition(self, side: set[str]) -> None:
        """Some do not reach the others, nor the others them."""
        self.world.links.partition([sorted(side), sorted(set(NAMES) - side)])

    @rule()
    def repair(self) -> None:
        """Everybody reaches everybody."""
        self.world.links.repair()

    @rule(name=names)
    def crash_or_restart(self, name: str) -> None:
        """A process ends without a word; one that had ended starts again where it was."""
        if self.state(name) is NodeState.DOWN:
            self.world.restart(name)
        elif self.state(name) is not None:
            self.world.crash(name)

    @rule(name=st.sampled_from(NAMES[1:]), wall_offset=st.sampled_from([0.0, -3600.0]))
    def move(self, name: str, wall_offset: float) -> None:
        """A process that had ended starts at another address, perhaps with its clock behind."""
        if self.state(name) is NodeState.DOWN:
            self.world.restart(name, address=self.world.new_address(), wall_offset=wall_offset)

    @rule(name=names)
    def leave(self, name: str) -> None:
        """Somebody says goodbye."""
        if self.state(name) is NodeState.RUNNING:
            self.world.leave(name)

    @rule(name=names)
    def freeze_or_thaw(self, name: str) -> None:
        """SIGSTOP or SIGCONT, which comes by itself after a while."""
        if self.state(name) is NodeState.RUNNING:
            self.world.freeze(name)
            self.world.at(self.world.now + LONGEST_FREEZE, lambda: self.world.thaw(name))
        elif self.state(name) is NodeState.FROZEN:
            self.world.thaw(name)

    @rule(name=names, weight=st.integers(1, 1000))
    def set_meta(self, name: str, weight: int) -> None:
        """Somebody says something new of itself."""
        if self.state(name) is NodeState.RUNNING:
            self.world.set_meta(name, weight=float(weight))

    @rule(name=names, active=st.integers(0, 1000))
    def set_load(self, name: str, active: int) -> None:
        """Somebody is busier than before, or less busy."""
        if self.state(name) is NodeState.RUNNING:
            self.world.command(name, lambda core, now: core.set_load(active, now))

    def teardown(self) -> None:
        """Calm: everybody agrees, and with the truth."""
        if not hasattr(self, "world"):
            return
        calm(self.world)
        converge(self.world)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(stateful_step_count=50)
