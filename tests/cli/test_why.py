"""``trio-gw why``: the story of one call, for people and for scripts."""

import json

import trio

from inferencegw.cli.why import events_of, facts_of
from inferencegw.client import AsyncClient
from inferencegw.v1 import admin_pb2
from tests.cli.conftest import Command
from tests.cli.support import a_cluster, a_prompt_for, a_replica


async def test_a_call_that_changed_its_replica_is_told_step_by_step(command: Command) -> None:
    """The pick and why, the attempt that broke, the one that went on from the next token, and how it all ended."""
    async with a_cluster(a_replica("r1", fault="truncate@3"), a_replica("r2")) as cluster:
        prompt = a_prompt_for(cluster, "r1")
        generated = await command("generate", prompt, "--gateway", cluster.address, "--max-tokens", "5", "--json")
        [*_tokens, end] = map(json.loads, generated.out.splitlines())
        told = await command("why", str(end["request_id"]), "--gateway", cluster.address, "--json")
        shown = await command("why", str(end["request_id"]), "--gateway", cluster.address)
    assert (generated.status, told.status, shown.status) == (0, 0, 0)
    facts = told.document
    assert (facts["request_id"], facts["status"], facts["reason"]) == (end["request_id"], "OK", "")
    assert (facts["delivered"], facts["ticket"]) == (5, None)
    assert [(pick["replica_id"], pick["reason"], pick["passed_over"]) for pick in facts["picks"]] == [
        ("r1", "affinity", {}),
        ("r2", "bounded_load", {"r1": "failed_before"}),
    ]
    keys = ("number", "kind", "replica_id", "first_index", "delivered", "outcome")
    assert [tuple(attempt[key] for key in keys) for attempt in facts["attempts"]] == [
        (1, "first", "r1", 0, 3, "fault"),
        (2, "migrate", "r2", 3, 2, "success"),
    ]
    assert facts["splices"] == [{"index": 3, "from": "r1", "to": "r2", "version_changed": False}]
    summary, heading, *events = [line.rstrip() for line in shown.out.splitlines()]
    assert summary.startswith(f"call {end['request_id']} came at ")
    assert summary.endswith(" UTC and ended OK after 5 tokens")
    assert heading.split() == ["AT", "WHAT"]
    moments, stories = zip(*(event.split(" s  ", 1) for event in events), strict=True)
    assert list(map(float, moments)) == sorted(map(float, moments))
    assert stories[:3] == ("picked r1: affinity", "attempt 1 (first) at r1, from token 0", "attempt 1: first token")
    assert stories[3].startswith("attempt 1 ended after 3 tokens, fault: ")
    assert stories[4:6] == (
        "picked r2: bounded_load; passed over r1 (failed_before)",
        "attempt 2 (migrate) at r2, from token 3",
    )
    assert stories[6:] == (
        "attempt 2: first token",
        "from token 3 on r2 in place of r1",
        "attempt 2 ended after 2 tokens, success",
    )


def test_a_call_that_still_waits_has_a_ticket_and_no_end() -> None:
    """None rather than a made-up status."""
    record = admin_pb2.RequestRecord(
        request_id="a",
        ticket=admin_pb2.TicketRecord(number=7, at=0.5, waited=1.25),
        picks=[admin_pb2.PickRecord(at=0.5, reason="full")],
    )
    facts = facts_of(record)
    assert (facts["status"], facts["ticket"]) == (None, {"number": 7, "at": 0.5, "waited": 1.25})
    assert facts["picks"] == [
        {"at": 0.5, "replica_id": None, "reason": "full", "passed_over": {}, "more_passed_over": 0}
    ]
    waits, picked = events_of(record)
    assert waits == (0.5, "waits in the queue, as ticket 7: 1.250 s so far")
    assert picked == (0.5, "picked nobody: full")
    record.status_code = 8
    assert facts_of(record)["status"] == "RESOURCE_EXHAUSTED"
    assert events_of(record)[0] == (0.5, "waits in the queue, as ticket 7: 1.250 s in all")


async def test_a_call_that_nobody_remembers_is_one_line(command: Command) -> None:
    """Status 1."""
    async with a_cluster() as cluster:
        result = await command("why", "nothing", "--gateway", cluster.address)
    assert (result.status, result.out) == (1, "")
    line = "NOT_FOUND: no call 'nothing' is remembered: it was long ago, or never came here"
    assert result.err == f"trio-gw: error: {line}\n"


async def test_a_call_that_waits_is_told_while_it_does(command: Command) -> None:
    """The gateway counts it as waiting; its record has the ticket, and that nobody had a slot for it."""
    frozen = a_replica("r1", max_capacity=1, fault="freeze@1")
    async with a_cluster(frozen) as cluster, AsyncClient(cluster.address) as client, trio.open_nursery() as nursery:
        async with client.generate("prompt", max_tokens=2, request_id="first") as generation:
            await anext(generation)
            nursery.start_soon(_generate, client, "second")
            status = await command("status", "--json", "--gateway", cluster.address)
            while not status.document["queue_depth"]:
                status = await command("status", "--json", "--gateway", cluster.address)
            first = await command("why", "first", "--json", "--gateway", cluster.address)
            second = await command("why", "second", "--json", "--gateway", cluster.address)
        nursery.cancel_scope.cancel()
    assert (status.document["inflight"], status.document["queue_depth"]) == (1, 1)
    assert (first.document["status"], first.document["ticket"]) == (None, None)
    assert second.document["ticket"]["number"] == 2
    assert [(pick["replica_id"], pick["reason"]) for pick in second.document["picks"]] == [(None, "full")]
    assert (second.document["status"], second.document["attempts"]) == (None, [])


async def _generate(client: AsyncClient, request_id: str) -> None:
    async with client.generate("prompt", max_tokens=2, request_id=request_id) as generation:
        await anext(generation)


def test_of_very_many_that_were_passed_over_it_says_how_many() -> None:
    """The first by name, the others by number."""
    pick = admin_pb2.PickRecord(replica_id="r9", reason="last_resort", more_passed_over=983)
    pick.passed_over.add(replica_id="r1", reason="suspect")
    record = admin_pb2.RequestRecord(request_id="a", picks=[pick])
    assert events_of(record) == [(0.0, "picked r9: last_resort; passed over r1 (suspect) and 983 more")]
    assert facts_of(record)["picks"][0]["more_passed_over"] == 983
