"""Where a call would go at this moment, why not elsewhere, and what another ring would change: for ``trio-gw ring``.

The rule: the picker itself is asked, about the request that the dispatcher would make of such a call. Asking changes
nothing, not even the dice: those of a lookup are its own, and so is the ring that it thinks of.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from inferencegw.errors import RpcError, StatusCode
from inferencegw.gateway.request import check, invalid
from inferencegw.gateway.slots import Replica
from inferencegw.policy.fleet import Fleet, Group
from inferencegw.policy.picker import Look, Pick, Picker, Request
from inferencegw.policy.prefixes import moves
from inferencegw.policy.ring import PREFIX_CHARACTERS, HashRing, affinity_key
from inferencegw.v1 import admin_pb2, gateway_pb2

__all__ = ["change", "lookup", "model_of"]

MAX_CHANGED: Final = 256
"""Replicas that may be thought of as added, or as removed. High: a lookup holds up all calls. Low: no large change."""

MAX_NAME_BYTES: Final = 64
LEAST_WEIGHT: Final = 0.001
MOST_WEIGHT: Final = 1000.0
"""Weight that may be added in all, as much as one replica may have; and the least. Each unit is 150 points to hash."""


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
        raise invalid(f"model is empty; it must be one of {', '.join(models)}")
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


def change(
    request: admin_pb2.LookupRequest,
    group: Group[Replica] | None,
    weights: Mapping[str, float],
    keys: Sequence[int],
) -> admin_pb2.RingChange:
    """What would be if the replicas to be added were in ``group``, and those to be removed were not.

    Args:
        request: which they are.
        group: who is on the ring; None is nobody.
        weights: of those that are known, on the ring or not, by id; 0 where that is not known.
        keys: the places of prefixes that came lately.

    Raises:
        RpcError: INVALID_ARGUMENT: a limit; ALREADY_EXISTS, NOT_FOUND: one is on the ring already, or is not.
    """
    before = HashRing() if group is None else group.ring
    _check_names("add", request.add)
    _check_names("remove", request.remove)
    for replica_id in request.add:
        if replica_id in before:
            raise RpcError(StatusCode.ALREADY_EXISTS, f"add: replica {replica_id!r} is on the ring already")
    for replica_id in request.remove:
        if replica_id not in before:
            others = "" if group is None else f"; there are {', '.join(sorted(group.members))}"
            raise RpcError(StatusCode.NOT_FOUND, f"remove: no replica {replica_id!r} is on the ring{others}")
    add = {one: request.add_weight or weights.get(one) or 1.0 for one in request.add}
    _check_weights(add)
    after = before.changed(add=add, remove=request.remove)
    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for (left, came), count in moves(before, after, keys).items():
        lost[left] += count
        gained[came] += count
    shares, shares_after = before.shares(), after.shares()
    shifts = [
        admin_pb2.RingShift(
            replica_id=one,
            share=shares.get(one, 0.0),
            share_after=shares_after.get(one, 0.0),
            gained=gained[one],
            lost=lost[one],
        )
        for one in sorted(shares.keys() | shares_after.keys())
    ]
    return admin_pb2.RingChange(prefixes=len(keys), moved=lost.total(), shifts=shifts)


def _check_names(field: str, names: Sequence[str]) -> None:
    if len(names) > MAX_CHANGED:
        raise invalid(f"{field} has {len(names)} names; the limit is {MAX_CHANGED}")
    for name in names:
        size = len(name.encode())
        if not 1 <= size <= MAX_NAME_BYTES:
            raise invalid(f"{field}: a name is {size} bytes long; it must be from 1 to {MAX_NAME_BYTES} bytes long")


def _check_weights(weights: Mapping[str, float]) -> None:
    for weight in weights.values():
        if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:  # this way round, because NaN must fail too
            raise invalid(f"add_weight is {weight:g}; it must be from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}")
    if sum(weights.values()) > MOST_WEIGHT:
        raise invalid(f"the weights that are added come to {sum(weights.values()):g}; the limit is {MOST_WEIGHT:g}")


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
