"""``trio-gw cluster up`` as its users meet it: a process with real children, which it keeps up and takes down."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from inferencegw.children import parse_ready_line
from inferencegw.cli.app import execute
from inferencegw.cli.members import LIST_MEMBERS, Row, row_of
from inferencegw.cli.supervisor.plan import Plan
from inferencegw.client import AsyncClient
from inferencegw.config import split_address
from inferencegw.errors import ManagerError
from inferencegw.gateway.managers import open_manager
from inferencegw.rpc import open_channel
from inferencegw.v1 import admin_pb2
from tests.cli.conftest import Command
from tests.gateway.papers import Papers

PATIENCE: Final = 60.0
"""Seconds until a test is given up."""

OPTIONS: Final[dict[str, object]] = {"replicas": 1, "gateways": 1, "port": 0, "token_delay_ms": 5}
CHILD: Final = re.compile(r"event=child\.ready id=(\w+) pid=(\d+)")


class Supervised:
    """A cluster, by the process that supervises it."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.served: dict[str, str] = {}
        self.log: list[str] = []
        self.rest_of_stdout = b""
        self._said = trio.lowlevel.ParkingLot()

    async def read(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Both streams to their ends; started with the ready line."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_log, self.process.stderr)
            line = b""
            async for chunk in self.process.stdout:
                if self.served:
                    self.rest_of_stdout += chunk
                elif b"\n" in (line := line + chunk):
                    self.served = parse_ready_line(line.decode())
                    task_status.started()

    async def _read_log(self, stderr: trio.abc.ReceiveStream) -> None:
        partial_line = ""
        async for chunk in stderr:
            *lines, partial_line = (partial_line + chunk.decode()).split("\n")
            self.log += lines
            self._said.unpark_all()

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for what the log will say."""
        await trio.lowlevel.checkpoint()
        while not holds():
            await self._said.park()

    def pids_of(self, name: str) -> list[int]:
        """Its processes, one after the other."""
        return [int(match[2]) for match in map(CHILD.search, self.log) if match and match[1] == name]

    @property
    def pids(self) -> list[int]:
        """Every child's, those that have ended included."""
        return [int(match[2]) for match in map(CHILD.search, self.log) if match]

    async def until_ready(self, name: str, times: int) -> None:
        """Wait until a child of that name has been ready so often."""
        await self.until(lambda: len(self.pids_of(name)) >= times)

    async def members(self) -> dict[str, Row]:
        """Who is there, as ``trio-gw members`` tells it, by id."""
        async with open_channel(*split_address(self.served["g1"])) as channel:
            answer = await channel.unary(LIST_MEMBERS, admin_pb2.ListMembersRequest())
        return {row.id: row for row in map(row_of, answer.members)}

    async def until_member(self, name: str, holds: Callable[[Row], object]) -> Row:
        """Wait until g1 has a member of that name of which that holds; it can only be asked."""
        while not (row := (await self.members()).get(name)) or not holds(row):  # noqa: ASYNC110
            await trio.sleep(0.02)
        return row


def command_line(**options: object) -> list[str]:
    """That of a small cluster, with these options and not the usual ones."""
    words = [(f"--{name.replace('_', '-')}", str(value)) for name, value in {**OPTIONS, **options}.items()]
    return ["cluster", "up", *(word for pair in words for word in pair)]


@asynccontextmanager
async def supervised(**options: object) -> AsyncIterator[Supervised]:
    """A cluster that is ready, in a session of its own, as in a terminal of its own."""
    command = [sys.executable, "-m", "inferencegw", *command_line(**options)]
    start = partial(trio.run_process, check=False, start_new_session=True)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            process = await nursery.start(partial(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE), command)
            cluster = Supervised(process)
            await nursery.start(cluster.read)
            await cluster.until(lambda: len(cluster.pids) == len(cluster.served) - 2)  # but gossip and manager
            yield cluster
            process.terminate()


def test_certificates_and_keys_go_to_all_children_and_to_the_port_for_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers' keys are the gateways' business alone; what is not given is on nobody's command line."""
    made: list[dict[str, Any]] = []

    def supervise(plan: Plan, **options: Any) -> None:
        made.append({"plan": plan, **options})

    monkeypatch.setattr("inferencegw.cli.cluster.Supervisor", supervise)
    monkeypatch.setattr("trio.run", lambda _: 0)
    papers = Papers.issue(tmp_path)
    shared = {"keyring_file": "ring", **papers.server(ca=True)}
    own = {"keys_file": "keys.toml", "client_certs": "optional"}
    assert execute(command_line()) == execute(command_line(**shared, **own)) == 0
    bare, secured = made
    assert (bare["tls"], secured["tls"].verify_mode) == (None, ssl.CERT_REQUIRED)
    common, gateways = ({f"--{name.replace('_', '-')}={value}" for name, value in one.items()} for one in (shared, own))
    assert common < set(secured["plan"].common)
    assert gateways < set(secured["plan"].gateway_flags)
    assert not any("None" in flag or "tls" in flag for flag in bare["plan"].common + bare["plan"].gateway_flags)


def is_gone(pid: int) -> bool:
    """Whether there is no such process, not even a dead one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_alive(row: Row) -> bool:
    """Whether g1 holds it so."""
    return row.state == "ALIVE"


async def generate(cluster: Supervised, tokens: int = 3) -> set[str]:
    """Who served a prompt of so many tokens."""
    async with AsyncClient(cluster.served["g1"]) as client, client.generate("Hello", max_tokens=tokens) as generation:
        served = [token.replica_id async for token in generation]
    assert len(served) == tokens
    return set(served)


async def test_ctrl_c_takes_a_cluster_down_in_order_and_without_a_word_on_stdout() -> None:
    """One ready line with all addresses; whose log a line is from; status 0; nobody is left."""
    async with supervised(replicas=2) as cluster:
        assert list(cluster.served) == ["g1", "r1", "r2", "gossip", "manager"]
        assert await generate(cluster) <= {"r1", "r2"}
        # Without a folder for their logs, a line of a child's bears its name.
        await cluster.until(
            lambda: any(line.startswith("g1 | ") and "replica connected" in line for line in cluster.log)
        )
        os.killpg(cluster.process.pid, signal.SIGINT)  # as a terminal does
        assert await cluster.process.wait() == 0
    assert len(cluster.pids) == 3
    assert all(is_gone(pid) for pid in cluster.pids)
    assert cluster.rest_of_stdout == b""
    order = [
        match[1]
        for match in (re.search(r"event=child\.stopped id=(\w+) how=.status 0", x) for x in cluster.log)
        if match
    ]
    assert order[0] == "g1"
    assert sorted(order) == ["g1", "r1", "r2"]
    assert not any("Traceback" in line for line in cluster.log)


async def test_a_replica_that_is_killed_comes_back_under_its_name_and_is_routed_to() -> None:
    """The only one there is, by kill -9; so does the only gateway, on its port, and finds the replica again."""
    async with supervised() as cluster:
        before = await cluster.until_member("r1", is_alive)
        os.kill(cluster.pids_of("r1")[0], signal.SIGKILL)
        await cluster.until_ready("r1", 2)
        await cluster.until_member("r1", lambda row: is_alive(row) and row.epoch > before.epoch)
        assert await generate(cluster) == {"r1"}
        os.kill(cluster.pids_of("g1")[0], signal.SIGKILL)
        await cluster.until_ready("g1", 2)
        await cluster.until_member("r1", is_alive)
        assert await generate(cluster) == {"r1"}
    assert len(set(cluster.pids)) == 4
    assert sum("event=child.crashed id=r1" in line for line in cluster.log) == 1


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for processes that are not its children with pidfds")
async def test_a_supervisor_that_is_killed_leaves_no_process_behind() -> None:
    """SIGKILL runs no handler: what ends the children is that the pipe to each of them closes."""
    async with supervised() as cluster:
        children = [os.pidfd_open(pid) for pid in cluster.pids]
        assert len(children) == 2
        cluster.process.kill()
        for child in children:
            await trio.lowlevel.wait_readable(child)
            os.close(child)


def test_its_gateways_remember_rollouts_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that any of them resumes what another one has begun; nobody else can write there, and it goes with them."""
    places: list[str] = []

    def supervise(plan: Plan, **_options: object) -> None:
        for number in (0, 1):
            flag = next(word for word in plan.gateway(number, {}, []) if word.startswith("--state-dir="))
            places.append(flag.partition("=")[2])
        assert Path(places[0]).stat().st_mode & 0o777 == 0o700

    monkeypatch.setattr("inferencegw.cli.cluster.Supervisor", supervise)
    monkeypatch.setattr("trio.run", lambda _: 0)
    assert execute(["cluster", "up"]) == 0
    assert places[0] == places[1]
    assert not Path(places[0]).exists()


async def test_a_replica_is_stopped_and_started_with_another_version_by_order(command: Command) -> None:
    """As a rollout does it; ``trio-gw members`` shows what came of it."""
    async with supervised() as cluster, open_manager(cluster.served["manager"]) as manager:
        assert (await cluster.until_member("r1", is_alive)).model_version == "v1"
        await manager.stop("r1")
        assert is_gone(cluster.pids_of("r1")[0])
        await cluster.until_member("r1", lambda row: row.state == "LEFT")
        await manager.start("r1", "v2")
        await cluster.until_member("r1", is_alive)
        result = await command("members", "--json", "--gateway", cluster.served["g1"])
        assert [row["model_version"] for row in result.document if row["id"] == "r1"] == ["v2"]
        assert await generate(cluster) == {"r1"}
        with pytest.raises(ManagerError, match="it runs with version v2: stop it first"):
            await manager.start("r1", "v1")
        assert len(cluster.pids_of("r1")) == 2


async def test_a_running_call_finishes_while_its_cluster_goes_down() -> None:
    """The gateway takes no more, and its replica outlives it."""
    async with supervised() as cluster:
        async with (
            AsyncClient(cluster.served["g1"]) as client,
            client.generate("Hello", max_tokens=200) as generation,
        ):
            first = await anext(aiter(generation))
            cluster.process.terminate()
            rest = [token async for token in generation]
        assert await cluster.process.wait() == 0
        assert [first.index, *(token.index for token in rest)] == list(range(200))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    """With a call that would take minutes; the status a shell expects, and nobody left."""
    async with supervised(token_delay_ms=1000) as cluster, trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(Exception, match="UNAVAILABLE"):
                await generate(cluster, 500)

        nursery.start_soon(call)
        assert is_alive(await cluster.until_member("r1", lambda row: row.load == 1))
        cluster.process.send_signal(number)
        await cluster.until(lambda: any("event=draining" in line for line in cluster.log))
        cluster.process.send_signal(number)
        assert await cluster.process.wait() == 128 + number
        nursery.cancel_scope.cancel()
    assert all(is_gone(pid) for pid in cluster.pids)


async def test_ctrl_c_before_all_are_ready_ends_it_at_once() -> None:
    """There is nothing to drain: the status a shell expects, no ready line, nobody left, no traceback."""
    log = b""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            start = partial(trio.run_process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
            process: trio.Process = await nursery.start(start, [sys.executable, "-m", "inferencegw", *command_line()])
            assert process.stdout is not None
            assert process.stderr is not None
            while b"child.ready id=g1" not in log:
                log += await process.stderr.receive_some()
            process.send_signal(signal.SIGINT)
            async for chunk in process.stderr:
                log += chunk
            assert await process.stdout.receive_some() == b""
    assert process.returncode == 130
    assert b"Traceback" not in log
    assert all(is_gone(int(match[2])) for match in CHILD.finditer(log.decode()))


async def test_a_cluster_whose_reader_has_left_is_not_begun() -> None:
    """``trio-gw cluster up | true``: nobody would know where it is. The status of SIGPIPE, nobody left."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            start = partial(trio.run_process, stdout=subprocess.PIPE, capture_stderr=True, check=False)
            process: trio.Process = await nursery.start(start, [sys.executable, "-m", "inferencegw", *command_line()])
            assert process.stdout is not None
            await process.stdout.aclose()
    assert process.returncode == 141


def test_a_folder_for_logs_that_cannot_be_had_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of that name is there. Nothing is started."""
    (tmp_path / "logs").write_text("mine")
    assert execute(command_line(log_dir=tmp_path / "logs")) == 1
    assert capsys.readouterr().err == f"trio-gw: error: {tmp_path}/logs: File exists\n"


async def test_logs_go_to_a_file_for_each_child(tmp_path: Path) -> None:
    """The supervisor's own stay on standard error."""
    async with supervised(log_dir=tmp_path / "logs") as cluster:
        assert await generate(cluster) == {"r1"}
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["g1.log", "r1.log"]
    assert "replica connected" in (tmp_path / "logs" / "g1.log").read_text()
    assert all("logger=inferencegw.cli.supervisor" in line for line in cluster.log)


def test_a_port_that_is_taken_is_one_line_and_nobody_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """A gateway's, or the manager's: in the words of whoever could not have it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert execute(command_line(port=port, log_level="critical")) == 1
        said = capsys.readouterr()
        pattern = rf"trio-gw: error: g1 ended with status 1 .*:{port}: Address already in use: .*\n"
        assert said.out == ""
        assert re.fullmatch(pattern, said.err.splitlines(keepends=True)[-1])
        assert execute(command_line(manager_port=port, log_level="critical")) == 1
        said = capsys.readouterr()
        choose = "choose another --manager-port (0: a free one)"
        assert said.out == ""
        assert said.err == f"trio-gw: error: cannot listen on 127.0.0.1:{port}: Address already in use: {choose}\n"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--replicas", "0"), "ClusterConfig.replicas = 0: must be a number from 1 to 256 (replicas)"),
        (("--gateways", "65"), "ClusterConfig.gateways = 65: must be a number from 1 to 64 (gateways)"),
        (("--http-port", "-1"), "ClusterConfig.http_port = -1: must be a number from 0 to 65472 (port)"),
        (("--http-port", "65500"), "ClusterConfig.http_port = 65500: must be a number from 0 to 65472 (port)"),
        (("--model-version", ""), "model_version = '' (--model-version): must be 1 to 64 bytes long in UTF-8"),
        (("--gossip-profile", "x"), "gossip_profile = 'x' (--gossip-profile): must be one of "),
        (("--drain-timeout", "nan"), "drain_timeout = nan (--drain-timeout): must be a number from 0 to 3600 "),
    ],
)
async def test_an_option_that_cannot_be_used_is_one_line_and_nothing_is_started(
    command: Command, flags: tuple[str, str], problem: str
) -> None:
    """Status 2."""
    result = await command("cluster", "up", *flags)
    assert (result.status, result.out) == (2, "")
    assert problem in result.err
    assert result.err.count("\n") == 1


async def test_a_file_that_cannot_be_used_is_one_line_and_nothing_is_started(command: Command, tmp_path: Path) -> None:
    """Each kind of child has its own, and what is in it is looked at before anybody is started."""
    (tmp_path / "r.toml").write_text("weight = -1", encoding="utf-8")
    result = await command("cluster", "up", "--replica-config", str(tmp_path / "r.toml"))
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"trio-gw: error: weight = -1 ({tmp_path / 'r.toml'}: weight): must be a number")
    result = await command("cluster", "up", "--gateway-config", str(tmp_path / "r.toml"))
    assert f"{tmp_path / 'r.toml'}: weight: there is no such option" in result.err


async def test_children_have_what_their_files_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag goes before them; a file that the environment names is for a server that is started alone."""
    (tmp_path / "r.toml").write_text('model = "filed"\nmodel_version = "v7"', encoding="utf-8")
    monkeypatch.setenv("TRIO_GW_CONFIG", str(tmp_path / "no.toml"))
    async with supervised(replica_config=tmp_path / "r.toml", model_version="v8") as cluster:
        row = await cluster.until_member("r1", is_alive)
        assert (row.model, row.model_version) == ("filed", "v8")


async def test_the_group_of_commands_has_help(command: Command) -> None:
    """``trio-gw cluster`` says what there is, and so does the list of commands."""
    assert " up " in (await command("cluster", "--help")).out
    assert "cluster" in (await command("--help")).out
    assert "Example:" in (await command("cluster", "up", "--help")).out
