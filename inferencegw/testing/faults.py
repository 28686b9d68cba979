"""What is to go wrong in a cluster, and when: a schedule as a value.

The rule: a schedule is data. It is drawn, by a seed here or by whatever else can make its values, before anything runs;
playing it draws nothing. So a failing one can be printed, shrunk, kept and played again. Every fault ends by itself
(the crashed are started again, the frozen thawed, cuts mended), and some time before the end nothing new begins, so
that a run also shows that everything heals.
"""

import enum
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import attrs
import trio

from inferencegw.errors import RpcError
from inferencegw.testing.cluster import TestCluster
from inferencegw.testing.nodes import Node

__all__ = ["Fault", "FaultKind", "draw_faults", "play"]

LONGEST: Final = 8.0
"""Seconds that one fault lasts at most; but see GONE_FOR."""

GONE_FOR: Final = 60.0
"""Seconds that one of four that end without a word stays away: longer than its cluster needs to call it DEAD, whatever
else there was."""


class FaultKind(enum.Enum):
    """What can be done; the value says so."""

    CRASH = "crash"
    """kill -9, and a start some time later; the detail is "eof" where its kernel closes in order."""
    POWER = "power loss"
    """Likewise, but nobody is told."""
    STOP = "stop"
    """SIGTERM, and a start some time later."""
    FREEZE = "freeze"
    PARTITION = "partition"
    """These hosts from all the others."""
    CUT = "cut"
    """From the first of these hosts to the second only."""
    HOLD = "hold"
    """Between these two."""
    SLOW = "slow"
    LOSS = "loss"
    """Of datagrams, everywhere."""
    MISBEHAVE = "misbehave"
    """What ``trio-gw replica --fault`` has."""


@attrs.frozen
class Fault:
    """One fault: what is done to whom, when, for how long, and how much of it."""

    at: float
    kind: FaultKind
    hosts: tuple[str, ...]
    seconds: float
    detail: float | str = ""

    def __str__(self) -> str:
        whom = " ".join(self.hosts)
        return f"{self.at:6.2f} s: {self.kind.value} {whom} {self.detail}".rstrip() + f", for {self.seconds:.2f} s"


MISDEEDS: Final = (
    *("crash@{}", "close@{}", "freeze@{}", "truncate@{}", "repeat@{}", "skip@{}"),
    *("slow=3", "slow=10", "error=0.5", "reject"),
)
"""Where there is a brace, the number of a token goes."""


def draw_faults(
    rng: random.Random,
    *,
    replicas: Sequence[str],
    gateways: Sequence[str],
    clients: Sequence[str],
    seconds: float,
    count: int,
) -> tuple[Fault, ...]:
    """``count`` faults that begin in the next ``seconds``, in order."""
    faults = [_draw(rng, replicas, gateways, clients, seconds) for _ in range(count)]
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _draw(
    rng: random.Random, replicas: Sequence[str], gateways: Sequence[str], clients: Sequence[str], seconds: float
) -> Fault:
    at, lasts = rng.uniform(0.0, seconds), rng.uniform(0.5, LONGEST)
    kind = rng.choice(list(FaultKind))
    one, other = rng.sample([*replicas, *gateways], 2)
    replica = rng.choice(replicas)
    match kind:
        case FaultKind.PARTITION:
            return Fault(at, kind, tuple(rng.sample(replicas, rng.randint(1, len(replicas)))), lasts)
        case FaultKind.CUT | FaultKind.HOLD:
            if rng.random() < 0.2:
                one, other = rng.sample([rng.choice(clients), rng.choice(gateways)], 2)
            return Fault(at, kind, (one, other), lasts)
        case FaultKind.SLOW:
            return Fault(at, kind, (one,), lasts, rng.choice((3.0, 10.0, 30.0)))
        case FaultKind.LOSS:
            return Fault(at, kind, (), lasts, rng.choice((0.1, 0.3)))
        case FaultKind.MISBEHAVE:
            number = rng.choice((0, rng.randrange(24)))  # the first token is the one at which a race is decided
            return Fault(at, kind, (replica,), lasts, rng.choice(MISDEEDS).format(number))
        case FaultKind.CRASH:
            return Fault(at, kind, (one,), rng.choice((lasts, lasts, lasts, GONE_FOR)), rng.choice(("", "eof")))
        case FaultKind.STOP | FaultKind.FREEZE:
            return Fault(at, kind, (one,), lasts)
        case FaultKind.POWER:
            return Fault(at, kind, (replica,), rng.choice((lasts, lasts, lasts, GONE_FOR)))


