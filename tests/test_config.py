"""config.py: what cannot work is refused at construction, by name; what can is taken as it is."""

import re
from typing import Any

import pytest

from inferencegw.config import GatewayConfig, ReplicaConfig, split_address
from inferencegw.errors import ConfigError


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
