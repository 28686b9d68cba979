"""Is it the protocol of the papers? What probing and suspicion do, against what their formulas say.

The rule: ``measures.py``'s.
"""

import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from inferencegw.swim.codec import decode_packet_untrusted
from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.effects import Effect, MemberChanged, Send
from inferencegw.swim.envelope import Envelope
from inferencegw.swim.member import Address, MemberId, MemberState
from inferencegw.swim.messages import Packet, Ping

from .clusters import Changes, Listener, settled
from .world import LABEL, Cause, Node, World

__all__ = [
    "Suspicions",
    "first_probe_distribution",
    "first_probe_times",
    "kolmogorov_smirnov",
    "lossy",
    "suspicion_formula",
]

ENVELOPE: Final = Envelope(LABEL, None, None)


def is_ping(data: bytes) -> bool:
    """Whether a member sends this in its own name, as the first question of a probe."""
    packet = decode_packet_untrusted(data, ENVELOPE)
    assert isinstance(packet, Packet)
    return isinstance(packet.kind, Ping)


def first_probe_times(seed: int, members: int, samples: int, *, config: SwimConfig = GATEWAY) -> list[float]:
    """Seconds from random moments until the first direct ping of a random member by anybody.

    Nobody crashes: a member is found by its first probe, and when that comes does not depend on whether it lives. So
    one cluster gives many samples, further apart than the round after which it has forgotten.
    """
    world = settled(seed, members, config=config)
    pinged: dict[Address, list[float]] = {node.address: [] for node in world.nodes.values()}

    def handled(node: Node, cause: Cause, effects: Sequence[Effect]) -> None:
        if cause is Cause.TIMEOUT:
            for effect in effects:
                if type(effect) is Send and is_ping(effect.data):
                    pinged[effect.to].append(world.now)

    world.watchers.append(Listener(handled))
    round_seconds = (members - 1) * config.probe_interval
    began = world.now
    apart = 3.0 * round_seconds
    rounds = -(-samples // members)
    world.run_for((rounds + 2) * apart)
    times = []
    for number in range(rounds):
        for moments in pinged.values():
            moment = began + number * apart + world.rng.uniform(0.0, round_seconds)
            times.append(moments[bisect.bisect_right(moments, moment)] - moment)
    return times[:samples]


def first_probe_distribution(seconds: float, members: int, config: SwimConfig) -> float:
    """How likely the first probe comes within ``seconds``: all others come by once a round, at any time of it."""
    share = min(1.0, seconds / ((members - 1) * config.probe_interval))
    return 1.0 - (1.0 - share) ** (members - 1)


def kolmogorov_smirnov(samples: Iterable[float], distribution: Callable[[float], float]) -> float:
    """The largest distance between the samples' distribution and the one that is expected."""
    ordered = sorted(samples)
    count = len(ordered)
    expected = [distribution(sample) for sample in ordered]
    return max(max(p - i / count, (i + 1) / count - p) for i, p in enumerate(expected))


@attrs.frozen
class Suspicions:
    """What one lossy cluster did: probes, those that failed, and members that were held DEAD though they lived."""

    probes: int
    failed: int
    false_deaths: int

    @property
    def rate(self) -> float:
        """Suspicions per probe."""
        return self.failed / self.probes


def suspicion_formula(loss: float, helpers: int) -> float:
    """Suspicions per probe: the direct way has two packets, the way through a helper four."""
    q = 1.0 - loss
    return float((1 - q**2) * (1 - q**4) ** helpers)


def lossy(seed: int, members: int, *, loss: float, seconds: float, config: SwimConfig = GATEWAY) -> Suspicions:
    """A cluster on a network that loses packets, with no other fault."""
    world = settled(seed, members, config=config)
    before = totals(world)
    deaths: set[tuple[MemberId, int, int]] = set()

    def seen(node: Node, cause: Cause, change: MemberChanged) -> None:
        status = change.after.status
        if status.state is MemberState.DEAD:
            deaths.add((change.member_id, status.epoch, status.incarnation))

    world.watchers.append(Changes(seen))
    world.links.loss = loss
    world.run_for(seconds)
    after = totals(world)
    return Suspicions(after["probes"] - before["probes"], after["failed_probes"] - before["failed_probes"], len(deaths))


def totals(world: World) -> Counter[str]:
    """The counters of every core, added up."""
    total: Counter[str] = Counter()
    for node in world.nodes.values():
        total.update(node.core.statistics())
    return total
