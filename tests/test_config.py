"""config.py: what cannot work is refused at construction, by name; what can is taken as it is."""

import re
from typing import Any

import pytest

from inferencegw.config import GatewayConfig, ReplicaConfig, is_address, is_loopback, split_address
from inferencegw.errors import ConfigError
from inferencegw.swim.config import PROFILES


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:50051", ("127.0.0.1", 50_051)),
        ("replica-0.replicas.default.svc:1", ("replica-0.replicas.default.svc", 1)),
        ("[::1]:65535", ("::1", 65_535)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    """Names, IPv4 and, in brackets, IPv6."""
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        ":1",
        "host:",
        "host:0",
        "host:65536",
        "host:-1",
        "host:http",
        "host:1 ",
        "::1:80",
        "[]:1",
        "a..b:1",
        " :1",
    ],
)
def test_what_is_no_address_is_refused_by_its_text(address: str) -> None:
    """The message shows what came and what is wanted."""
    with pytest.raises(ConfigError, match=re.escape(f"address = {address!r}: must be HOST:PORT")):
        split_address(address)


def test_a_gateway_has_working_defaults() -> None:
    """Nothing needs to be said; the ports and times are the documented ones."""
    config = GatewayConfig()
    assert (config.host, config.port, config.replicas) == ("127.0.0.1", 8080, ())
    assert (config.drain_timeout, config.no_replica_grace) == (30.0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 65_536}, "GatewayConfig.port = 65536"),
        ({"drain_timeout": -1}, "GatewayConfig.drain_timeout = -1"),
        ({"drain_timeout": float("nan")}, "GatewayConfig.drain_timeout = nan"),
        ({"no_replica_grace": "1"}, "GatewayConfig.no_replica_grace = '1'"),
        ({"replicas": ["a:1", "b"]}, "address = 'b': must be HOST:PORT"),
        ({"replicas": ["a:1", "b:1", "a:1"]}, "GatewayConfig.replicas names 'a:1' twice"),
        ({"tls_cert": "cert.pem"}, "GatewayConfig.tls_cert and tls_key: must be given together"),
        ({"tls_key": "key.pem"}, "GatewayConfig.tls_cert and tls_key: must be given together"),
    ],
)
def test_a_gateway_that_could_not_work_is_refused(options: dict[str, Any], message: str) -> None:
    """By the key, the value and what is allowed."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        GatewayConfig(**options)


@pytest.mark.parametrize(
    ("host", "address", "loopback"),
    [
        ("127.0.0.1", True, True),
        ("::1", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("fe80::1%eth0", True, False),
        ("10.0.0.1", True, False),
        ("localhost", False, False),
        ("1.2.3", False, False),
        ("", False, False),
    ],
)
def test_addresses_are_told_from_names_and_loopback_from_the_rest(host: str, address: bool, loopback: bool) -> None:
    """By the figures alone."""
    assert (is_address(host), is_loopback(host)) == (address, loopback)


@pytest.mark.parametrize(
    ("options", "gossips"),
    [({}, False), ({"gossip_port": 0}, True), ({"join": ["a:1"]}, True), ({"gossip_port": 1, "join": ["a:1"]}, True)],
)
def test_gossip_is_for_who_asks_for_it(options: dict[str, Any], gossips: bool) -> None:
    """By a port for it or by somebody to join."""
    for config in (GatewayConfig(**options), ReplicaConfig(**options)):
        assert config.gossips is gossips
        assert config.swim is PROFILES["gateway"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gossip_port": -1}, "gossip_port = -1: must be a number from 0 to 65535"),
        ({"join": ["a"]}, "address = 'a': must be HOST:PORT"),
        ({"join": ["a:1", "a:1"]}, "join names 'a:1' twice"),
        ({"advertise": "a"}, "advertise = 'a': is of no use without gossip_port or join"),
        ({"keyring_file": "k"}, "keyring_file = 'k': is of no use without gossip_port or join"),
        ({"cluster": "c"}, "cluster = 'c': is of no use without gossip_port or join"),
        ({"gossip_profile": "fast"}, "gossip_profile = 'fast': is of no use without gossip_port or join"),
        ({"gossip_port": 0, "advertise": ""}, "advertise = '': must be a HOST"),
        ({"gossip_port": 0, "advertise": "a:1"}, "advertise = 'a:1': must be a HOST, without a port"),
        ({"gossip_port": 0, "advertise": "a" * 65}, "must be a HOST"),
        ({"id": "x" * 65}, "id = 'xxx"),
        ({"cluster": "x" * 65}, "cluster = 'xxx"),
        ({"gossip_profile": "slow"}, "gossip_profile = 'slow': must be one of lan, gateway, fast, seed"),
    ],
)
def test_gossip_that_could_not_work_is_refused(options: dict[str, Any], message: str) -> None:
    """Alike on both kinds of servers."""
    for config in (GatewayConfig, ReplicaConfig):
        with pytest.raises(ConfigError, match=re.escape(message)):
            config(**options)


@pytest.mark.parametrize("config", [GatewayConfig, ReplicaConfig])
@pytest.mark.parametrize("host", ["", " ", "a b", "a..b", "x" * 70, "a\0b", None])
def test_a_host_that_cannot_be_looked_up_is_refused(config: type[GatewayConfig | ReplicaConfig], host: Any) -> None:
    """By the configuration: the resolver would raise UnicodeError, or find nothing and say no more than that."""
    message = f"{config.__name__}.host = {host!r}: must be an IP address or a name that can be looked up"
    with pytest.raises(ConfigError, match=re.escape(message)):
        config(host=host)


@pytest.mark.parametrize("config", [GatewayConfig, ReplicaConfig])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "fe80::1%eth0", "localhost", "bücher.example", "example.org."])
def test_a_host_is_a_name_or_an_address(config: type[GatewayConfig | ReplicaConfig], host: str) -> None:
    """Kept as it was given."""
    assert config(host=host).host == host
