"""sources.py and toml.py: what goes before what, what is refused in which words, and that TOML brings it all back."""

import itertools
import math
import re
import string
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.config import GatewayConfig, ReplicaConfig
from inferencegw.errors import ConfigError
from inferencegw.settings import sources as module
from inferencegw.settings.options import Option, build, options_of
from inferencegw.settings.sources import Settings, Sources, read_file
from inferencegw.settings.toml import to_json, to_toml

FILE = Path("gw.toml")


def read(
    file: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings[GatewayConfig]:
    """What a gateway's sources say, with this in the file."""
    return Sources(GatewayConfig, FILE, environment or {}, flags or {}).combine(file or {})


@pytest.mark.parametrize("given", list(itertools.product([False, True], repeat=3)))
def test_flags_go_before_variables_and_those_before_the_file(given: tuple[bool, bool, bool]) -> None:
    """All eight cases; the origin is told."""
    in_file, in_environment, in_flags = given
    settings = read(
        {"queue_size": 1} if in_file else {},
        {"TRIO_GW_QUEUE_SIZE": "2"} if in_environment else {},
        {"queue_size": 3} if in_flags else {},
    )
    there = [(100, "default")]
    there += [(1, "gw.toml: queue_size")] if in_file else []
    there += [(2, "TRIO_GW_QUEUE_SIZE")] if in_environment else []
    there += [(3, "--queue-size")] if in_flags else []
    assert (settings.config.queue_size, settings.origins["queue_size"]) == there[-1]


def test_a_flag_with_the_default_s_value_goes_before_the_file() -> None:
    """It was given."""
    assert read({"queue_size": 1}, flags={"queue_size": 100}).config.queue_size == 100


def test_variables_are_text_for_every_type() -> None:
    """Whole numbers, numbers, lists, names, and what may have no value; an empty one is none."""
    settings = read(
        environment={
            "TRIO_GW_PORT": "0",
            "TRIO_GW_QUEUE_TIMEOUT": "1",
            "TRIO_GW_LIMITS_MAX_CONNECTION_AGE": "inf",
            "TRIO_GW_JOIN": "a:1, b:2",
            "TRIO_GW_GOSSIP_PORT": "7",
            "TRIO_GW_HEDGE": "race",
            "TRIO_GW_ID": "",
            "PATH": "/bin",
        }
    )
    config = settings.config
    assert (config.port, config.queue_timeout, config.limits.max_connection_age) == (0, 1.0, math.inf)
    assert (config.join, config.gossip_port, config.hedge, config.id) == (("a:1", "b:2"), 7, "race", "")
    assert settings.origins["id"] == "default"


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_switch_is_true_or_false(text: str, value: bool) -> None:
    """Or a figure."""
    environment = {"TRIO_GW_REJECT_ALL": text}
    assert Sources(ReplicaConfig, environment=environment).read().config.reject_all is value


def test_variables_of_the_other_server_and_the_key_are_left_alone() -> None:
    """One environment may be that of several commands."""
    environment = {"TRIO_GW_MAX_CAPACITY": "nonsense", "TRIO_GW_KEY": "secret", "TRIO_GW_CONFIG": "x", "TRIO": "x"}
    assert read(environment=environment).config == GatewayConfig()


@pytest.mark.parametrize(
    ("file", "environment", "flags", "message"),
    [
        (
            {"queue_size": -1},
            {},
            {},
            "queue_size = -1 (gw.toml: queue_size): must be a number from 0 to 100000 (calls)",
        ),
        ({"queue_size": 1.0}, {}, {}, "queue_size = 1.0 (gw.toml: queue_size): must be a whole number"),
        ({"queue_size": True}, {}, {}, "queue_size = True (gw.toml: queue_size): must be a whole number"),
        ({"queue_size": {"a": 1}}, {}, {}, "queue_size = {'a': 1} (gw.toml: queue_size): must be a whole number"),
        ({"queue_timeout": "1"}, {}, {}, "queue_timeout = '1' (gw.toml: queue_timeout): must be a number"),
        ({"queue_timeout": 10**400}, {}, {}, f"queue_timeout = {10**400} (gw.toml: queue_timeout): must be a number "),
        ({"join": "a:1"}, {}, {}, "join = 'a:1' (gw.toml: join): must be a list of texts"),
        ({"join": [1]}, {}, {}, "join = [1] (gw.toml: join): must be a list of texts"),
        ({"join": ["a"]}, {}, {}, "join = ['a'] (gw.toml: join): address = 'a': must be HOST:PORT"),
        ({"join": ["a:1", "a:1"]}, {}, {}, "(gw.toml: join): join names 'a:1' twice: name it once"),
        ({"hedge": "may: be"}, {}, {}, "hedge = 'may: be' (gw.toml: hedge): must be one of never, race, adaptive"),
        ({"limits": {"max_streams": 0}}, {}, {}, "limits.max_streams = 0 (gw.toml: limits.max_streams): must be a num"),
        ({"limits": 3}, {}, {}, "gw.toml: limits: must be a table"),
        ({"limits.max_streams": 3}, {}, {}, "gw.toml: limits.max_streams: there is no such option"),
        ({"queue_siz": "hunter2"}, {}, {}, "gw.toml: queue_siz: there is no such option: did you mean queue_size?"),
        ({"zzzzz": {"a": 1}}, {}, {}, "gw.toml: zzzzz: there is no such option: `trio-gw config` prints those"),
        ({}, {"TRIO_GW_PORT": "tcp://10.0.0.1:80"}, {}, "port = 'tcp://10.0.0.1:80' (TRIO_GW_PORT): must be a whole n"),
        ({}, {"TRIO_GW_PORT": "65536"}, {}, "port = 65536 (TRIO_GW_PORT): must be a number from 0 to 65535 (port)"),
        ({}, {"TRIO_GW_PROT": "1"}, {}, "TRIO_GW_PROT: there is no such option: did you mean TRIO_GW_PORT?"),
        ({}, {}, {"hedge": "x"}, "hedge = 'x' (--hedge): must be one of never, race, adaptive"),
        ({}, {}, {"manager": "\udcff"}, "manager = '\\udcff' (--manager): must be UTF-8"),
        ({"keys_file": "a\0b"}, {}, {}, "keys_file = 'a\\x00b' (gw.toml: keys_file): must be without NUL"),
        (
            {"tls_cert": "c"},
            {},
            {},
            "tls_cert and tls_key: must be given together or not at all (tls_cert: gw.toml: tls_cert)",
        ),
        (
            {},
            {"TRIO_GW_CLUSTER": "c"},
            {},
            "cluster = 'c': is of no use without gossip_port or join (cluster: TRIO_GW_",
        ),
    ],
)
def test_what_cannot_be_used_is_told_with_its_key_value_and_origin(
    file: Mapping[str, Any], environment: Mapping[str, str], flags: Mapping[str, Any], message: str
) -> None:
    """And with what is allowed, in one line."""
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read(file, environment, flags)
    assert "\n" not in str(caught.value)


def test_the_value_of_a_name_that_nobody_knows_is_not_repeated() -> None:
    """Somebody may have put a secret there."""
    for file, environment in (({"api_key": "hunter2"}, {}), ({}, {"TRIO_GW_API_KEY": "hunter2"})):
        with pytest.raises(ConfigError) as caught:
            read(file, environment)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"port = ", "must be TOML: "),
        (b"a = 1\na = 2", "must be TOML: "),
        (b"id = '\xff'", "must be TOML: "),
        (b"id = " + b"[" * 100_000, "must be TOML: "),
        (b"port = " + b"1" * 5000, "must be TOML: "),
        (b"#" * (2**20 + 1), "is longer than 1048576 bytes: name a file with --config"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_by_its_name(content: bytes, message: str, tmp_path: Path) -> None:
    """Nothing in a file makes a traceback."""
    (tmp_path / "gw.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'gw.toml'}: {message}")):
        read_file(tmp_path / "gw.toml")


