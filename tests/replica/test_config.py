"""ReplicaConfig: a bad value is named with what is allowed, before anything is started."""

from typing import Any

import pytest

from inferencegw.config import ReplicaConfig
from inferencegw.errors import ConfigError
from inferencegw.replica import Replica
from inferencegw.replica.app import plan_of, speed_of
from inferencegw.replica.faults import FaultPlan
from inferencegw.replica.generation import Speed


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_capacity": 0}, r"ReplicaConfig\.max_capacity = 0: must be a number from 1 to 65536 \(generations\)"),
        ({"port": 65_536}, r"ReplicaConfig\.port = 65536: must be a number from 0 to 65535"),
        ({"token_delay": -0.1}, r"ReplicaConfig\.token_delay = -0\.1: must be a number from 0 to 3600 \(seconds\)"),
        ({"jitter": 0.6}, r"ReplicaConfig\.jitter = 0\.6: must be a number from 0 to 0\.5"),
        ({"prefill": float("nan")}, r"ReplicaConfig\.prefill = nan: must be a number from 0 to 3600"),
        ({"error_rate": 1.5}, r"ReplicaConfig\.error_rate = 1\.5: must be a number from 0 to 1"),
        ({"id": "é" * 33}, r"ReplicaConfig\.id = '.*': must be 0 to 64 bytes long"),
        ({"id": "\udcff"}, r"ReplicaConfig\.id = '.*': must be 0 to 64 bytes long"),  # what no UTF-8 is read as
        ({"model": ""}, r"ReplicaConfig\.model = '': must be 1 to 64 bytes long"),
        ({"tls_cert": "c"}, r"tls_cert and tls_key: must be given together"),
        ({"tls_ca": "c"}, r"tls_ca = 'c': is of no use without tls_cert and tls_key"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(options: dict[str, Any], complaint: str) -> None:
    """The key, the value and what is allowed."""
    with pytest.raises(ConfigError, match=complaint):
        ReplicaConfig(**options)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"fault": "explode@3"}, "fault 'explode@3': must be one of"),
        ({"fault": "reject", "reject_all": True}, "fault 'reject': reject must not be given twice"),
        ({"fault": "error=0.1", "error_rate": 0.2}, r"fault 'error=0\.2': error must not be given twice"),
        ({"tls_cert": "nowhere.pem", "tls_key": "nowhere.pem"}, r"TLS certificate nowhere\.pem: cannot be read"),
    ],
)
def test_what_only_the_replica_can_tell_is_told_when_it_is_made(options: dict[str, Any], complaint: str) -> None:
    """Still a ConfigError, and still before anything is started."""
    with pytest.raises(ConfigError, match=complaint):
        Replica(ReplicaConfig(**options))


def test_the_switches_for_faults_join_the_plan() -> None:
    """``reject_all`` and ``error_rate`` are short for the faults of their names; the seed is the replica's."""
    config = ReplicaConfig(fault="slow=2", reject_all=True, error_rate=0.5, seed=7)
    assert plan_of(config) == FaultPlan.parse("slow=2,reject,error=0.5", seed=7)


def test_the_speed_is_as_configured() -> None:
    """Each number where it belongs."""
    config = ReplicaConfig(token_delay=1, jitter=0.2, prefill=3, prefill_per_token=0.4, seed=5)
    assert speed_of(config) == Speed(token_delay=1, jitter=0.2, prefill=3, prefill_per_token=0.4, seed=5)


def test_a_replica_without_a_name_is_called_by_its_address_where_that_lasts() -> None:
    """A port that the system chooses would be another one after a restart; then the name is new each time."""
    assert Replica(ReplicaConfig(id="r1")).id == "r1"
    assert Replica(ReplicaConfig(port=7001)).id == "127.0.0.1:7001"
    first, second = (Replica(ReplicaConfig(port=0)).id for _ in range(2))
    assert first != second
