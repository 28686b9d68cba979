"""Where a call would go at this moment, and why not elsewhere: for ``trio-gw ring``.

The rule: the picker itself is asked, about the request that the dispatcher would make of such a call. Asking changes
nothing, not even the dice: those of a lookup are its own.
"""

import random

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.request import check
from inferencegw.gateway.slots import Replica
from inferencegw.policy.fleet import Fleet
from inferencegw.policy.picker import Look, Pick, Picker, Request
from inferencegw.policy.ring import PREFIX_CHARACTERS, affinity_key
from inferencegw.v1 import admin_pb2, gateway_pb2

__all__ = ["lookup", "model_of"]


def model_of(request: admin_pb2.LookupRequest, fleet: Fleet[Replica]) -> str:
    """Which model is asked about; "" where nothing is served.

    Raises:
        RpcError: INVALID_ARGUMENT: no call could be made so.
    """
    call = gateway_pb2.InferRequest(model=request.model, affinity_key=request.affinity_key, max_tokens=1)
    call.prompt = request.prompt or "any"
    check(call)
    models = sorted(fleet.models)
    if not request.model and len(models) > 1:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"model is empty; it must be one of {', '.join(models)}")
    return request.model or "".join(models)


def lookup(request: admin_pb2.LookupRequest, model: str, fleet: Fleet[Replica], now: float) -> admin_pb2.LookupResponse:
    """The choice, and what there is to say of every replica that serves ``model``."""
    asked = bool(request.affinity_key or request.prompt)
    key = affinity_key(request.affinity_key or request.prompt[:PREFIX_CHARACTERS], model)
    wanted = Request(key=key, model=model)
    picker = Picker(fleet, random.Random(0))  # noqa: S311 - nothing here is a secret
    answer = admin_pb2.LookupResponse()
    looks = picker.survey(wanted, now)
    if asked:
        pick = picker.pick(wanted, now)
        answer.pick.reason = pick.reason.value if isinstance(pick, Pick) else pick.value
        answer.pick.replica_id = pick.replica.replica_id if isinstance(pick, Pick) else ""
    else:
        looks.sort(key=lambda look: look.replica.replica_id)
    group = fleet.group(model, now)
    shares = {} if group is None else group.ring.shares()
    answer.steps.extend(_step(look, shares[look.replica.replica_id], asked=asked) for look in looks)
    return answer


def _step(look: Look[Replica], share: float, *, asked: bool) -> admin_pb2.RingStep:
    replica = look.replica
    return admin_pb2.RingStep(
        replica_id=replica.replica_id,
        share=share,
        reason=look.skip.value if asked and look.skip is not None else "",
        load=replica.load,
        bound=look.bound,
        inflight=replica.leases,
        max_capacity=replica.max_capacity,
    )
