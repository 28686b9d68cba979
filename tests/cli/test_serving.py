"""The servers as processes: the ready line, signals, addresses that cannot be had."""

import re
import signal
import socket
import subprocess
import sys
from functools import partial

import pytest
import trio

from inferencegw.children import Child, parse_ready_line, run_child
from inferencegw.cli.app import execute
from inferencegw.config import address_text, split_address

SERVERS = ("run", "replica")


@pytest.mark.parametrize("command", SERVERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_prints_one_line_and_ends_with_status_0_after_a_signal(
    command: str, number: signal.Signals
) -> None:
    """The ready line is all there ever is on standard output; the log is on standard error."""
    arguments = [sys.executable, "-m", "inferencegw", command, "--port", "0"]
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, stdout=subprocess.PIPE, capture_stderr=True)
        process: trio.Process = await nursery.start(start, arguments)
        assert process.stdout is not None
        async with process.stdout:
            line = await process.stdout.receive_some()
            process.send_signal(number)
            assert await process.stdout.receive_some() == b""
        assert line.endswith(b"\n")
        assert list(parse_ready_line(line.decode())) == ["grpc"]
        assert await process.wait() == 0


@pytest.mark.parametrize("command", SERVERS)
def test_an_address_that_is_taken_is_one_line_that_says_which_and_what_to_do(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1: the command line was right, the world is not."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert execute([command, "--port", str(port), "--log-level", "critical"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"trio-gw: error: cannot listen on 127.0.0.1:{port}: Address already in use:"
        " choose another --host or --port (0: a free one)\n"
    )


@pytest.mark.parametrize("command", SERVERS)
async def test_a_server_that_gossips_says_where(command: str) -> None:
    """With a port for it, or with somebody to join and no port; the line says only what is served."""
    async with trio.open_nursery() as nursery:
        arguments = ["--port", "0", "--log-level", "error"]
        first: Child = await nursery.start(run_child, "n1", [command, *arguments, "--gossip-port", "0"])
        assert list(first.addresses) == ["grpc", "gossip"]
        second: Child = await nursery.start(run_child, "n2", [command, *arguments, "--join", first.addresses["gossip"]])
        assert list(second.addresses) == ["grpc", "gossip"]
        assert len({*first.addresses.values(), *second.addresses.values()}) == 4
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("command", SERVERS)
def test_a_gossip_address_that_is_taken_is_told_by_its_own_flag(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of the two ports it was is what a user has to know."""
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert execute([command, "--port", "0", "--gossip-port", str(port), "--log-level", "critical"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"trio-gw: error: cannot listen on 127.0.0.1:{port}: Address already in use:"
        " choose another --host or --gossip-port (0: a free one)\n"
    )


def test_an_http_address_that_is_taken_is_told_by_its_own_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything else of the gateway is there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert execute(["run", "--port", "0", "--http-port", str(port), "--log-level", "critical"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"trio-gw: error: cannot listen on 127.0.0.1:{port}: Address already in use:"
        " choose another --host or --http-port (0: a free one)\n"
    )


async def test_a_gateway_that_serves_http_says_where_and_ends_with_it_open() -> None:
    """Last in the ready line. Whoever keeps a connection there does not hold the process."""
    async with trio.open_nursery() as nursery:
        arguments = ["run", "--port", "0", "--http-port", "0", "--log-level", "error"]
        child: Child = await nursery.start(run_child, "g1", arguments)
        assert list(child.addresses) == ["grpc", "http"]
        host, port = split_address(child.addresses["http"])
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            child.process.terminate()
            assert await child.process.wait() == 0


@pytest.mark.parametrize("command", SERVERS)
def test_a_name_that_only_the_resolver_knows_to_be_none_is_one_line_too(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """IDNA 2008, which it knows, has no snowmen."""
    assert execute([command, "--host", "\N{SNOWMAN}.example", "--port", "0", "--log-level", "critical"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch("trio-gw: error: host = '\N{SNOWMAN}.example': .*not allowed\n", captured.err)


async def test_the_log_level_is_obeyed() -> None:
    """A quiet server says nothing but that it is ready."""
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, capture_stderr=True, stdout=subprocess.PIPE)
        quiet = [sys.executable, "-m", "inferencegw", "replica", "--port", "0", "--log-level", "critical"]

        async def run(*, task_status: trio.TaskStatus[trio.Process]) -> None:
            result = await start(quiet, task_status=task_status)
            assert result.stderr == b""

        process: trio.Process = await nursery.start(run)
        assert process.stdout is not None
        async with process.stdout:
            await process.stdout.receive_some()
            process.terminate()
            await process.wait()


async def test_a_server_on_an_ipv6_address_puts_it_in_brackets() -> None:
    """The ready line's address can be given to ``--replica`` and ``--gateway`` as it is."""
    async with trio.open_nursery() as nursery:
        child: Child = await nursery.start(run_child, "r1", ["replica", "--host", "::1", "--port", "0"])
        assert child.addresses["grpc"].startswith("[::1]:")
        nursery.cancel_scope.cancel()


def test_an_address_is_joined_as_it_is_split() -> None:
    """RFC 3986's brackets, for IPv6 only."""
    assert address_text(("127.0.0.1", 80)) == "127.0.0.1:80"
    assert address_text(("::1", 80)) == "[::1]:80"