def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    """Missing, or a directory."""
    for path, reason in ((tmp_path / "no.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=re.escape(f"{path}: cannot be read: {reason}")):
            Sources(GatewayConfig, path).read()


# -- there and back ------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ADDRESSES = st.lists(st.from_regex(r"\A[a-z]{1,5}:[1-9][0-9]{0,3}\Z"), max_size=3, unique=True).map(tuple)


def values(option: Option) -> st.SearchStrategy[Any]:
    """What ``option`` takes."""
    names = {
        "hedge": ("never", "race", "adaptive"),
        "splice": ("any", "same-version"),
        "log_level": ("debug", "critical"),
        "log_format": ("logfmt", "json"),
        "gossip_profile": ("lan", "fast"),
        "client_certs": ("required",),
        "host": ("::1", "example"),
        "advertise": ("::1", "example"),
    }
    if option.type is tuple:
        return ADDRESSES
    if option.type is bool:
        return st.booleans()
    if option.key in names:
        return st.sampled_from(names[option.key])
    if option.key in {"id", "cluster", "model", "model_version"}:
        return st.text(string.printable, min_size=1, max_size=20)
    if option.type is str:
        return TEXT
    low, high = (float(option.attribute.metadata.get(name, value)) for name, value in (("low", 0), ("high", 65_535)))
    if option.type is int:
        return st.integers(math.ceil(low), min(math.floor(high), 2**63))
    return st.floats(low, high, allow_nan=False)


@st.composite
def configurations(draw: st.DrawFn, config: type[attrs.AttrsInstance]) -> Any:
    """Any that the class takes."""
    options = options_of(config)
    keys = draw(st.sets(st.sampled_from(sorted(options))))
    keys |= {"gossip_port"}  # others are of no use without it
    if keys & {"tls_cert", "tls_key", "tls_ca"}:
        keys |= {"tls_cert", "tls_key"}
    return build(config, {key: draw(values(options[key])) for key in sorted(keys)})


@given(config=st.one_of(configurations(GatewayConfig), configurations(ReplicaConfig)))
def test_what_is_printed_can_be_fed_back(config: Any) -> None:
    """Whatever its values: the text is TOML, and the same configuration."""
    kind: type[attrs.AttrsInstance] = type(config)
    printed = to_toml(Settings(config, dict.fromkeys(options_of(kind), "x: \n y")))
    assert Sources(kind).combine(tomllib.loads(printed)).config == config


def test_every_option_is_printed_and_those_without_a_value_as_a_comment() -> None:
    """With its origin behind it."""
    lines = to_toml(read({"queue_size": 5}, {"TRIO_GW_ID": "gw"})).splitlines()
    assert "# gossip_port = (none)  # default" in lines
    assert "queue_size = 5  # gw.toml: queue_size" in lines
    assert 'id = "gw"  # TRIO_GW_ID' in lines
    named = {line.removeprefix("# ").partition(" = ")[0] for line in lines if " = " in line}
    assert named == {one.path[-1] for one in options_of(GatewayConfig).values()}


def test_json_has_every_option_with_its_origin() -> None:
    """Infinity is a text: JSON has no number for it."""
    shown = to_json(read(flags={"port": 0}))
    assert set(shown) == set(options_of(GatewayConfig))
    assert shown["port"] == {"value": 0, "from": "--port"}
    assert shown["limits.max_connection_age"] == {"value": "inf", "from": "default"}


def test_the_module_knows_no_environment_but_the_one_that_it_is_given() -> None:
    """So a test, or another program, may have its own."""
    assert "os" not in vars(module)
