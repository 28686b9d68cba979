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
import trio.testing

from inferencegw.cli.rollout import WORDS, Outcome, _obey_interrupts, facts_of, lines_of
from inferencegw.gateway import Gateway
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


async def until_it_has_ended(cluster: TestCluster) -> None:
    """No rollout runs at g1; a cluster that is closed takes away what one that runs waits for."""

    async def hear(_step: admin_pb2.RolloutResponse) -> None:
        await trio.lowlevel.checkpoint()

    gateway = cluster.nodes["g1"].process
    assert isinstance(gateway, Gateway)
    assert gateway._updater is not None
    if gateway._updater.running is not None:
        await gateway._updater.running.follow(hear)


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
        await until_it_has_ended(cluster)
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


PAUSED = admin_pb2.ROLLOUT_PHASE_PAUSED
FINISHED = admin_pb2.ROLLOUT_PHASE_FINISHED
STOPPED = admin_pb2.ROLLOUT_PHASE_STOPPED
DRAINS = admin_pb2.ROLLOUT_PHASE_DRAIN


@pytest.mark.parametrize(
    ("phase", "done", "interrupted", "status"),
    [
        (FINISHED, 3, 0, 0),
        (FINISHED, 3, 1, 0),  # too late for a pause
        (PAUSED, 2, 0, 0),
        (PAUSED, 2, 1, 0),  # where it was to pause in any case
        (PAUSED, 1, 0, 3),
        (PAUSED, 1, 1, 130),
        (STOPPED, 1, 0, 1),
        (STOPPED, 1, 1, 1),
        (DRAINS, 1, 0, 1),
        (DRAINS, 1, 2, 130),
    ],
)
def test_the_status_says_how_the_rollout_stands(
    phase: admin_pb2.RolloutPhase, done: int, interrupted: int, status: int
) -> None:
    """It was to pause after two: a pause before that is not what was asked for, whoever has caused it."""
    step = admin_pb2.RolloutResponse(phase=phase, done=done, total=3)
    assert Outcome(2, step, interrupted).status == status


def test_a_pause_of_a_rollout_that_was_to_go_on_to_its_end_is_not_success() -> None:
    """Without ``--pause-after`` none was asked for; and a rollout whose end was not seen has failed."""
    assert Outcome(0, admin_pb2.RolloutResponse(phase=PAUSED, total=3)).status == 3
    assert Outcome().status == 1


async def test_a_second_ctrl_c_leaves_though_the_gateway_has_not_answered_the_first() -> None:
    """A gateway that hangs is what it is for."""
    outcome, said = Outcome(), list[str]()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(_obey_interrupts, outcome, trio.sleep_forever, said.append, nursery)
            for number in (1, 2):
                signal.raise_signal(signal.SIGINT)
                await trio.testing.wait_all_tasks_blocked()
                assert (outcome.interrupted, len(said)) == (number, 1)
    assert (nursery.cancel_scope.cancelled_caught, outcome.status) == (True, 130)


async def test_a_gateway_that_is_told_to_leave_pauses_and_that_is_not_success(command: Command) -> None:
    """Status 3, when the replica in hand is back."""
    async with a_cluster() as (cluster, gateway):
        results = []

        async def roll_out() -> None:
            results.append(await command("rollout", "--version", "v2", "--gateway", gateway))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(roll_out)
            await cluster.view("g1").wait_until(lambda view: not view.members["r1"].is_live)
            cluster.leave("g1")
        members = cluster.view("r2").view.members
        assert [members[name].meta.model_version for name in ("r1", "r2")] == ["v2", "v1"]
    [result] = results
    assert (result.status, result.err) == (3, "")
    assert "1/2  paused: this gateway is shutting down" in result.out.splitlines()
