"""``trio-gw bench`` through the front door: what it reports, what it refuses, and how it ends."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from inferencegw.cli.app import execute
from tests.cli.conftest import Command
from tests.cli.support import a_cluster, a_replica
from tests.gateway.papers import CLIENT, WRONG, keys_file
from tests.gateway.support import ScriptedReplica, address_of, wait_for_ever


@pytest.fixture(autouse=True)
def no_key_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have one."""
    monkeypatch.delenv("TRIO_GW_KEY", raising=False)


async def test_a_load_is_reported_to_people_and_to_scripts(command: Command, tmp_path: Path) -> None:
    """The same figures: as a table, and as one object; a key is shown, and prompts may come from a file."""
    path = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""))
    (tmp_path / "key").write_text(CLIENT)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why?"}\n{"prompt": "Why\\nnot?"}\n')
    async with a_cluster(a_replica("r1"), a_replica("r2"), keys_file=path) as cluster:
        shown = ("--gateway", cluster.address, "--key-file", str(tmp_path / "key"))
        arguments = ("bench", *shown, "--requests", "12", "--max-tokens", "5", "--seed", "1")
        people = await command(*arguments, "--prompts-file", str(tmp_path / "prompts.jsonl"), "--hedge", "race")
        scripts = await command(*arguments, "--json", "--shared-prefixes", "2", "--rate", "1000", "--connections", "2")
        why = await command("why", people.rows[-1][3], *shown)
    assert (people.status, people.err, scripts.status, scripts.err, why.status) == (0, "", 0, "", 0)
    lines = people.out.splitlines()
    assert lines[0] == f"load on {cluster.address}: 8 callers, 12 calls (seed 1)"
    assert lines[1].endswith(": 12 ok, 0 refused, 0 failed, 0 unfinished, 0 failed over")
    assert people.rows[-1][:3] == ["ok", "OK", "12"]
    found = scripts.document
    assert (found["load"], found["calls"], found["ok"], found["unsent"]) == ("1000 calls a second, 12 calls", 12, 12, 0)
    assert [found[name]["count"] for name in ("ttft", "gap", "tpot", "duration")] == [12, 48, 12, 12]
    assert found["tokens_per_second"] == pytest.approx(5 * found["calls_per_second"], rel=1e-3)
    assert sum(found["replicas"].values()) == pytest.approx(1.0, abs=1e-3)


async def test_refusals_are_counted_and_are_no_failure(command: Command) -> None:
    """Unless nobody was answered; a caller does not come again before he may."""
    async with a_cluster(a_replica("r1", max_capacity=1, token_delay=0.01), queue_size=0) as cluster:
        arguments = ("bench", "--gateway", cluster.address, "--max-tokens", "10", "--json")
        some = await command(*arguments, "--requests", "6", "--concurrency", "2")
    found = some.document
    assert (some.status, found["failed"], found["ok"] + found["refused"]) == (0, 0, 6)
    assert found["refused"] == found["pushback"]["count"] > 0
    assert found["pushback"]["p50"] >= 0.05


async def test_a_call_that_breaks_off_is_a_failure_and_status_1(command: Command) -> None:
    """With the call's name; one that goes on elsewhere is not."""
    async with a_cluster(a_replica("r1", fault="truncate@3")) as cluster:
        broken = await command("bench", "--gateway", cluster.address, "--requests", "2", "--max-tokens", "9", "--json")
    async with a_cluster(a_replica("r1", fault="truncate@3"), a_replica("r2", fault="truncate@6")) as cluster:
        moved = await command("bench", "--gateway", cluster.address, "--requests", "2", "--max-tokens", "9", "--json")
    assert (broken.status, broken.document["failed"], moved.status) == (1, 2, 0)
    [end] = broken.document["ends"]
    assert (end["kind"], end["status"], end["reason"], end["calls"]) == ("failed", "UNAVAILABLE", "truncated", 2)
    assert end["request_id"]
    assert (moved.document["ok"], moved.document["failovers"]) == (2, 2)


