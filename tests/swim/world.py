"""The simulated world: many unmodified ``SwimProtocol`` objects, one network, one heap of events, virtual time.

The rule: one seed decides everything. What is random (losses, delays, every core's own draws, clocks) comes from
generators that the world's seed made, and events at one instant happen in the order they were scheduled; so the same
seed gives the same trace, byte for byte, and a failing seed is a bug report.

A host does what the shell in ``membership/`` does: it feeds what has arrived, then lets the core look at its timers
when its next deadline has come; one input, all its effects, then the next input. A frozen host (SIGSTOP) keeps what
arrives in a bounded socket buffer and comes back with late timers. Every host has a monotonic clock of its own, which
starts anywhere, and a wall clock that may be wrong.

Watchers see every input with its effects; the checkers (``checkers.py``) and all measurements (``measures.py``) are
watchers. Nothing else is looked at, so a world without watchers is as fast as the cores are.
"""

import enum
import hashlib
import heapq
import math
import random
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import attrs

from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.effects import Effect, Send
from inferencegw.swim.keyring import Keyring
from inferencegw.swim.member import Address, MemberId, MemberRole, Meta
from inferencegw.swim.protocol import SwimProtocol

from .links import Links

__all__ = ["LABEL", "META", "Cause", "CheckFailed", "Node", "NodeState", "Trace", "Watcher", "World"]

WALL: Final = 1_800_000_000.0
"""What a right wall clock shows when the world begins: seconds since 1970."""

LABEL: Final = "sim"
"""Every simulated cluster's."""

RECEIVE_BATCH: Final = 256
"""Datagrams that the shell reads before it looks at its timers."""

SOCKET_BUFFER: Final = 278
"""Datagrams that wait for a frozen process: Linux's default of 212,992 bytes holds so many small ones."""

META: Final = Meta(role=MemberRole.REPLICA, model="m", max_capacity=8)
"""What members say of themselves, besides their addresses."""

ROUNDING: Final = 1e-8
"""Seconds that a deadline may lose on its way between a host's clock and the world's."""

MAX_SPINS: Final = 100
"""Timeouts in one instant at which a core is said to spin."""


class NodeState(enum.Enum):
    """What a host's process does."""

    RUNNING = enum.auto()
    FROZEN = enum.auto()
    DOWN = enum.auto()


class CheckFailed(AssertionError):
    """A promise was broken. The message begins with the name of who found it."""


class Cause(enum.Enum):
    """Which input a core was given."""

    STARTED = enum.auto()
    DATAGRAM = enum.auto()
    TIMEOUT = enum.auto()
    COMMAND = enum.auto()


@attrs.define(eq=False)
class Node:
    """A host: its address, clocks and socket buffer, and the core of the process that runs on it now."""

    name: MemberId
    address: Address
    seeds: tuple[Address, ...]
    clock_offset: float
    wall_offset: float
    config: SwimConfig
    core: SwimProtocol
    state: NodeState = NodeState.RUNNING
    left_at: float = math.inf
    starts: int = 1
    timer: float = math.inf  # world time of the one heap entry that counts
    last_timeout: float = -math.inf
    spins: int = 0
    inbox: "deque[tuple[bytes, Address]]" = attrs.field(factory=deque)

    @property
    def left(self) -> bool:
        """Whether it was told to say goodbye."""
        return self.left_at < math.inf

    def __str__(self) -> str:
        return self.name


class Watcher(Protocol):
    """Somebody who looks on. ``handled`` is called after each input, once all its effects are known."""

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None: ...


Event: TypeAlias = tuple[float, int, Any, Any, Any]
"""When, a tie-breaker, and one of: (host, None, None), a timer; (address, bytes, source), a datagram; and
(None, action, None), a call."""


