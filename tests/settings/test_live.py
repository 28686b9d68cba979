"""live.py: what a reload takes over, whom it tells, and what it leaves as it was."""

import attrs
import pytest

from inferencegw.config import GatewayConfig
from inferencegw.errors import ConfigError
from inferencegw.settings.live import Changes, Live, reload_files
from inferencegw.settings.options import options_of


def test_what_can_change_does_and_the_rest_is_named() -> None:
    """In the order of the class; the configuration in force is the old one with the changes."""
    live = Live(GatewayConfig(id="gw"))
    changes = live.reload(GatewayConfig(id="other", queue_size=5, log_level="debug", port=1))
    assert changes == Changes(applied=("queue_size", "log_level"), pending=("id", "port"))
    assert live.now == GatewayConfig(id="gw", queue_size=5, log_level="debug")


def test_subscribers_are_told_in_order_with_before_and_now_even_of_nothing() -> None:
    """Files that the values name may have changed where the values have not."""
    live = Live(GatewayConfig())
    told: list[tuple[str, GatewayConfig, GatewayConfig, GatewayConfig]] = []
    live.subscribe(lambda before, now: told.append(("first", before, now, live.now)))
    live.subscribe(lambda before, now: told.append(("second", before, now, live.now)))
    old, new = GatewayConfig(), GatewayConfig(queue_size=5)
    live.reload(new)
    reload_files(live)
    assert told == [
        ("first", old, new, new),
        ("second", old, new, new),
        ("first", new, new, new),
        ("second", new, new, new),
    ]


def test_what_does_not_go_together_changes_nothing_and_tells_nobody() -> None:
    """Half of a configuration may be refused where the whole was not: one option can change and its partner cannot."""

    @attrs.frozen(kw_only=True)
    class Pair:
        low: int = attrs.field(default=0, metadata={"help": "", "unit": ""})
        high: int = attrs.field(default=1, metadata={"help": "", "unit": "", "reloadable": True})

        def __attrs_post_init__(self) -> None:
            if self.low > self.high:
                raise ConfigError("Pair.low: must not be above high")

    live = Live(Pair(low=5, high=6))
    told: list[Pair] = []
    live.subscribe(lambda _before, now: told.append(now))
    with pytest.raises(ConfigError, match="must not be above high"):
        live.reload(Pair(low=1, high=2))
    assert (live.now, told) == (Pair(low=5, high=6), [])


def test_addresses_files_and_who_one_is_need_a_restart() -> None:
    """A socket, a name in the gossip and a TLS context are made once."""
    fixed = {key for key, option in options_of(GatewayConfig).items() if not option.reloadable}
    assert fixed >= {
        "id",
        "host",
        "port",
        "http_port",
        "join",
        "replicas",
        "tls_cert",
        "keys_file",
        "limits.max_streams",
    }
