"""How the demo makes a prompt belong to the replica that it wants to show. Pure.

The rule: no order is given to the gateway. Where a prompt belongs depends on the replicas' ids and its affinity key,
on nothing else (:mod:`inferencegw.policy.ring`), so that whoever knows the ids can choose the key; and in a cluster
that has little to do, a prompt goes where it belongs.
"""

from collections.abc import Iterable
from itertools import count

from inferencegw.policy.ring import HashRing, affinity_key

__all__ = ["key_for"]


def key_for(name: str, replicas: Iterable[str], model: str) -> str:
    """An affinity key whose prompts belong to ``name`` among ``replicas``, all of the same weight."""
    ring = HashRing()
    for replica in replicas:
        ring.add(replica)
    keys = (f"{name}#{number}" for number in count())
    return next(key for key in keys if next(ring.walk(affinity_key(key, model))) == name)