class World:
    """Hosts and a network in virtual time; see the module's text.

    Attributes:
        now: virtual seconds since the world began.
        nodes: every host by the name of its member, those that are down included.
        links: the network; its faults may be changed at any time.
        inputs: how many datagrams and timeouts the cores were given.
        stopped: set by :meth:`stop`; ends the running ``run``.
    """

    def __init__(
        self,
        seed: int,
        *,
        config: SwimConfig = GATEWAY,
        key: bytes | None = None,
        meta: Meta = META,
        scattered_clocks: bool = False,
        socket_buffer: int = SOCKET_BUFFER,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.config = config
        self.links = Links(random.Random(self.rng.getrandbits(64)))
        self.now = 0.0
        self.nodes: dict[MemberId, Node] = {}
        self.watchers: list[Watcher] = []
        self.inputs = 0
        self.stopped = False
        self._key = key
        self._meta = meta
        self._socket_buffer = socket_buffer
        self._scattered_clocks = scattered_clocks
        self._at: dict[Address, Node] = {}
        self._heap: list[Event] = []
        self._pushed = 0
        self._addresses = 0

    # -- verbs -------------------------------------------------------------------------------------------------------

    def start(
        self,
        name: MemberId,
        *,
        seeds: Sequence[Address] = (),
        address: Address | None = None,
        config: SwimConfig | None = None,
        wall_offset: float = 0.0,
    ) -> Node:
        """A new host whose process starts now and joins through ``seeds``."""
        assert name not in self.nodes, f"{name} has been started; a second process of it is a restart"
        config = config or self.config
        clock_offset = self.rng.uniform(0.0, 1e6) if self._scattered_clocks else 0.0
        address = address or self.new_address()
        core = self._process(name, address, config, clock_offset, wall_offset)
        node = Node(name, address, tuple(seeds), clock_offset, wall_offset, config, core)
        self.nodes[name] = node
        self._boot(node)
        return node

    def restart(self, name: MemberId, *, address: Address | None = None, wall_offset: float | None = None) -> Node:
        """Start the process of a host that is down again: a new epoch, with its old seeds, perhaps elsewhere."""
        node = self.nodes[name]
        assert node.state is NodeState.DOWN, f"{name} runs"
        node.address = address or node.address
        node.wall_offset = node.wall_offset if wall_offset is None else wall_offset
        node.core = self._process(name, node.address, node.config, node.clock_offset, node.wall_offset)
        node.state, node.left_at, node.starts = NodeState.RUNNING, math.inf, node.starts + 1
        self._boot(node)
        return node

    def crash(self, name: MemberId) -> None:
        """The process ends without a goodbye, frozen or not; what was on its way to it is lost."""
        node = self.nodes[name]
        assert node.state is not NodeState.DOWN, f"{name} is down"
        node.state, node.timer = NodeState.DOWN, math.inf
        node.inbox.clear()
        if self._at.get(node.address) is node:
            del self._at[node.address]

    def leave(self, name: MemberId) -> None:
        """Say goodbye; the process ends some time after the configured linger."""
        node = self.nodes[name]
        node.left_at = self.now
        self.command(name, lambda core, now: core.leave(now))
        process = node.core

        def end() -> None:
            if node.core is process and node.state is not NodeState.DOWN:
                self.crash(name)

        self.at(self.now + 2 * node.config.leave_linger, end)

    def freeze(self, name: MemberId) -> None:
        """SIGSTOP: arriving datagrams wait in the socket buffer, timers do not run."""
        node = self.nodes[name]
        assert node.state is NodeState.RUNNING, f"{name} does not run"
        node.state = NodeState.FROZEN

    def thaw(self, name: MemberId) -> None:
        """SIGCONT: what waits is read, batch by batch, each followed by a look at timers that are late by now."""
        node = self.nodes[name]
        if node.state is not NodeState.FROZEN:
            return  # it crashed meanwhile
        node.state = NodeState.RUNNING
        while node.inbox:
            for data, source in [node.inbox.popleft() for _ in range(min(RECEIVE_BATCH, len(node.inbox)))]:
                self._receive(node, data, source)
            self._look_at_timers(node)
        self._look_at_timers(node)

    def command(self, name: MemberId, order: Callable[[SwimProtocol, float], list[Effect]]) -> None:
        """Give a running core an input of its owner: ``lambda core, now: core.set_load(3, now)``."""
        node = self.nodes[name]
        assert node.state is NodeState.RUNNING, f"{name} does not run"
        self._perform(node, Cause.COMMAND, order(node.core, self.now + node.clock_offset))

    def set_meta(self, name: MemberId, *, weight: float) -> None:
        """A member says something new of itself."""
        own = self.nodes[name].core.members[name].meta
        assert own is not None
        self.command(name, lambda core, now: core.set_meta(attrs.evolve(own, weight=weight), now))

    def inject(self, to: Address, data: bytes, source: Address) -> None:
        """A datagram arrives from outside the simulated network, whatever its links are like."""
        self._arrive(to, data, source)

    def step_wall_clock(self, name: MemberId, seconds: float) -> None:
        """Somebody sets a host's wall clock; its monotonic clock goes on."""
        node = self.nodes[name]
        node.wall_offset += seconds
        node.core.set_wall(WALL + node.wall_offset - node.clock_offset)

    def new_address(self) -> Address:
        """An address that no host has had."""
        self._addresses += 1
        return f"10.{self._addresses >> 16}.{self._addresses >> 8 & 255}.{self._addresses & 255}", 7946

    # -- time --------------------------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Call ``action`` at ``when``."""
        self._push(when, None, action, None)

    def run_for(self, seconds: float) -> bool:
        """Let virtual time pass; whether somebody called :meth:`stop` before that was over."""
        return self.run(self.now + seconds)

    def run(self, until: float) -> bool:
        """Let events happen up to ``until``; whether somebody called :meth:`stop` before that."""
        heap, pop = self._heap, heapq.heappop
        self.stopped = False
        while heap and heap[0][0] <= until:
            self.now, _, target, data, source = pop(heap)
            if source is not None:
                self._arrive(target, data, source)
            elif data is not None:
                data()
            elif target.timer == self.now and target.state is NodeState.RUNNING:
                self._look_at_timers(target)
            if self.stopped:
                return True
        self.now = until
        return False

    def stop(self) -> None:
        """End the running ``run`` after this event; ``now`` stays where it is."""
        self.stopped = True

    # -- inside ------------------------------------------------------------------------------------------------------

    def _process(
        self, name: MemberId, address: Address, config: SwimConfig, clock_offset: float, wall_offset: float
    ) -> SwimProtocol:
        rng = random.Random(self.rng.getrandbits(64))
        return SwimProtocol(
            name,
            address,
            attrs.evolve(self._meta, grpc_address=f"{address[0]}:50051"),
            config,
            rng=rng,
            now=self.now + clock_offset,
            wall_at_zero=WALL + wall_offset - clock_offset,
            label=LABEL,
            keyring=Keyring([self._key]) if self._key else None,
            nonce=lambda: rng.randbytes(12),
        )

    def _boot(self, node: Node) -> None:
        self._at[node.address] = node
        self._perform(node, Cause.STARTED, ())
        self.command(node.name, lambda core, now: core.join(node.seeds, now))

    def _push(self, when: float, target: Node | Address | None, data: Any, source: Any) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (when, self._pushed, target, data, source))

    def _arrive(self, to: Address, data: bytes, source: Address) -> None:
        node = self._at.get(to)
        if node is None:
            return  # nobody listens there
        if node.state is NodeState.RUNNING:
            self._receive(node, data, source)
        elif len(node.inbox) < self._socket_buffer:
            node.inbox.append((data, source))
        else:
            self.links.counts["overflowed"] += 1

    def _receive(self, node: Node, data: bytes, source: Address) -> None:
        self.inputs += 1
        effects = node.core.handle_datagram_untrusted(data, source, self.now + node.clock_offset)
        self._perform(node, Cause.DATAGRAM, effects)

    def _look_at_timers(self, node: Node) -> None:
        """Call handle_timeout if it is due, and see to it that somebody looks again when it will be."""
        node.timer = math.inf
        now, deadline = self.now + node.clock_offset, node.core.next_deadline()
        if deadline - now < ROUNDING:
            self.inputs += 1
            now = max(now, deadline)
            node.spins = node.spins + 1 if now == node.last_timeout else 0
            if node.spins >= MAX_SPINS:
                raise CheckFailed(f"Spinning: {node}: {MAX_SPINS} timeouts at {now}, and the next deadline is due")
            node.last_timeout = now
            self._perform(node, Cause.TIMEOUT, node.core.handle_timeout(now))
        else:
            self._arm(node, deadline)

    def _perform(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if type(effect) is Send:
                self._send(node, effect.data, effect.to)
        for watcher in self.watchers:
            watcher.handled(node, cause, effects)
        self._arm(node, node.core.next_deadline())

    def _send(self, node: Node, data: bytes, to: Address) -> None:
        receiver = self._at.get(to)
        if receiver is None:
            self.links.counts["unreachable"] += 1
            return
        for arrival in self.links.carry(node.name, receiver.name, self.now):
            self._push(arrival, to, data, node.address)

    def _arm(self, node: Node, deadline: float) -> None:
        """One entry of the heap counts for a host: the earliest. A later deadline is found when that one comes."""
        when = deadline - node.clock_offset
        if when < node.timer:
            node.timer = max(when, self.now)
            self._push(node.timer, node, None, None)


class Trace:
    """A watcher that keeps the last lines for people and a hash of everything for comparing runs."""

    def __init__(self, world: World, lines: int = 200) -> None:
        self._world = world
        self._hash = hashlib.sha256()
        self.lines: deque[str] = deque(maxlen=lines)

    def handled(self, node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        """Note an input by its time, host and cause, and its effects; bytes by their checksum."""
        told = ", ".join(map(_told, effects))
        line = f"{self._world.now:.6f} {node} {cause.name.lower()}: {told}"
        self._hash.update(line.encode() + b"\n")
        if told:
            self.lines.append(line)

    def digest(self) -> str:
        """The hash of every line so far."""
        return self._hash.hexdigest()


def _told(effect: Effect) -> str:
    if isinstance(effect, Send):
        return f"send {len(effect.data)} bytes {zlib.crc32(effect.data):08x} to {effect.to[0]}"
    return str(effect)
