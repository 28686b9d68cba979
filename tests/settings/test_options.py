"""options.py: one list of options, and the names that each has where."""

import re

import attrs
import pytest

from inferencegw.config import GatewayConfig, ReplicaConfig, RpcLimits
from inferencegw.settings.options import Option, build, options_of, values_of

CLASSES = (GatewayConfig, ReplicaConfig)
EVERY = [(config, key) for config in CLASSES for key in options_of(config)]


def option(config: type[attrs.AttrsInstance], key: str) -> Option:
    """The one of that key."""
    return options_of(config)[key]


@pytest.mark.parametrize("config", CLASSES)
def test_every_field_is_an_option_and_those_of_a_table_too(config: type[attrs.AttrsInstance]) -> None:
    """Nobody keeps a second list."""
    fields = {field.name for field in attrs.fields(config)} - {"limits"}
    limits = {f"limits.{field.name}" for field in attrs.fields(RpcLimits)}
    assert set(options_of(config)) == fields | limits


@pytest.mark.parametrize(("config", "key"), EVERY)
def test_an_option_says_what_it_costs_and_in_what_it_is_counted(config: type[attrs.AttrsInstance], key: str) -> None:
    """For ``--help`` and the reference; and its type is one that can be read from a file and a variable."""
    one = option(config, key)
    assert one.help
    assert one.unit
    assert one.type in {int, float, str, bool, tuple}


def test_a_number_s_help_says_what_a_high_and_a_low_one_cost() -> None:
    """All but ports, of which none is better than another, and what is for experiments."""
    of_no_size = {"error_rate", "seed"}
    silent = {
        key
        for config, key in EVERY
        if option(config, key).type in {int, float} and option(config, key).unit != "port"
        if not re.search(r"\bHigh: .+ Low: ", option(config, key).help)
    }
    assert silent == of_no_size


@pytest.mark.parametrize("config", CLASSES)
def test_no_two_options_have_a_name_in_common(config: type[attrs.AttrsInstance]) -> None:
    """A dot of a table is as good as a ``_`` in a variable: that must not meet another option's."""
    options = options_of(config).values()
    assert len({one.variable for one in options}) == len(options)
    flags = [one.flag for one in options if one.flag is not None]
    assert len(set(flags)) == len(flags)


def test_names_follow_from_the_field_s_and_metadata_may_say_otherwise_of_the_flag() -> None:
    """As the module says."""
    names = [
        (one.variable, one.flag, one.scale)
        for one in (
            option(GatewayConfig, "queue_size"),
            option(GatewayConfig, "replicas"),
            option(GatewayConfig, "limits.max_streams"),
            option(GatewayConfig, "reconnect_initial"),
            option(ReplicaConfig, "token_delay"),
        )
    ]
    assert names == [
        ("TRIO_GW_QUEUE_SIZE", "--queue-size", 1.0),
        ("TRIO_GW_REPLICAS", "--replica", 1.0),
        ("TRIO_GW_LIMITS_MAX_STREAMS", None, 1.0),
        ("TRIO_GW_RECONNECT_INITIAL", None, 1.0),
        ("TRIO_GW_TOKEN_DELAY", "--token-delay-ms", 1000.0),
    ]


@pytest.mark.parametrize("config", [GatewayConfig(), ReplicaConfig(limits=RpcLimits(max_streams=7), join=("a:1",))])
def test_a_configuration_is_built_again_of_its_values(config: attrs.AttrsInstance) -> None:
    """Whatever is in it."""
    assert build(type(config), values_of(config)) == config
