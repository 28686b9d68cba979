"""``trio-gw ring``: where a call would go, and why not elsewhere."""

import pytest

from inferencegw.config import split_address
from inferencegw.policy.ring import HashRing, affinity_key
from inferencegw.rpc import Method, open_channel
from inferencegw.v1 import gateway_pb2
from tests.cli.conftest import Command
from tests.cli.support import Cluster, a_cluster, a_prompt_for, a_replica


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


# -- what if ----------------------------------------------------------------------------------------------------------

PROMPTS = [f"prompt number {number}" for number in range(40)]


def owners(**weights: float) -> list[str]:
    """Whom each of PROMPTS belongs to on a ring of these, by an account of our own."""
    ring = HashRing()
    for replica_id, weight in weights.items():
        ring.add(replica_id, weight)
    return [next(ring.walk(affinity_key(prompt, "m"))) for prompt in PROMPTS]


async def warm(cluster: Cluster, model: str = "") -> None:
    """Send each of PROMPTS to ``cluster``, and some of them twice."""
    host, port = split_address(cluster.address)
    infer = Method.of(gateway_pb2.DESCRIPTOR.services_by_name["InferenceGateway"], "Infer")
    async with open_channel(host, port) as channel:
        for prompt in [*PROMPTS, *PROMPTS[:7]]:
            request = gateway_pb2.InferRequest(prompt=prompt, max_tokens=1, model=model)
            async with channel.open_stream(infer, request) as stream:
                async for _ in stream.batches():
                    pass


@pytest.mark.parametrize(
    ("flags", "after"),
    [
        (["--add", "r5"], {"r1": 1, "r2": 1, "r3": 1, "r5": 1}),
        (["--remove", "r2"], {"r1": 1, "r3": 1}),
        (["--add", "r5", "--remove", "r2"], {"r1": 1, "r3": 1, "r5": 1}),
        (["--add", "r5", "--add", "r6", "--weight", "2"], {"r1": 1, "r2": 1, "r3": 1, "r5": 2, "r6": 2}),
        (["--remove", "r1", "--remove", "r2"], {"r3": 1}),
    ],
)
async def test_the_share_of_recent_prefixes_that_would_move_is_told(
    flags: list[str], after: dict[str, float], command: Command
) -> None:
    """Each prefix once, however often it came; who gains and who loses them; and the ring itself stays as it is."""
    async with a_cluster(*(a_replica(name, model="m") for name in ("r1", "r2", "r3"))) as cluster:
        await warm(cluster)
        asked = await command("ring", *flags, "--gateway", cluster.address, "--json")
        shown = await command("ring", *flags, "--gateway", cluster.address)
        plain = await command("ring", "--gateway", cluster.address, "--json")
        prompt = await command("ring", *flags, PROMPTS[0], "--gateway", cluster.address, "--json")
    pairs = list(zip(owners(r1=1, r2=1, r3=1), owners(**after), strict=True))
    moved = [(left, came) for left, came in pairs if left != came]
    change = asked.document["change"]
    assert (change["prefixes"], change["moved"]) == (40, len(moved))
    assert change["share"] == pytest.approx(len(moved) / 40, abs=1e-6)
    assert [(one["replica_id"], one["gained"], one["lost"]) for one in change["replicas"]] == [
        (name, [came for _, came in moved].count(name), [left for left, _ in moved].count(name))
        for name in sorted({"r1", "r2", "r3", *after})
    ]
    for one in change["replicas"]:
        assert (one["share"] > 0) == (one["replica_id"] in {"r1", "r2", "r3"})
        assert (one["share_after"] > 0) == (one["replica_id"] in after)
    assert f"{len(moved)} of 40 prefixes that came lately would move: {len(moved) / 40:.1%}" in shown.out.splitlines()
    assert plain.document == {**asked.document, "change": None}
    assert (prompt.document["pick"]["replica_id"], prompt.document["change"]) == (pairs[0][0], change)


