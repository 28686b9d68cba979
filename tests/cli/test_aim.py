"""Prompts that belong where the demo wants them."""

import pytest

from inferencegw.cli._aim import key_for
from inferencegw.policy.ring import HashRing, affinity_key


@pytest.mark.parametrize("name", ["r1", "r2", "r3"])
def test_a_prompt_with_the_key_belongs_to_the_replica_that_it_was_chosen_for(name: str) -> None:
    """On the circle that every gateway has, whoever has come first."""
    key = key_for(name, ("r1", "r2", "r3"), "sim")
    ring = HashRing()
    for replica in ("r3", "r1", "r2"):
        ring.add(replica)
    assert next(ring.walk(affinity_key(key, "sim"))) == name
