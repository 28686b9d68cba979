"""What a reload changes in a gateway that runs: what says that it can change reaches who goes by it."""

import random
from typing import Any, Final

import pytest
import trio
import trio.testing

from inferencegw.config import GatewayConfig
from inferencegw.errors import RpcError
from inferencegw.gateway import Gateway
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.flight import Flights
from inferencegw.gateway.servicer import GatewayServicer
from inferencegw.settings.live import Changes
from inferencegw.settings.options import options_of
from inferencegw.v1 import gateway_pb2
from tests.gateway.parts import Caller, a_call, gate_of, replica, slots_of

NEW: Final[dict[str, Any]] = {"hedge": "race", "splice": "same-version", "log_level": "error"}

RELOADABLE: Final = [key for key, option in options_of(GatewayConfig).items() if option.reloadable]


def new_value(key: str) -> Any:
    """Another than the default."""
    return NEW[key] if key in NEW else getattr(GatewayConfig(), key) + 1


async def test_every_option_that_can_change_reaches_who_goes_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, in a gateway that runs. ``log_level`` is the process's, and so is who changes it."""
    made: list[Any] = []
    for kind in (Dispatcher, Flights, GatewayServicer):
        monkeypatch.setattr(f"inferencegw.gateway.app.{kind.__name__}", _noting(kind, made))
    gateway = Gateway(GatewayConfig(port=0), rng=random.Random(0))
    wanted = GatewayConfig(port=0, **{key: new_value(key) for key in RELOADABLE})
    async with trio.open_nursery() as nursery:
        await nursery.start(gateway.run)
        assert gateway.reload(wanted) == Changes(tuple(RELOADABLE), ())
        nursery.cancel_scope.cancel()
    dispatcher, flights, front = made
    assert gateway.config == wanted
    # Read when it is needed: by the drain, the pool's sessions and each attempt.
    assert gateway.pool._config == dispatcher._config == wanted
    gate, silence = gateway.gate, dispatcher.stalls.limits
    assert (gate._queue._size, gate._queue_timeout, gate._grace) == (101, 31.0, 2.0)
    assert (silence.first_token, silence.inter_token, silence.client) == (61.0, 31.0, 61.0)
    assert dispatcher._hedging._default == gateway_pb2.HEDGE_RACE
    assert front._limits == wanted.attempts
    assert flights.grace == 3.0
    read = "drain_timeout connect_timeout reconnect_initial reconnect_maximum draining_recheck splice log_level"
    named = (
        "queue_size queue_timeout no_replica_grace first_token_timeout inter_token_timeout client_stall_timeout hedge"
    )
    attempts = "max_attempts max_attempts_total poison_limit resume_grace"
    assert set(RELOADABLE) == {*read.split(), *named.split(), *attempts.split()}, "a new one belongs above"


def _noting(kind: Any, made: list[Any]) -> Any:
    def make(*arguments: Any, **options: Any) -> Any:
        made.append(kind(*arguments, **options))
        return made[-1]

    return make


async def test_who_waits_for_a_slot_goes_by_the_new_bounds(autojump_clock: trio.testing.MockClock) -> None:
    """A shorter time counts from when the call came; a shorter queue refuses those that come, not those that wait."""
    gate = gate_of(slots_of(replica("a", max_capacity=1)))
    async with trio.open_nursery() as nursery:
        callers = [Caller(a_call()) for _ in range(3)]
        for caller in callers:
            nursery.start_soon(caller.run, gate)
            await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await trio.sleep(2)
        gate.reconfigure(queue_size=0, queue_timeout=5.0, no_replica_grace=1.0)
        await trio.testing.wait_all_tasks_blocked()
        assert gate.waiting == 2
        newcomer = Caller(a_call())
        await newcomer.run(gate)
        assert isinstance(newcomer.error, RpcError)
        assert "0 wait for this model" in str(newcomer.error)
    assert trio.current_time() - start == pytest.approx(5.0)
    served, *waited = callers
    assert served.lease is not None
    assert ["no slot was free for 5 s" in str(one.error) for one in waited] == [True, True]
