"""The front door: ``InferenceGateway.Infer``.

The rule: whatever ends a call, its trailers say how far it got, and a request that cannot be served is refused before
anything else is done about it. A call that its client has named may be taken up again
(:mod:`~inferencegw.gateway.flight`); any other one lives and dies with its stream.

``client_id`` is checked and has no effect: who a client is, its key says (:mod:`inferencegw.gateway.guard`).
"""

import random
from collections.abc import Callable

from inferencegw.config import GatewayConfig
from inferencegw.errors import RpcError
from inferencegw.gateway.call import Call, Outlet
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.flight import Flights
from inferencegw.gateway.record import Records
from inferencegw.gateway.request import check, is_sound
from inferencegw.gateway.tally import Tally
from inferencegw.policy.attempts import AttemptPlan
from inferencegw.policy.candidate import Process
from inferencegw.rpc import ServerCall
from inferencegw.telemetry.log import name_call
from inferencegw.v1 import gateway_grpc
from inferencegw.v1.gateway_pb2 import InferRequest

__all__ = ["GatewayServicer"]


class GatewayServicer(gateway_grpc.InferenceGatewayServicer):
    """Hands calls to ``dispatcher``, and their ``records`` to whoever may ask for them.

    Args:
        config: how often a call may fail.
        dispatcher: runs them.
        flights: those that their clients have named.
        records: where they are remembered.
        tally: where they are counted.
        rng: names those whose client did not, and draws jitter.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        config: GatewayConfig,
        dispatcher: Dispatcher,
        flights: Flights,
        records: Records,
        tally: Tally,
        rng: random.Random,
        wall_clock: Callable[[], float],
    ) -> None:
        self._limits = config.attempts
        self._dispatcher = dispatcher
        self._flights = flights
        self._records = records
        self._tally = tally
        self._rng = rng
        self._wall_clock = wall_clock

    def reconfigure(self, config: GatewayConfig) -> None:
        """Let calls that begin from now on fail as often as ``config`` says."""
        self._limits = config.attempts

    async def Infer(self, rpc: ServerCall) -> None:
        """Deliver one generation."""
        request: InferRequest = rpc.request
        if request.request_id and is_sound(request):
            await self._deliver_named(rpc)
            return
        call = self._begin(rpc, request)
        name_call(call.request_id)
        # Goes out with the first token: headers before it would commit the call and forbid retries (gRPC A6).
        rpc.initial_metadata.append(("gw-request-id", call.request_id))
        try:
            check(request)
            await self._dispatcher.deliver(call)
        except BaseException as error:
            call.write_trailers(rpc, error)
            raise
        else:
            call.write_trailers(rpc, None)
        finally:
            self._tally.end(call.record)

    async def _deliver_named(self, rpc: ServerCall) -> None:
        request: InferRequest = rpc.request
        name_call(request.request_id)
        try:
            flight = self._flights.claim(rpc, lambda flight: self._begin(flight, request))
        except RpcError as error:
            # Of two calls of one name the later one is remembered; a refused one is not worth that.
            refused = self._call(rpc, request)
            self._tally.begin()
            refused.write_trailers(rpc, error)
            self._tally.end(refused.record)
            raise
        await flight.deliver(rpc)

    def _begin(self, outlet: Outlet, request: InferRequest) -> Call:
        call = self._call(outlet, request)
        self._records.add(call.record)
        self._tally.begin()
        return call

    def _call(self, outlet: Outlet, request: InferRequest) -> Call:
        plan: AttemptPlan[Process] = AttemptPlan(self._limits, self._rng)
        spare_id = f"{self._rng.getrandbits(128):032x}"
        return Call.of(outlet, request, plan, spare_id=spare_id, wall_ms=int(self._wall_clock() * 1000))
