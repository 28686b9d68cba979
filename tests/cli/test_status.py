"""``trio-gw status``: what is the matter with each replica, in a table for people and in JSON for scripts."""

import io
import json
from typing import Any

import pytest
import trio
from rich.console import Console

from inferencegw.cli import status
from inferencegw.cli._admin import print_json
from inferencegw.cli.app import execute
from inferencegw.cli.status import facts_of, picture_of
from inferencegw.v1 import admin_pb2, gossip_pb2
from tests.cli.conftest import Command
from tests.cli.support import Result, a_cluster, a_prompt_for, a_replica


def a_status(**replica: Any) -> admin_pb2.GatewayStatus:
    """A gateway with one replica."""
    told = admin_pb2.GatewayStatus(gateway_id="gw", version="1", uptime=12.3456, inflight=2, queue_depth=3)
    told.replicas.append(admin_pb2.ReplicaStatus(**replica))
    return told


def drawn(told: admin_pb2.GatewayStatus) -> list[str]:
    """The lines of the picture."""
    shown = io.StringIO()
    Console(width=200, file=shown).print(picture_of(told))
    return shown.getvalue().splitlines()


def test_what_is_not_known_is_empty_and_what_a_later_version_has_made_up_is_its_number() -> None:
    """Versions may be mixed, and an address where nobody answers has no name, state or breaker."""
    [silent] = facts_of(a_status(address="a:1", verdict=admin_pb2.VERDICT_DEAD))["replicas"]
    assert (silent["id"], silent["state"], silent["breaker"], silent["verdict"]) == ("", "", "", "dead")
    later = admin_pb2.ReplicaStatus()
    later.ParseFromString(b"\x40\x63\x70\x63")  # breaker = 99, verdict = 99
    told = admin_pb2.GatewayStatus(replicas=[later])
    assert [(one["breaker"], one["verdict"]) for one in facts_of(told)["replicas"]] == [("99", "99")]


def test_the_picture_has_a_line_about_the_gateway_and_a_row_for_each_replica() -> None:
    """Slots are those held of those there; names from the network cannot steer the terminal."""
    told = a_status(
        replica_id="[red]\x1b[2J",
        address="a:1",
        model="m",
        model_version="v1",
        state=gossip_pb2.MEMBER_STATE_SUSPECT,
        connected=True,
        breaker=admin_pb2.BREAKER_STATE_HALF_OPEN,
        verdict=admin_pb2.VERDICT_PARTITIONED,
        inflight=1,
        max_capacity=4,
        load=3,
        weight=0.5,
        cordoned=True,
        draining=True,
    )
    about, heading, row = drawn(told)
    assert about.rstrip() == "gateway gw, version 1, up 12 s: 2 in flight, 3 waiting"
    columns = ["ID", "VERDICT", "STATE", "BREAKER", "SLOTS", "LOAD", "MODEL", "ADDRESS", "NOTES"]
    assert heading.split() == columns
    known = [ascii("[red]\x1b[2J"), "partitioned", "SUSPECT", "half_open", "1/4", "3", "m", "v1", "a:1"]
    assert row.split() == [*known, "cordoned,", "draining,", "weight", "0.5"]
    assert "\x1b" not in row


def test_on_a_narrow_terminal_addresses_are_broken_and_nothing_is_lost() -> None:
    """Eighty columns: ids, verdicts and numbers stay whole."""
    told = a_status(
        replica_id="replica-1",
        address="192.168.100.200:50051",
        model="a-model-with-a-name",
        model_version="v1",
        state=gossip_pb2.MEMBER_STATE_SUSPECT,
        breaker=admin_pb2.BREAKER_STATE_HALF_OPEN,
        verdict=admin_pb2.VERDICT_PARTITIONED,
        max_capacity=128,
        weight=1.0,
    )
    shown = io.StringIO()
    Console(width=80, file=shown).print(picture_of(told))
    [row] = [line for line in shown.getvalue().splitlines() if line.startswith("replica-1")]
    assert row.split()[:6] == ["replica-1", "partitioned", "SUSPECT", "half_open", "0/128", "0"]
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown.getvalue()


def test_a_gateway_without_replicas_says_so() -> None:
    """Rather than a heading over nothing."""
    told = admin_pb2.GatewayStatus(gateway_id="gw", version="1", draining=True)
    about = "gateway gw, version 1, up 0 s: 0 in flight, 0 waiting, draining"
    assert [line.rstrip() for line in drawn(told)] == [about, "no replicas"]


async def test_replicas_are_healthy_gray_and_dead(command: Command) -> None:
    """One works; one answers and fails, so its breaker is open; at one address nobody is."""
    replicas = (a_replica("r1"), a_replica("r2", reject_all=True))
    async with a_cluster(*replicas, also=("127.0.0.1:1",), breaker_window=2, breaker_open=600.0) as cluster:
        prompt = a_prompt_for(cluster, "r2")
        generated = await command("generate", prompt, "--gateway", cluster.address, "--max-tokens", "3")
        told = await command("status", "--gateway", cluster.address, "--json")
        shown = await command("status", "--gateway", cluster.address)
    assert (generated.status, told.status, shown.status) == (0, 0, 0)
    facts = told.document
    assert (facts["gateway_id"], facts["draining"], facts["inflight"], facts["queue_depth"]) == ("gw", False, 0, 0)
    assert [
        (one["id"], one["verdict"], one["connected"], one["breaker"], one["load"]) for one in facts["replicas"]
    ] == [
        ("", "dead", False, "", 0),
        ("r1", "healthy", True, "closed", 0),
        ("r2", "gray", True, "open", 0),
    ]
    about, heading, _silent, *rows = shown.rows
    assert about[:2] == ["gateway", "gw,"]
    assert heading[:2] == ["ID", "VERDICT"]
    assert [row[:3] for row in rows] == [["r1", "healthy", "closed"], ["r2", "gray", "open"]]


async def test_who_watches_sees_the_gateway_drain_to_its_end(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each look; the last one is of a gateway that has drained, and the exit status says that."""
    results: list[Result] = []
    async with a_cluster(a_replica("r1")) as cluster, trio.open_nursery() as nursery:
        first, loop = trio.Event(), trio.lowlevel.current_trio_token()

        def print_and_tell(look: object, *, one_line: bool) -> None:
            print_json(look, one_line=one_line)
            loop.run_sync_soon(first.set)

        async def watch() -> None:
            results.append(await command("status", "--gateway", cluster.address, "--watch", "--json"))

        monkeypatch.setattr(status, "print_json", print_and_tell)
        nursery.start_soon(watch)
        await first.wait()
        cluster.gateway.drain()
    [result] = results
    looks = [json.loads(line) for line in result.out.splitlines()]
    assert [look["draining"] for look in looks] == [*[False] * (len(looks) - 1), True]
    assert (result.status, result.err) == (1, "trio-gw: error: UNAVAILABLE: the gateway has drained\n")


def test_a_gateway_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, with and without --watch."""
    for arguments in ([], ["--watch"]):
        assert execute(["status", "--gateway", "127.0.0.1:1", *arguments]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("trio-gw: error: UNAVAILABLE: cannot connect to 127.0.0.1:1")
        assert captured.err.count("\n") == 1
