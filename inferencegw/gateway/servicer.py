"""The front door: ``InferenceGateway.Infer``.

The rule: whatever ends a call, its trailers say how far it got, and a request that cannot be served is refused before
anything else is done about it.

``hedge`` is taken as a wish, whatever its value: until hedging is built, every call is a plain call, and it keeps every
promise that a hedged one would, except the shorter wait for the first token. ``affinity_key`` and ``client_id`` are
checked and, until there is affinity and fairness, have no effect.
"""

import random

from inferencegw.gateway.call import Call
from inferencegw.gateway.dispatcher import Dispatcher
from inferencegw.gateway.request import check
from inferencegw.rpc import ServerCall
from inferencegw.v1 import gateway_grpc

__all__ = ["GatewayServicer"]


class GatewayServicer(gateway_grpc.InferenceGatewayServicer):
    """Hands calls to ``dispatcher``; ``rng`` names those whose client did not."""

    def __init__(self, dispatcher: Dispatcher, rng: random.Random) -> None:
        self._dispatcher = dispatcher
        self._rng = rng

    async def Infer(self, rpc: ServerCall) -> None:
        """Deliver one generation."""
        call = Call.of(rpc, spare_id=f"{self._rng.getrandbits(128):032x}")
        try:
            check(call.request)
            await self._dispatcher.deliver(call)
        except BaseException as error:
            call.write_trailers(error)
            raise
        call.write_trailers(None)
