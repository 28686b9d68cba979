"""``trio-gw rollout``: what is asked for, what is shown of it, how it ends, and what Ctrl-C does."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from inferencegw.cli.rollout import WORDS, Outcome, facts_of, lines_of
from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import TestCluster, open_cluster
from inferencegw.testing.manager import manage
from inferencegw.v1 import admin_pb2
from tests.cli.conftest import Command

PATIENCE = 60.0


@asynccontextmanager
async def a_cluster(**changes: Any) -> AsyncIterator[tuple[TestCluster, str]]:
    """Two replicas of v1 and a gateway on real sockets, and where that is."""
    options: dict[str, Any] = {"gateway": {"slow_start": 0.1}, "replica": {"drain_timeout": 0.3, "token_delay": 0.001}}
    configure_logging("critical")  # what a command prints is looked at, and so are its errors
    with trio.fail_after(PATIENCE):
        async with open_cluster(replicas=2, **options) as cluster:
            manage(cluster, "g1", **changes)
            yield cluster, cluster.nodes["g1"].address("grpc")


def versions(cluster: TestCluster) -> list[str]:
    """What replicas serve."""
    return [one.meta.model_version for one in sorted(cluster.view("g1").view.replicas, key=lambda one: one.member_id)]


async def test_a_rollout_is_told_line_by_line_and_ends_with_its_receipt(command: Command) -> None:
    """Status 0; without a terminal each step is a line."""
    async with a_cluster() as (cluster, gateway):
        result = await command("rollout", "--version", "v2", "--drain-timeout", "0.3", "--gateway", gateway)
        assert versions(cluster) == ["v2", "v2"]
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line for line in lines if line.endswith("is done")] == ["1/2  r1 is done", "2/2  r2 is done"]
    assert lines[0] == "0/2  r1 gets no new calls: v1 -> v2"
    assert lines[-2] == "2/2  finished"
    assert lines[-1].startswith("receipt: 0 requests seen, dropped 0, handed over 0, in ")
    assert lines[-1].endswith(" s; counted by g1")


async def test_for_scripts_there_is_an_object_for_each_step(command: Command) -> None:
    """The keys are those that the help names; the receipt comes with the last one."""
    async with a_cluster() as (_, gateway):
        result = await command("rollout", "--version", "v2", "--json", "--pause-after", "1", "--gateway", gateway)
    steps = [json.loads(line) for line in result.out.splitlines()]
    assert (result.status, steps[-1]["phase"], steps[-1]["done"], steps[-1]["total"]) == (0, "paused", 1, 2)
    assert steps[-1]["message"] == "1 are done, which was to be the pause"
    receipt = steps[-1].pop("receipt")
    assert {name: value for name, value in receipt.items() if name != "seconds"} == {
        "requests": 0,
        "dropped": 0,
        "handed_over": 0,
        "running": 0,
        "gateways": ["g1"],
        "unasked": [],
    }
    assert all(set(step) == {"phase", "replica_id", "done", "total", "message"} for step in steps)


async def test_a_dry_run_only_tells(command: Command) -> None:
    """Status 0."""
    async with a_cluster() as (cluster, gateway):
        result = await command("rollout", "--version", "v2", "--dry-run", "--gateway", gateway)
        assert versions(cluster) == ["v1", "v1"]
    assert (result.status, result.out.splitlines()[-1]) == (0, "0/2  finished: nothing was done")


async def test_one_that_halts_says_why_and_what_can_be_done_and_can_be_rolled_back(command: Command) -> None:
    """Status 1, and 0 for the rollback."""
    async with a_cluster(v1={"fault": ""}, v2={"fault": "truncate@2"}) as (cluster, gateway):
        to = ("--gateway", gateway, "--drain-timeout", "0.3")
        halted = await command("rollout", "--version", "v2", *to)
        back = await command("rollout", "--rollback", "--version", "v1", *to)
        assert versions(cluster) == ["v1", "v1"]
    problem = "of its 2 tokens not the last one, and it alone, was marked as the final one"
    assert f"0/2  r1 halted: its canary has failed: {problem}" in halted.out.splitlines()
    assert halted.out.splitlines()[-1] == "go on with --resume, or go back with --rollback"
    assert (halted.status, back.status) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        ((), 2, "version = '': must be given, but for --resume and --rollback"),
        (
            ("--version", "v2", "--max-unavailable", "-1"),
            2,
            "max_unavailable = -1: must be from 0 to 1000000 (replicas)",
        ),
        (("--version", "v2", "--max-unavailable", "2"), 1, "INVALID_ARGUMENT: max_unavailable is 2; it must be 1: one"),
        (
            ("--version", "v2", "--manager", "command:a ; b"),
            1,
            "INVALID_ARGUMENT: manager is 'command:a ; b'; it must be",
        ),
        (("--resume",), 1, "FAILED_PRECONDITION: nothing is remembered here (trio-gw run --state-dir): say which "),
    ],
)
async def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...], status: int, problem: str, command: Command
) -> None:
    """It says what to do."""
    async with a_cluster() as (_, gateway):
        result = await command("rollout", *arguments, "--gateway", gateway)
    assert (result.status, result.out) == (status, "")
    assert result.err.startswith(f"trio-gw: error: {problem}")
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("interrupts", [1, 2])
async def test_ctrl_c_pauses_when_the_replica_in_hand_is_back_and_a_second_one_leaves(interrupts: int) -> None:
    """Status 130 both times; and whichever it is, r1 comes back and r2 is not touched."""
    async with a_cluster() as (cluster, gateway):
        arguments = ("-m", "inferencegw", "rollout", "--version", "v2", "--gateway", gateway)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "env": {**os.environ, "PYTHONUNBUFFERED": "1"}}
        process = await trio.lowlevel.open_process([sys.executable, *arguments], **pipes)
        assert process.stdout is not None
        said = ""
        while "is stopped" not in said:
            said += (await process.stdout.receive_some()).decode()
        process.send_signal(signal.SIGINT)
        if interrupts == 2:
            while "pausing: " not in said:
                said += (await process.stdout.receive_some()).decode()
            process.send_signal(signal.SIGINT)
        async for more in process.stdout:
            said += more.decode()
        assert await process.wait() == 130
        await process.stdout.aclose()
        await cluster.view("g1").wait_until(lambda _: versions(cluster) == ["v2", "v1"])
        await cluster.converged()
        assert versions(cluster) == ["v2", "v1"]
    lines = said.splitlines()
    assert "pausing: the replica in hand is brought back first; Ctrl-C again leaves" in lines
    assert ("1/2  paused: it was asked to" in lines) == (interrupts == 1)


def test_every_phase_has_words_of_its_own() -> None:
    """One that a later version has made up is its number."""
    phases = {number for number in admin_pb2.RolloutPhase.values() if number}
    assert set(WORDS) == phases
    assert len(set(WORDS.values())) == len(WORDS)
    later = admin_pb2.RolloutResponse()
    later.ParseFromString(b"\x08\x63")
    assert (lines_of(later), facts_of(later)["phase"]) == (["0/0  99"], "99")


def test_what_a_receipt_does_not_know_is_said() -> None:
    """And what the network says cannot steer the terminal."""
    receipt = admin_pb2.RolloutReceipt(
        requests_total=5, requests_running=2, duration=1.25, gateways=["g1", "g2"], unasked=["g3\x1b[2J: it is gone"]
    )
    step = admin_pb2.RolloutResponse(phase=admin_pb2.ROLLOUT_PHASE_FINISHED, done=1, total=1, receipt=receipt)
    assert lines_of(step) == [
        "1/1  finished",
        "receipt: 5 requests seen (2 still run), dropped 0, handed over 0, in 1.2 s; counted by g1, g2",
        "'not all of it: g3\\x1b[2J: it is gone'",
    ]


def test_a_rollout_whose_end_was_not_seen_has_failed() -> None:
    """The gateway has gone, or said nothing."""
    assert Outcome().status == 1
