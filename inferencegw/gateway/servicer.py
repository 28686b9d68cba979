"""The front door: ``InferenceGateway.Infer``.

The rule: whatever ends a call, its trailers say how far it got, and a request that cannot be served is refused before
anything else is done about it.

``client_id`` is checked and, until clients are told apart, has no effect.
"""

import random
from collections.abc import Callable

from inferencegw.config import GatewayConfig
from inferencegw.gateway.call import Call
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.record import Records
from inferencegw.gateway.request import check
from inferencegw.gateway.tally import Tally
from inferencegw.policy.attempts import AttemptPlan
from inferencegw.policy.candidate import Process
from inferencegw.rpc import ServerCall
from inferencegw.v1 import gateway_grpc

__all__ = ["GatewayServicer"]


class GatewayServicer(gateway_grpc.InferenceGatewayServicer):
    """Hands calls to ``dispatcher``, and their ``records`` to whoever may ask for them.

    Args:
        config: how often a call may fail.
        dispatcher: runs them.
        records: where they are remembered.
        tally: where they are counted.
        rng: names those whose client did not, and draws jitter.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        config: GatewayConfig,
        dispatcher: Dispatcher,
        records: Records,
        tally: Tally,
        rng: random.Random,
        wall_clock: Callable[[], float],
    ) -> None:
        self._limits = config.attempts
        self._dispatcher = dispatcher
        self._records = records
        self._tally = tally
        self._rng = rng
        self._wall_clock = wall_clock

    async def Infer(self, rpc: ServerCall) -> None:
        """Deliver one generation."""
        plan: AttemptPlan[Process] = AttemptPlan(self._limits, self._rng)
        spare_id = f"{self._rng.getrandbits(128):032x}"
        call = Call.of(rpc, plan, spare_id=spare_id, wall_ms=int(self._wall_clock() * 1000))
        self._records.add(call.record)
        self._tally.begin()
        try:
            check(call.request)
            await self._dispatcher.deliver(call)
        except BaseException as error:
            call.write_trailers(error)
            raise
        else:
            call.write_trailers(None)
        finally:
            self._tally.end(call.record)