async def test_a_replica_that_drains_would_come_back_with_its_own_weight(command: Command) -> None:
    """It is off the ring, so it can be added, and is known: what it has counts, where no other weight is given."""
    async with a_cluster(*(a_replica(name) for name in ("r1", "r2"))) as cluster:
        [two] = [one for one in cluster.gateway.pool.replicas if one.replica_id == "r2"]
        cluster.gateway.slots.fleet.reweigh(two, 3.0)  # as if the gossip had said so
        assert (await command("drain", "r2", "--gateway", cluster.address)).status == 0
        ask = ("ring", "--add", "r2", "--gateway", cluster.address)
        own = await command(*ask, "--json")
        lighter = await command(*ask, "--weight", "0.5", "--json")
        shown = await command(*ask)
    for told, weight in ((own, 3.0), (lighter, 0.5)):
        ring = HashRing()
        ring.add("r1")
        ring.add("r2", weight)
        shares = [(one["replica_id"], one["share_after"]) for one in told.document["change"]["replicas"]]
        assert shares == [(name, round(share, 6)) for name, share in ring.shares().items()]
    assert own.document["off_ring"] == {"r2": "draining"}
    assert (own.document["change"]["prefixes"], own.document["change"]["share"]) == (0, None)
    assert "no prefix came lately that could move" in shown.out.splitlines()


@pytest.mark.parametrize(
    ("flags", "status", "line"),
    [
        (["--remove", "r9"], 1, "NOT_FOUND: remove: no replica 'r9' is on the ring; there are r1, r2"),
        (
            ["--remove", "r1", "--remove", "r9"],
            1,
            "NOT_FOUND: remove: no replica 'r9' is on the ring; there are r1, r2",
        ),
        (["--add", "r5", "--add", "r1"], 1, "ALREADY_EXISTS: add: replica 'r1' is on the ring already"),
        (["--add", "r1", "--remove", "r1"], 1, "ALREADY_EXISTS: add: replica 'r1' is on the ring already"),
        (["--add", ""], 1, "INVALID_ARGUMENT: add: a name is 0 bytes long; it must be from 1 to 64 bytes long"),
        (
            ["--remove", "é" * 33],
            1,
            "INVALID_ARGUMENT: remove: a name is 66 bytes long; it must be from 1 to 64 bytes long",
        ),
        (["--add", "r5"] * 257, 1, "INVALID_ARGUMENT: add has 257 names; the limit is 256"),
        (["--add", "r5", "--weight", "nan"], 1, "INVALID_ARGUMENT: add_weight is nan; it must be from 0.001 to 1000"),
        (["--add", "r5", "--weight", "1001"], 1, "INVALID_ARGUMENT: add_weight is 1001; it must be from 0.001 to 1000"),
        (
            ["--add", "r5", "--add", "r6", "--weight", "501"],
            1,
            "INVALID_ARGUMENT: the weights that are added come to 1002; the limit is 1000",
        ),
        (["--add", "r5", "--weight", "0"], 2, "--weight 0: must be above 0"),
        (["--remove", "r1", "--weight", "2"], 2, "--weight 2: is of those that --add names"),
    ],
)
async def test_what_cannot_be_thought_of_is_refused_in_one_line(
    flags: list[str], status: int, line: str, command: Command
) -> None:
    """It names what was asked and what there is."""
    async with a_cluster(*(a_replica(name) for name in ("r1", "r2"))) as cluster:
        told = await command("ring", *flags, "--gateway", cluster.address)
    assert (told.status, told.out, told.err) == (status, "", f"trio-gw: error: {line}\n")


async def test_of_several_models_each_has_its_own_prefixes(command: Command) -> None:
    """A name must be on the ring of the model that is asked about; where nobody is, whoever comes has everything."""
    async with a_cluster(a_replica("r1", model="m"), a_replica("r2", model="n")) as cluster:
        await warm(cluster, model="m")
        other = await command("ring", "--model", "n", "--add", "r5", "--gateway", cluster.address, "--json")
        elsewhere = await command("ring", "--model", "m", "--remove", "r2", "--gateway", cluster.address)
        last = await command("ring", "--model", "m", "--remove", "r1", "--gateway", cluster.address, "--json")
        assert (await command("drain", "r1", "--gateway", cluster.address)).status == 0
        first = await command("ring", "--model", "m", "--add", "r5", "--gateway", cluster.address, "--json")
    assert other.document["change"]["prefixes"] == 0
    assert elsewhere.err == "trio-gw: error: NOT_FOUND: remove: no replica 'r2' is on the ring; there are r1\n"
    assert last.document["change"]["share"] == first.document["change"]["share"] == 1.0
    assert [(one["replica_id"], one["gained"], one["lost"]) for one in last.document["change"]["replicas"]] == [
        ("r1", 0, 40)
    ]
    assert [(one["replica_id"], one["gained"], one["lost"]) for one in first.document["change"]["replicas"]] == [
        ("r5", 40, 0)
    ]
