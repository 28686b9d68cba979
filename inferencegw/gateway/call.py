"""One client's call, from the request to the trailers: what every part that works on it knows of it.

The rule: whatever ends the call, and whenever, its trailing metadata can be written from here without asking anyone.
"""

import attrs
import trio

from inferencegw.errors import RpcError
from inferencegw.gateway.request import is_request_id
from inferencegw.policy.ledger import TokenLedger
from inferencegw.policy.outcome import reason_of
from inferencegw.rpc import ServerCall
from inferencegw.v1 import gateway_pb2

__all__ = ["Call"]


@attrs.define(eq=False)
class Call:
    """One accepted ``InferRequest``.

    Attributes:
        rpc: the client's end.
        request: what it asks for.
        request_id: the client's name for it, or ours.
        arrived: when it came, on trio's clock.
        ledger: what has been delivered of it.
        attempts: attempts so far; a replica's refusal is none.
        queued: seconds it has waited for a replica, once it has had one.
        give_up_at: when it stops waiting for a replica to appear; set when it first has to.
    """

    rpc: ServerCall
    request: gateway_pb2.InferRequest
    request_id: str
    arrived: float
    ledger: TokenLedger
    attempts: int = 0
    queued: float | None = None
    give_up_at: float | None = None

    @classmethod
    def of(cls, rpc: ServerCall, *, spare_id: str) -> "Call":
        """The call that ``rpc`` brings; ``spare_id`` names it if the client did not, or not usably."""
        request = rpc.request
        request_id = request.request_id if is_request_id(request.request_id) else spare_id
        ledger = TokenLedger(request.resume_offset, request.max_tokens)
        call = cls(rpc, request, request_id, trio.current_time(), ledger)
        # Goes out with the first token: headers before it would commit the call and forbid retries (gRPC A6).
        rpc.initial_metadata.append(("gw-request-id", request_id))
        return call

    def lease_granted(self) -> None:
        """A replica has been found: the waiting is over. A later lease of the same call does not count as waiting."""
        if self.queued is None:
            self.queued = trio.current_time() - self.arrived

    def write_trailers(self, error: BaseException | None) -> None:
        """Say how far the call got and, if ``error`` ended it, why; an RpcError brings its own ``gw-reason``."""
        queued = trio.current_time() - self.arrived if self.queued is None else self.queued
        trailers = self.rpc.trailing_metadata
        trailers += [
            ("gw-request-id", self.request_id),
            ("gw-delivered", str(self.ledger.delivered)),
            ("gw-next-index", str(self.ledger.resume_index)),
            ("gw-digest", f"{self.ledger.digest:08x}"),
            ("gw-attempts", str(self.attempts)),
            ("gw-splices", ""),
            ("gw-queue-ms", str(round(queued * 1000))),
        ]
        if isinstance(error, trio.Cancelled):
            # By the client, the connection or the deadline; only in the last case is anybody left to read this.
            trailers.append(("gw-reason", "deadline"))
        elif error is not None and not (isinstance(error, RpcError) and reason_of(error)):
            trailers.append(("gw-reason", "internal"))
