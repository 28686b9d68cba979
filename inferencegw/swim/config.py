"""How patient a member is, how much it says, and what it may hold: frozen, and valid by construction.

The rule: a :class:`SwimConfig` cannot hold a value that does not work; a bad one raises
:class:`~inferencegw.errors.ConfigError` naming the option, the value and what is allowed. All members of a cluster
should run with the same profile: a member with longer timeouts than the others is found slow by them.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import attrs

from inferencegw.errors import ConfigError

__all__ = ["FAST", "GATEWAY", "LAN", "PROFILES", "SEED", "SwimConfig"]


def _number(default: float, help: str, *, low: float, high: float, unit: str = "seconds") -> Any:
    """A field for a number in ``[low, high]``, with the sentence that tells an operator what it costs."""
    return attrs.field(default=default, metadata={"help": help, "unit": unit, "low": low, "high": high})


def _allowed(value: Any, kind: type | None, limits: Mapping[str, Any]) -> bool:
    """Whether ``value`` is a number of that kind within its limits. NaN and True are none."""
    kinds = int if kind is int else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and limits["low"] <= value <= limits["high"]


@attrs.frozen(kw_only=True)
class SwimConfig:
    """Every number of the protocol. The defaults are the ``gateway`` profile."""

    probe_interval: float = _number(0.5, "Time between two probes, and the unit of suspicion. High: crashes are noticed late. Low: traffic.", low=0.01, high=60.0)  # fmt: skip
    probe_timeout: float = _number(0.2, "Time for an answer to a probe before helpers are asked. High: less time is left for helpers. Low: slow links need them always.", low=0.001, high=30.0)  # fmt: skip
    indirect_probes: int = _number(3, "Helpers asked when a probe is not answered. High: traffic under loss. Low: false suspicions.", low=0, high=16, unit="helpers")  # fmt: skip
    nack_fraction: float = _number(0.8, "Share of the probe timeout after which a helper says that it has no answer so far. High: it may come too late to count. Low: it says so too early.", low=0.1, high=1.0, unit="share")  # fmt: skip
    suspicion_alpha: float = _number(4.0, "Shortest suspicion, in probe intervals for each power of ten of members. High: crashes are announced late. Low: slow members are declared dead.", low=0.5, high=100.0, unit="factor")  # fmt: skip
    suspicion_beta: float = _number(6.0, "Longest suspicion, as a multiple of the shortest. High: a suspicion that nobody shares lasts. Low: one slow observer can kill.", low=1.0, high=100.0, unit="factor")  # fmt: skip
    suspicion_confirmations: int = _number(3, "Independent accusers after whom a suspicion is at its shortest. High: small clusters are slow to agree. Low: slow observers kill.", low=0, high=16, unit="accusers")  # fmt: skip
    gossip_interval: float = _number(0.1, "Time between two rounds of gossip while there is news. High: news is late. Low: traffic.", low=0.005, high=10.0)  # fmt: skip
    gossip_fanout: int = _number(3, "Members that a round of gossip goes to. High: traffic. Low: news is late.", low=1, high=16, unit="members")  # fmt: skip
    retransmit_factor: float = _number(3.0, "How often each piece of news is sent, times the logarithm of the members. High: traffic. Low: more is left to synchronisation.", low=1.0, high=10.0, unit="factor")  # fmt: skip
    sync_after: float = _number(0.5, "Time that views may differ before two members compare what they hold. High: lost news is late. Low: news on its way is fetched twice.", low=0.01, high=60.0)  # fmt: skip
    sync_interval: float = _number(30.0, "Longest time between two comparisons while views differ. High: what cannot be settled costs less. Low: traffic.", low=0.1, high=3600.0)  # fmt: skip
    heal_interval: float = _number(10.0, "Time between two attempts to reach a dead member or a seed. High: partitions heal late. Low: traffic to the dead.", low=0.05, high=3600.0)  # fmt: skip
    heal_time: float = _number(86_400.0, "How long a dead member is tried again. High: traffic to those who never return. Low: long partitions do not heal.", low=1.0, high=31_536_000.0)  # fmt: skip
    tombstone_time: float = _number(60.0, "Shortest time that the dead and the gone are remembered. High: memory. Low: old news revives them for a moment.", low=0.5, high=86_400.0)  # fmt: skip
    leave_linger: float = _number(1.0, "Time between saying goodbye and silence. High: slow shutdowns. Low: the goodbye may be lost.", low=0.0, high=60.0)  # fmt: skip
    max_packet_bytes: int = _number(1400, "Largest datagram sent. High: fragments, where the path does not carry it. Low: more packets.", low=1024, high=9000, unit="bytes")  # fmt: skip
    max_meta_bytes: int = _number(256, "Largest metadata that a member may have. High: less news in a packet. Low: long names do not fit.", low=64, high=320, unit="bytes")  # fmt: skip
    max_members: int = _number(8192, "Members held, the dead included. High: memory. Low: newcomers are turned away.", low=2, high=1_000_000, unit="members")  # fmt: skip
    plain: bool = attrs.field(default=False, metadata={"help": "For comparison only: no sign of life outside probes, no telling the accused, no last gasp, no stall awareness, blame for every missing helper.", "unit": "switch"})  # fmt: skip

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if field.type is not bool and not _allowed(value, field.type, field.metadata):
                low, high, unit = (field.metadata[name] for name in ("low", "high", "unit"))
                kind = "a whole number" if field.type is int else "a number"
                raise ConfigError(
                    f"SwimConfig.{field.name} = {value!r}: must be {kind} from {low:g} to {high:g} ({unit})"
                )
        if self.probe_timeout >= self.probe_interval:
            raise ConfigError(
                f"SwimConfig.probe_timeout = {self.probe_timeout!r}: must be below probe_interval = "
                f"{self.probe_interval!r}, the rest of which is the helpers'"
            )

    def suspicion_bounds(self, members: int) -> tuple[float, float]:
        """The shortest and the longest suspicion among ``members`` who live: ``susp_min`` and ``susp_max``."""
        shortest = self.suspicion_alpha * max(1.0, math.log10(max(1, members))) * self.probe_interval
        return shortest, self.suspicion_beta * shortest

    def retransmissions(self, members: int) -> int:
        """How often one member sends one piece of news among ``members`` who live."""
        return math.ceil(self.retransmit_factor * math.log(members + 1))


GATEWAY: Final = SwimConfig()

LAN: Final = SwimConfig(probe_interval=1.0, probe_timeout=0.5, gossip_interval=0.2, sync_after=1.0)
"""What memberlist calls LAN: half the traffic of GATEWAY, and half as fast."""

FAST: Final = SwimConfig(
    probe_interval=0.2,
    probe_timeout=0.08,
    suspicion_alpha=3.0,
    gossip_interval=0.05,
    sync_after=0.2,
    sync_interval=5.0,
    heal_interval=1.0,
    tombstone_time=10.0,
    leave_linger=0.3,
)
"""For loopback and CI."""

SEED: Final = SwimConfig(suspicion_beta=1.0, indirect_probes=2)
"""The timings of the system that this one descends from: 500 ms period, 200 ms timeout, 2 s suspicion, two helpers."""

PROFILES: Final = {"lan": LAN, "gateway": GATEWAY, "fast": FAST, "seed": SEED}
"""The profiles by the names that operators give them."""
