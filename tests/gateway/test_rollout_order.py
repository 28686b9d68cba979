"""gateway/rollout_order.py: what may be asked for, and what that means after another rollout."""

import math
from typing import Any

import attrs
import pytest

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.rollout_file import RolloutState
from inferencegw.gateway.rollout_order import RolloutOrder
from inferencegw.gateway.tally import Count
from inferencegw.v1.admin_pb2 import RolloutRequest

BEGUN: dict[str, Any] = {"before": {"r1": "v1"}, "counts": {"g1": Count(1)}, "now_ms": 7}


def test_what_is_not_said_is_as_the_proto_has_it() -> None:
    """Thirty seconds to drain, ten to come back; 0 is a word."""
    state = RolloutOrder.of(RolloutRequest(model_version="v2")).over(None, **BEGUN)
    assert (state.version, state.drain_timeout, state.rejoin_timeout, state.only) == ("v2", 30.0, 10.0, ())
    assert (state.before, state.counts, state.began_at_ms) == (BEGUN["before"], BEGUN["counts"], 7)
    zero = RolloutOrder.of(RolloutRequest(model_version="v2", drain_timeout=0.0, max_unavailable=1))
    assert zero.over(None, **BEGUN).drain_timeout == 0.0


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "model_version is empty; only resume and rollback may leave it out"),
        ({"model_version": "v" * 65}, "model_version is too long; it must be 1 to 64 bytes long"),
        (
            {"model_version": "v2", "max_unavailable": 2},
            "max_unavailable is 2; it must be 1: one replica is out at a time",
        ),
        ({"model_version": "v2", "resume": True, "rollback": True}, "resume and rollback are both set; "),
        ({"model_version": "v2", "drain_timeout": -1.0}, "drain_timeout is -1; it must be from 0 to 3600 (seconds)"),
        ({"model_version": "v2", "drain_timeout": math.nan}, "drain_timeout is nan; "),
        ({"model_version": "v2", "rejoin_timeout": 0.0}, "rejoin_timeout is 0; it must be from 0.1 to 3600 (seconds)"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], problem: str) -> None:
    """INVALID_ARGUMENT, before anything is done."""
    with pytest.raises(RpcError) as caught:
        RolloutOrder.of(RolloutRequest(**fields))
    assert caught.value.code is StatusCode.INVALID_ARGUMENT
    assert caught.value.message.startswith(problem)


STOPPED = RolloutState(
    version="v2",
    before={"r1": "v1", "r2": "v1", "r3": "v0"},
    only=("r1", "r3"),
    drain_timeout=5.0,
    rejoin_timeout=60.0,
    manager="127.0.0.1:9",
    phase="stop",
    in_hand="r1",
    reason="because",
    began_at_ms=3,
    counts={"g1": Count(1, 2, 3, 4, 5)},
)


def test_a_resumed_rollout_is_what_it_was() -> None:
    """Whom it is about, how patient it is, who stops and starts them, and where its receipt began."""
    assert RolloutOrder(resume=True).over(STOPPED, **BEGUN) == STOPPED


def test_what_is_said_again_counts() -> None:
    """The rest is as it was."""
    order = RolloutOrder(resume=True, only=("r3",), drain_timeout=0.0, rejoin_timeout=1.0, manager="127.0.0.1:8")
    said: dict[str, Any] = {"only": ("r3",), "drain_timeout": 0.0, "rejoin_timeout": 1.0, "manager": "127.0.0.1:8"}
    assert order.over(STOPPED, **BEGUN) == attrs.evolve(STOPPED, **said)


def test_a_resumed_rollout_may_go_to_another_version() -> None:
    """What there was before the first one is not forgotten; what single ones were to serve is."""
    saved = attrs.evolve(STOPPED, targets={"r3": "v0"})
    assert RolloutOrder(resume=True).over(saved, **BEGUN).targets == {"r3": "v0"}
    assert RolloutOrder(resume=True, version="v3").over(saved, **BEGUN) == attrs.evolve(saved, version="v3", targets={})


def test_a_rollback_is_about_the_same_replicas_and_counts_from_now() -> None:
    """Each gets its own version back, or all that were named the one that is said."""
    back = RolloutOrder(rollback=True).over(STOPPED, **BEGUN)
    assert (back.version, back.targets, back.before) == ("v1", STOPPED.before, STOPPED.before)
    assert (back.only, back.in_hand, back.began_at_ms) == (("r1", "r3"), "r1", 7)
    to = RolloutOrder(rollback=True, version="v9").over(STOPPED, **BEGUN)
    assert (to.version, to.targets) == ("v9", {})


def test_none_is_begun_over_one_that_is_not_finished() -> None:
    """What a rollback needs would be lost; FAILED_PRECONDITION says what can be done."""
    with pytest.raises(RpcError) as caught:
        RolloutOrder(version="v3").over(STOPPED, **BEGUN)
    assert caught.value.code is StatusCode.FAILED_PRECONDITION
    assert caught.value.message == (
        "a rollout to v2 is not finished (stop: because): --resume goes on with it, --rollback undoes it"
    )
    finished = attrs.evolve(STOPPED, phase="finished")
    assert RolloutOrder(version="v3").over(finished, **BEGUN).before == {"r1": "v1"}


@pytest.mark.parametrize("order", [RolloutOrder(resume=True), RolloutOrder(rollback=True)])
def test_where_nothing_is_remembered_the_version_has_to_be_said(order: RolloutOrder) -> None:
    """It says so, and where it would be remembered."""
    with pytest.raises(RpcError) as caught:
        order.over(None, **BEGUN)
    assert caught.value.code is StatusCode.FAILED_PRECONDITION
    assert caught.value.message == "nothing is remembered here (trio-gw run --state-dir): say which version"