async def test_who_is_not_let_in_is_told_so_on_one_line(command: Command, tmp_path: Path) -> None:
    """At the first call, without a report of nothing."""
    path = keys_file(tmp_path / "keys.toml", ("alice", CLIENT, ""))
    (tmp_path / "wrong").write_text(WRONG)
    async with a_cluster(a_replica("r1"), keys_file=path) as cluster:
        told = await command("bench", "--gateway", cluster.address, "--key-file", str(tmp_path / "wrong"))
    assert (told.status, told.out) == (1, "")
    assert told.err.startswith("trio-gw: error: UNAUTHENTICATED: this key is not known here")
    assert told.err.count("\n") == 1


def test_no_gateway_there_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to report."""
    assert execute(["bench", "--gateway", "127.0.0.1:1"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trio-gw: error: UNAVAILABLE: cannot connect to 127.0.0.1:1: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--rate", "1", "--concurrency", "1"), "--concurrency and --rate: give one of them"),
        (("--duration", "1", "--requests", "1"), "--duration and --requests: give one of them"),
        (("--concurrency", "0"), "concurrency = 0: must be a number from 1 to 10000"),
        (("--prompt-tokens", "0"), "prompt_tokens = 0: must be a number from 1 to 262144"),
        (("--prompt-tokens", "31", "--shared-prefixes", "1"), "prompt_tokens = 31: must be a number from 32 to 262144"),
        (("--shared-prefixes", "-1"), "shared_prefixes = -1: must be a number from 0 to 100000"),
        (("--connections", "0"), "connections = 0: must be a number from 1 to 1000"),
        (("--max-tokens", "-1"), "max_tokens: Value out of range: -1"),
        (
            ("--prompts-file", "EMPTY", "--prompt-tokens", "9"),
            "--prompts-file: give it, or --prompt-tokens and --shared-prefixes, not both",
        ),
        (("--prompts-file", "EMPTY"), "EMPTY: has no prompt: one is needed on each line"),
        (("--gateway", "here"), "address = 'here': must be HOST:PORT with a port from 1 to 65535"),
    ],
)
def test_a_load_that_cannot_be_is_one_line_and_status_2(
    arguments: tuple[str, ...], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is connected to."""
    empty = tmp_path / "empty"
    empty.touch()
    assert execute(["bench", *(word.replace("EMPTY", str(empty)) for word in arguments)]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"trio-gw: error: {problem}\n".replace("EMPTY", str(empty)))


def test_a_file_of_prompts_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is all read into memory, where a wrong file is soon named."""
    monkeypatch.setattr("inferencegw.cli.bench.MAX_FILE_BYTES", 4)
    (tmp_path / "large").write_text("12345")
    assert execute(["bench", "--prompts-file", str(tmp_path / "large")]) == 2
    assert capsys.readouterr().err == f"trio-gw: error: {tmp_path / 'large'}: is longer than 4 bytes\n"


async def test_who_looks_on_sees_how_it_goes(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, if that is a terminal, and nothing of it is left at the end; the report is where it was."""
    monkeypatch.setattr("inferencegw.cli.bench.LOOK_INTERVAL", 0.01)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    async with a_cluster(a_replica("r1")) as cluster:
        told = await command("bench", "--gateway", cluster.address, "--duration", "0.1", "--json")
    assert told.document["ok"] > 0
    assert "under way" in told.err


async def test_ctrl_c_cancels_the_calls_and_reports_what_was_measured() -> None:
    """Status 130; the replica has nothing left to do, and nothing is on standard error."""
    replica = ScriptedReplica(wait_for_ever)
    start = partial(trio.run_process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    async with trio.open_nursery() as nursery:
        address = address_of(await nursery.start(replica.serve))
        async with a_cluster(also=(address,)) as cluster:
            arguments = ("bench", "--gateway", cluster.address, "--concurrency", "2", "--json")
            process: trio.Process = await nursery.start(start, [sys.executable, "-m", "inferencegw", *arguments])
            await replica.until(lambda: replica.active == 2)
            process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            assert process.stderr is not None
            out = b"".join([chunk async for chunk in process.stdout])
            err = b"".join([chunk async for chunk in process.stderr])
            assert await process.wait() == 130
            await replica.until(lambda: not replica.active)
        nursery.cancel_scope.cancel()
    found = json.loads(out)
    assert err == b""
    assert (found["interrupted"], found["calls"], found["ok"], found["unfinished"]) == (True, 2, 0, 2)
