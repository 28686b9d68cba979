"""``trio-gw members``: one row for each id, in a table for people and in JSON for scripts."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from rich.console import Console

from inferencegw.children import Child, run_child
from inferencegw.cli.app import execute
from inferencegw.cli.members import Row, json_text, row_of, table_of
from inferencegw.v1 import admin_pb2, gossip_pb2

COMMAND = [sys.executable, "-m", "inferencegw", "members"]
FAST = ("--gossip-profile", "fast", "--log-level", "error")


class Looks:
    """The looks that a process prints, one a line."""

    def __init__(self, stdout: trio.abc.ReceiveStream) -> None:
        self._stdout = stdout
        self._buffer = b""

    async def until(self, predicate: Callable[[list[Any]], bool]) -> list[Any]:
        """The first look of which ``predicate`` holds."""
        async for chunk in self._stdout:
            *lines, self._buffer = (self._buffer + chunk).split(b"\n")
            for line in lines:
                rows: list[Any] = json.loads(line)
                if predicate(rows):
                    return rows
        raise AssertionError("it has ended")


def a_row(**fields: Any) -> Row:
    """A gateway of which hardly anything is known."""
    known = {
        "id": "gw1",
        "role": "gateway",
        "address": "127.0.0.1:7946",
        "state": "ALIVE",
        "incarnation": 2,
        "epoch": 1_800_000_000_000,
        "load": None,
        "since": 12.25,
        "rtt": None,
        "grpc_address": "127.0.0.1:8080",
        "model": "",
        "model_version": "",
        "max_capacity": 0,
        "weight": 1.0,
        "cordoned": False,
        "draining": False,
    }
    return Row(**{**known, **fields})


def test_a_row_is_what_the_gateway_said() -> None:
    """States in capitals and roles as words, without the proto's prefixes; what is absent is None."""
    member = admin_pb2.Member(
        member_id="r1",
        status=gossip_pb2.MemberStatus(epoch=5, incarnation=3, state=gossip_pb2.MEMBER_STATE_SUSPECT),
        meta=gossip_pb2.MemberMeta(role=gossip_pb2.MEMBER_ROLE_REPLICA, gossip_address="a:1", grpc_address="a:2"),
        since=1.23456,
    )
    row = row_of(member)
    assert (row.id, row.role, row.state, row.incarnation, row.epoch) == ("r1", "replica", "SUSPECT", 3, 5)
    assert (row.address, row.grpc_address, row.since, row.load, row.rtt) == ("a:1", "a:2", 1.235, None, None)
    member.load.active_requests = 0
    member.rtt = 0.0004
    assert (row_of(member).load, row_of(member).rtt) == (0, 0.0004)


def test_what_a_later_version_has_made_up_is_shown_by_its_number() -> None:
    """Versions may be mixed in one cluster."""
    member = admin_pb2.Member(member_id="r1")
    member.meta.ParseFromString(b"\x18\x63")  # role = 99
    assert row_of(member).role == "99"


@pytest.mark.parametrize("one_line", [True, False])
def test_json_is_an_array_of_objects_with_the_columns_first(one_line: bool) -> None:
    """One document, whatever its lines."""
    text = json_text([a_row(), a_row(id="r1")], one_line=one_line)
    assert text.count("\n") == (0 if one_line else 3)
    rows = json.loads(text)
    assert [row["id"] for row in rows] == ["gw1", "r1"]
    columns = ["id", "role", "address", "state", "incarnation", "epoch", "load", "since", "rtt"]
    assert list(rows[0])[:9] == columns
    assert json.loads(json_text([], one_line=one_line)) == []


def test_the_table_has_a_row_for_each_member_and_nothing_that_a_terminal_would_obey() -> None:
    """What others have chosen to be called is shown as it is, or escaped; never as markup."""
    shown = io.StringIO()
    Console(width=200, file=shown).print(
        table_of([a_row(), a_row(id="[red]\x1b[2J", state="DEAD", load=3, rtt=0.0125)])
    )
    text = shown.getvalue()
    assert "\x1b" not in text
    header, one, two = text.rstrip().splitlines()
    assert header.split() == ["ID", "ROLE", "ADDRESS", "STATE", "INCARNATION", "EPOCH", "LOAD", "SINCE", "RTT"]
    assert one.split() == ["gw1", "gateway", "127.0.0.1:7946", "ALIVE", "2", "1800000000000", "12.2", "s"]
    assert two.split()[:1] == [ascii("[red]\x1b[2J")]
    assert two.split()[-6:] == ["1800000000000", "3", "12.2", "s", "12.5", "ms"]


def test_a_gateway_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1."""
    assert execute(["members", "--gateway", "127.0.0.1:1"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trio-gw: error: UNAVAILABLE: cannot connect to 127.0.0.1:1")
    assert captured.err.count("\n") == 1


async def test_a_gateway_that_does_not_gossip_says_so() -> None:
    """Status 1, and what to start it with."""
    async with trio.open_nursery() as nursery:
        gateway: Child = await nursery.start(run_child, "gateway", ["run", "--port", "0"])
        run = partial(trio.run_process, capture_stdout=True, capture_stderr=True, check=False)
        result = await run([*COMMAND, "--gateway", gateway.addresses["grpc"]])
        nursery.cancel_scope.cancel()
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"this gateway does not gossip: start it with --gossip-port or --join" in result.stderr


async def test_a_replica_that_is_told_where_to_join_is_found_and_one_that_is_stopped_has_left() -> None:
    """``--watch --json`` prints a line for each look, self included; the plain table has the same rows."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            arguments = ["run", "--id", "gw1", "--port", "0", "--gossip-port", "0", *FAST]
            gateway: Child = await nursery.start(run_child, "gateway", arguments)
            watch = [*COMMAND, "--gateway", gateway.addresses["grpc"], "--watch", "--json"]
            start = partial(trio.run_process, stdout=subprocess.PIPE, check=False)
            process: trio.Process = await nursery.start(start, watch)
            assert process.stdout is not None
            looks = Looks(process.stdout)
            async with trio.open_nursery() as replicas:
                arguments = ["replica", "--id", "r1", "--port", "0", "--join", gateway.addresses["gossip"], *FAST]
                replica: Child = await replicas.start(run_child, "r1", arguments)
                own, found = await looks.until(lambda rows: len(rows) == 2)
                assert (own["id"], own["role"], own["state"], own["rtt"]) == ("gw1", "gateway", "ALIVE", None)
                assert own["address"] == gateway.addresses["gossip"]
                assert (found["id"], found["role"], found["state"]) == ("r1", "replica", "ALIVE")
                assert found["address"] == replica.addresses["gossip"]
                assert found["grpc_address"] == replica.addresses["grpc"]
                table = await trio.run_process([*COMMAND, "--gateway", gateway.addresses["grpc"]], capture_stdout=True)
                assert [line.split()[0] for line in table.stdout.decode().splitlines()] == ["ID", "gw1", "r1"]
                replicas.cancel_scope.cancel()  # SIGTERM
            _, left = await looks.until(lambda rows: rows[1]["state"] != "ALIVE")
            assert left["state"] == "LEFT"
            nursery.cancel_scope.cancel()
