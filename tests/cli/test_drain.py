"""``trio-gw drain`` and ``undrain``: a replica gets no new calls, finishes those it has, and comes back."""

from inferencegw.client import AsyncClient
from tests.cli.conftest import Command
from tests.cli.support import a_cluster, a_prompt_for, a_replica


async def test_a_drained_replica_gets_no_calls_until_it_is_undrained(command: Command) -> None:
    """The gateway that was asked routes past it at once; the prompt that was its own finds it again afterwards."""
    async with a_cluster(a_replica("r1"), a_replica("r2")) as cluster:
        to = ("--gateway", cluster.address)
        generate = ("generate", a_prompt_for(cluster, "r1"), "--max-tokens", "1", "--json", *to)
        drained = await command("drain", "r1", *to)
        await cluster.until_routed("r2")
        there = cluster.replicas["r1"].slots.draining
        status = await command("status", "--json", *to)
        elsewhere = await command(*generate)
        undrained = await command("undrain", "r1", *to)
        await cluster.until_routed("r1", "r2")
        back = await command(*generate)
    assert (drained.status, drained.out, there) == (0, "r1 drains; generations that run there: 0\n", True)
    assert [(one["id"], one["draining"], one["verdict"]) for one in status.document["replicas"]] == [
        ("r1", True, "healthy"),
        ("r2", False, "healthy"),
    ]
    assert '"replica_id": "r2"' in elsewhere.out
    assert (undrained.status, undrained.out) == (0, "r1 takes calls again\n")
    assert '"replica_id": "r1"' in back.out


async def test_what_runs_there_finishes_or_is_handed_over_when_the_time_is_up(command: Command) -> None:
    """A generation that is frozen goes on elsewhere after no time at all, and its client sees only another replica."""
    async with a_cluster(a_replica("r1", fault="freeze@2"), a_replica("r2")) as cluster:
        prompt = a_prompt_for(cluster, "r1")
        async with AsyncClient(cluster.address) as client, client.generate(prompt, max_tokens=4) as generation:
            tokens = [await anext(generation), await anext(generation)]
            drained = await command("drain", "r1", "--timeout", "0", "--json", "--gateway", cluster.address)
            tokens += [token async for token in generation]
    assert drained.document == {"replica_id": "r1", "active_requests": 1}
    assert [(token.index, token.replica_id) for token in tokens] == [(0, "r1"), (1, "r1"), (2, "r2"), (3, "r2")]


async def test_a_replica_that_is_not_there_is_one_line_with_those_that_are(command: Command) -> None:
    """Status 1; the same for both commands."""
    async with a_cluster(a_replica("r1"), a_replica("r2")) as cluster:
        for name in ("drain", "undrain"):
            result = await command(name, "r9", "--gateway", cluster.address)
            assert (result.status, result.out) == (1, "")
            assert result.err == "trio-gw: error: NOT_FOUND: no replica 'r9' is known; there are r1, r2\n"


async def test_what_the_replica_refuses_is_told_with_its_name(command: Command) -> None:
    """Status 1: the limits of a drain are the replica's."""
    async with a_cluster(a_replica("r1")) as cluster:
        result = await command("drain", "r1", "--timeout", "3601", "--gateway", cluster.address)
    problem = "timeout is 3601; it must be from 0 to 3600 (seconds)"
    assert (result.status, result.err) == (1, f"trio-gw: error: INVALID_ARGUMENT: replica r1: {problem}\n")
