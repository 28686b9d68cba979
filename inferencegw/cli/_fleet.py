"""A fleet that somebody thinks of: what it is made of, and what is asked of it. Pure.

The rule: it is a value, and with a seed it is everything there is to know of a run. It stands apart from what plays it,
for that takes a second to import, and whoever asks for help should not wait for it.
"""

from typing import Final

import attrs

from inferencegw.config import GatewayConfig, option
from inferencegw.errors import ConfigError

__all__ = ["JITTER", "Fleet"]

JITTER: Final = 0.1
"""Share of the time per token by which one may be early or late."""

GATEWAY: Final = GatewayConfig()
"""Whose patience with silent replicas is as it comes."""


@attrs.frozen(kw_only=True)
class Fleet:
    """What is simulated; ConfigError where it cannot be."""

    gateways: int = option(1, "How many.", low=1, high=20, unit="gateways")
    replicas: int = option(5, "How many, the slow ones included.", low=1, high=1000, unit="replicas")
    max_capacity: int = option(4, "Generations at once, of each.", low=1, high=1024, unit="generations")
    token_delay: float = option(0.03, "Time per token.", low=0.001, high=60.0)
    prefill: float = option(0.1, "Time before the first token's.", high=600.0)
    slow: int = option(0, "Replicas that take longer for both.", low=0, high=1000, unit="replicas")
    slow_factor: float = option(10.0, "How much longer.", low=1.0, high=1000.0, unit="times")
    crashes: float = option(0.0, "Crashes of each replica, by chance.", high=3600.0, unit="an hour")
    down: float = option(20.0, "Time from a crash until it is started again.", low=0.1, high=86_400.0)
    rate: float = option(5.0, "Calls that come, by chance.", low=0.001, high=10_000.0, unit="a second")
    max_tokens: int = option(64, "Length of each answer.", low=1, high=100_000, unit="tokens")
    hedge: str = attrs.field(default="never", validator=attrs.fields(GatewayConfig).hedge.validator)
    queue_size: int = option(100, "Calls that wait for a slot.", low=0, high=100_000, unit="calls")
    queue_timeout: float = option(30.0, "Time a call waits for one.", low=0.01, high=3600.0)
    duration: float = option(60.0, "Time in which calls come.", low=1.0, high=1e6)

    def __attrs_post_init__(self) -> None:
        if self.slow > self.replicas:
            raise ConfigError(f"Fleet.slow = {self.slow}: must be at most {self.replicas}, the number of replicas")
        # Beyond, gateways take it for stalled: what is simulated would be their patience, and no capacity.
        factor = self.slow_factor if self.slow else 1.0
        gap = GATEWAY.inter_token_timeout / (factor * (1 + 2 * JITTER))
        first = GATEWAY.first_token_timeout / factor - self.token_delay * (1 + JITTER)
        for name, most in (("token_delay", gap), ("prefill", first)):
            if (value := getattr(self, name)) >= most:
                slow = f" with a slow_factor of {factor:g}" if self.slow else ""
                raise ConfigError(f"Fleet.{name} = {value}: must be below {most:.3g} (seconds){slow}: gateways give up")

    @property
    def tokens_per_second(self) -> float:
        """What all of it can generate at most, when every slot is taken all the time."""
        slots = self.max_capacity * (self.replicas - self.slow + self.slow / self.slow_factor)
        return slots * self.max_tokens / (self.prefill + self.max_tokens * self.token_delay)
