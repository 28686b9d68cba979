"""swim/config.py: a value that does not work cannot be had, and the formulas are the paper's."""

import math

import attrs
import pytest

from inferencegw.errors import ConfigError
from inferencegw.swim.config import FAST, GATEWAY, LAN, PROFILES, SEED, SwimConfig

NUMBERS = [field for field in attrs.fields(SwimConfig) if field.type is not bool]


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
@pytest.mark.parametrize("beyond", ["below", "above", "nan", "bool", "text"])
def test_a_value_beyond_its_limits_is_refused_by_name(field: "attrs.Attribute[float]", beyond: str) -> None:
    """The message names the option, the value and what is allowed; NaN and True are no numbers."""
    values = {
        "below": math.nextafter(field.metadata["low"], -math.inf),
        "above": field.metadata["high"] * 2,
        "nan": math.nan,
        "bool": True,
        "text": "1",
    }
    with pytest.raises(ConfigError, match=rf"SwimConfig\.{field.name} = .*must be a .*number from"):
        SwimConfig(**{field.name: values[beyond]})


def test_a_count_is_a_whole_number() -> None:
    """Half a helper is none."""
    with pytest.raises(ConfigError, match=r"indirect_probes = 2\.5: must be a whole number"):
        SwimConfig(indirect_probes=2.5)  # type: ignore[arg-type]


def test_helpers_need_some_of_the_interval() -> None:
    """A timeout that fills the interval leaves no time for anybody to help."""
    with pytest.raises(ConfigError, match=r"probe_timeout = 0\.5: must be below probe_interval = 0\.5"):
        SwimConfig(probe_timeout=0.5)


def test_every_option_says_what_high_and_low_cost() -> None:
    """Operators choose by that."""
    assert [field.name for field in NUMBERS if not {"High:", "Low:"} <= set(field.metadata["help"].split())] == []


def test_the_profiles_are_the_papers() -> None:
    """T, timeout, alpha, gossip interval, sync_after, heal, tombstone, linger, as swim.md's table has them."""
    rows = {
        name: (
            profile.probe_interval,
            profile.probe_timeout,
            profile.suspicion_alpha,
            profile.gossip_interval,
            profile.sync_after,
            profile.sync_interval,
            profile.heal_interval,
            profile.tombstone_time,
            profile.leave_linger,
        )
        for name, profile in PROFILES.items()
    }
    assert rows == {
        "lan": (1.0, 0.5, 4, 0.2, 1.0, 30, 10, 60, 1.0),
        "gateway": (0.5, 0.2, 4, 0.1, 0.5, 30, 10, 60, 1.0),
        "fast": (0.2, 0.08, 3, 0.05, 0.2, 5, 1, 10, 0.3),
        "seed": (0.5, 0.2, 4, 0.1, 0.5, 30, 10, 60, 1.0),
    }
    shared = {(one.gossip_fanout, one.nack_fraction, one.suspicion_confirmations) for one in PROFILES.values()}
    assert shared == {(3, 0.8, 3)}
    assert (SEED.indirect_probes, SEED.suspicion_bounds(5)) == (2, (2.0, 2.0))


@pytest.mark.parametrize(
    ("config", "members", "shortest"),
    [(GATEWAY, 1, 2.0), (GATEWAY, 10, 2.0), (GATEWAY, 100, 4.0), (GATEWAY, 1000, 6.0), (LAN, 100, 8.0), (FAST, 5, 0.6)],
)
def test_suspicions_last_longer_in_larger_clusters(config: SwimConfig, members: int, shortest: float) -> None:
    """susp_min = alpha * max(1, log10 n) * T, and susp_max is beta times that."""
    assert config.suspicion_bounds(members) == pytest.approx((shortest, 6 * shortest))


@pytest.mark.parametrize(("members", "sends"), [(1, 3), (2, 4), (10, 8), (100, 14), (1000, 21)])
def test_news_is_sent_a_logarithm_of_times(members: int, sends: int) -> None:
    """ceil(3 ln(n + 1))."""
    assert GATEWAY.retransmissions(members) == sends