async def play(cluster: TestCluster, faults: Sequence[Fault]) -> None:
    """Do all of it, each when it is due, counted from now; returns when the last one is over."""
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        for fault in faults:
            await trio.sleep_until(begin + fault.at)
            nursery.start_soon(_PLAYERS[fault.kind], cluster, fault)


async def _end_and_restart(cluster: TestCluster, fault: Fault) -> None:
    """For a process that is there and has nothing else to do: two faults may want the same one."""
    name = fault.hosts[0]
    await trio.lowlevel.checkpoint()
    if not cluster.nodes[name].serves:
        return
    begin = trio.current_time()
    if fault.kind is FaultKind.STOP:
        cluster.leave(name)
    else:
        cluster.crash(name, silent=fault.kind is FaultKind.POWER, eof=fault.detail == "eof")
    node = cluster.nodes[name]
    await node.ended.wait()
    await trio.sleep_until(begin + fault.seconds)
    await _restart(cluster, node)


async def _restart(cluster: TestCluster, node: Node) -> None:  # noqa: ASYNC910 - who is there is not waited for
    """Unless somebody has done so, or a manager is about to."""
    if cluster.nodes[node.name] is node and node.name not in cluster.managed:
        await cluster.restart(node.name)


async def _freeze(cluster: TestCluster, fault: Fault) -> None:
    await trio.lowlevel.checkpoint()
    name = fault.hosts[0]
    node = cluster.nodes[name]
    if not node.serves:
        return
    cluster.freeze(name)
    await trio.sleep(fault.seconds)
    if cluster.nodes[name] is node or node.stopping:  # what is started where another one stood still stands still
        cluster.thaw(name)


async def _partition(cluster: TestCluster, fault: Fault) -> None:
    rest = [name for name in cluster.nodes if name not in fault.hosts]
    cluster.partition(fault.hosts, rest)
    await trio.sleep(fault.seconds)
    cluster.unite(fault.hosts, rest)


async def _cut(cluster: TestCluster, fault: Fault) -> None:
    cluster.cut(*fault.hosts)
    await trio.sleep(fault.seconds)
    cluster.mend(*fault.hosts)


async def _hold(cluster: TestCluster, fault: Fault) -> None:
    cluster.hold(*fault.hosts)
    await trio.sleep(fault.seconds)
    cluster.release(*fault.hosts)


async def _slow(cluster: TestCluster, fault: Fault) -> None:
    cluster.slow(fault.hosts[0], float(fault.detail))
    await trio.sleep(fault.seconds)
    cluster.slow(fault.hosts[0], 1.0)


async def _lose(cluster: TestCluster, fault: Fault) -> None:
    cluster.set_loss(float(fault.detail))
    await trio.sleep(fault.seconds)
    cluster.set_loss(0.0)


async def _misbehave(cluster: TestCluster, fault: Fault) -> None:
    await trio.lowlevel.checkpoint()
    name = fault.hosts[0]
    node = cluster.nodes[name]
    if not node.serves:
        return
    try:
        await cluster.inject(name, str(fault.detail))
        await trio.sleep(fault.seconds)
        if node.serves:
            await cluster.clear_faults(name)
    except RpcError:
        pass  # it is busy with another fault; what it was told ends with it, or with the run
    if node.own_hand:
        node.own_hand = False  # one restart is enough, however many told it to misbehave
        await _restart(cluster, node)


_PLAYERS: Final[Mapping[FaultKind, Callable[[TestCluster, Fault], Awaitable[None]]]] = {
    FaultKind.CRASH: _end_and_restart,
    FaultKind.POWER: _end_and_restart,
    FaultKind.STOP: _end_and_restart,
    FaultKind.FREEZE: _freeze,
    FaultKind.PARTITION: _partition,
    FaultKind.CUT: _cut,
    FaultKind.HOLD: _hold,
    FaultKind.SLOW: _slow,
    FaultKind.LOSS: _lose,
    FaultKind.MISBEHAVE: _misbehave,
}
