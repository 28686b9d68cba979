"""``trio-gw ring``: where a call would go, and why not elsewhere."""

import pytest

from tests.cli.conftest import Command
from tests.cli.support import a_cluster, a_prompt_for, a_replica


async def test_an_idle_cluster_has_exact_affinity_and_says_so(command: Command) -> None:
    """The first on the ring takes it; all are shown, and their shares are the whole ring."""
    async with a_cluster(*map(a_replica, ("r1", "r2", "r3"))) as cluster:
        prompt = a_prompt_for(cluster, "r2")
        told = await command("ring", prompt, "--gateway", cluster.address, "--json")
        shown = await command("ring", prompt, "--gateway", cluster.address)
        tail = await command("ring", prompt.ljust(64) + "another end", "--gateway", cluster.address, "--json")
        same = await command("ring", prompt.ljust(64), "--gateway", cluster.address, "--json")
        key = await command("ring", "other", "--affinity-key", prompt, "--gateway", cluster.address, "--json")
    facts = told.document
    assert facts["pick"] == {"replica_id": "r2", "reason": "affinity"}
    assert facts["steps"][0]["replica_id"] == "r2"
    assert {step["replica_id"] for step in facts["steps"]} == {"r1", "r2", "r3"}
    assert {(step["reason"], step["load"], step["bound"], step["max_capacity"]) for step in facts["steps"]} == {
        (None, 0, 1, 4)
    }
    assert sum(step["share"] for step in facts["steps"]) == pytest.approx(1.0, abs=1e-5)
    assert facts["off_ring"] == {}
    assert shown.out.startswith("it would go to r2: affinity")
    assert [row[0] for row in shown.rows[2:]] == [step["replica_id"] for step in facts["steps"]]
    assert tail.document == same.document  # 64 characters decide
    assert key.document == facts


async def test_without_a_prompt_the_shares_are_shown_by_name(command: Command) -> None:
    """Nothing is picked and nobody is passed over."""
    async with a_cluster(*map(a_replica, ("r2", "r1"))) as cluster:
        told = await command("ring", "--gateway", cluster.address, "--json")
        shown = await command("ring", "--gateway", cluster.address)
    assert told.document["pick"] is None
    assert [(step["replica_id"], step["reason"]) for step in told.document["steps"]] == [("r1", None), ("r2", None)]
    assert shown.rows[0] == ["2", "replicas", "on", "the", "ring"]


async def test_who_is_passed_over_is_told_why(command: Command) -> None:
    """An open breaker on the ring, a draining replica off it; with nobody left, where it would not go."""
    replicas = (a_replica("r1"), a_replica("r2", reject_all=True), a_replica("r3"))
    async with a_cluster(*replicas, breaker_window=2, breaker_open=600.0) as cluster:
        ask = ("ring", a_prompt_for(cluster, "r2"), "--gateway", cluster.address, "--json")
        await command("generate", ask[1], "--gateway", cluster.address, "--max-tokens", "1")
        assert (await command("drain", "r3", "--gateway", cluster.address)).status == 0
        around = await command(*ask)
        for name in ("r1", "r2"):
            await command("drain", name, "--gateway", cluster.address)
        nowhere = await command(*ask)
        shown = await command(*ask[:-1])
    assert around.document["pick"] == {"replica_id": "r1", "reason": "bounded_load"}
    assert [(step["replica_id"], step["reason"]) for step in around.document["steps"]] == [
        ("r2", "breaker"),
        ("r1", None),
    ]
    assert around.document["off_ring"] == {"r3": "draining"}
    assert nowhere.document["pick"] == {"replica_id": None, "reason": "no_replica"}
    assert nowhere.document["off_ring"] == dict.fromkeys(("r1", "r2", "r3"), "draining")
    assert shown.out.startswith("it would go nowhere now: no_replica")


async def test_where_several_models_are_served_one_must_be_named(command: Command) -> None:
    """Status 1, and which there are; the ring of a model has only its own replicas."""
    async with a_cluster(a_replica("r1", model="a"), a_replica("r2", model="b")) as cluster:
        unnamed = await command("ring", "prompt", "--gateway", cluster.address)
        named = await command("ring", "prompt", "--model", "b", "--gateway", cluster.address, "--json")
        long = await command("ring", "prompt", "--model", "b" * 65, "--gateway", cluster.address)
    assert unnamed.status == long.status == 1
    assert unnamed.err == "trio-gw: error: INVALID_ARGUMENT: model is empty; it must be one of a, b\n"
    assert long.err == "trio-gw: error: INVALID_ARGUMENT: model is 65 bytes long; the limit is 64 bytes\n"
    assert named.document["pick"] == {"replica_id": "r2", "reason": "affinity"}
    assert [(step["replica_id"], step["share"]) for step in named.document["steps"]] == [("r2", 1.0)]
    assert named.document["off_ring"] == {}
