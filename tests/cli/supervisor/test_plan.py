"""Who is in a cluster, and with which command line each of them starts."""

import pytest

from inferencegw.cli.supervisor.plan import Plan

PLAN = Plan(
    gateways=2,
    replicas=3,
    port=8080,
    gossip_port=18080,
    common=("--all", "1"),
    gateway_flags=("--slow-start", "1"),
    replica_flags=("--model", "m"),
)


def test_everybody_has_a_name_with_a_number() -> None:
    """Gateways first."""
    assert PLAN.names == ["g1", "g2", "r1", "r2", "r3"]


def test_the_ports_of_gateways_follow_the_first_one_s() -> None:
    """And flags for all stand beside those for gateways."""
    assert PLAN.gateway(1, {}, ["127.0.0.1:5", "127.0.0.1:6"]) == [
        *("run", "--id", "g2", "--port", "8081", "--gossip-port", "18081"),
        *("--join", "127.0.0.1:5", "--join", "127.0.0.1:6", "--all", "1", "--slow-start", "1"),
    ]


@pytest.mark.parametrize("port", [0, 8080])
def test_a_gateway_that_is_started_again_keeps_its_ports(port: int) -> None:
    """Those that it had, which were free ones or not."""
    plan = Plan(gateways=1, replicas=1, port=port, gossip_port=port)
    earlier = {"grpc": "127.0.0.1:4001", "gossip": "127.0.0.1:4002"}
    assert plan.gateway(0, earlier, []) == ["run", "--id", "g1", "--port", "4001", "--gossip-port", "4002"]


def test_gateways_serve_http_where_a_port_is_given_and_keep_it() -> None:
    """The ports follow the first one's, as all do."""
    plan = Plan(gateways=2, replicas=1, port=8080, gossip_port=18080, http_port=29000)
    assert plan.gateway(1, {}, [])[-2:] == ["--http-port", "29001"]
    assert plan.gateway(1, {"http": "127.0.0.1:4003"}, [])[-2:] == ["--http-port", "4003"]
    assert "--http-port" not in PLAN.gateway(1, {}, [])


def test_without_ports_gateways_take_free_ones() -> None:
    """Each of them: 0 and the next one is not 1."""
    plan = Plan(gateways=2, replicas=1)
    assert plan.gateway(1, {}, []) == ["run", "--id", "g2", "--port", "0", "--gossip-port", "0"]


def test_a_replica_takes_free_ports_and_has_a_version() -> None:
    """The version is for whoever starts it to say. An address is joined once, whoever is there."""
    assert PLAN.replica("r2", "v7", ["127.0.0.1:5", "127.0.0.1:5"]) == [
        *("replica", "--id", "r2", "--port", "0", "--gossip-port", "0", "--join", "127.0.0.1:5"),
        *("--all", "1", "--model", "m", "--model-version=v7"),
    ]
