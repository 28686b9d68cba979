"""Child processes: ready when they say so, gone when their nursery is, and never longer than their parent."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from functools import partial

import pytest
import trio

from inferencegw import children
from inferencegw.children import Child, ChildError, parse_ready_line, run_child
from inferencegw.cli._leash import EXIT_ORPHANED

REPLICA = ("replica", "--port", "0")


@pytest.mark.parametrize(
    ("line", "addresses"),
    [
        ("ready grpc=127.0.0.1:8080", {"grpc": "127.0.0.1:8080"}),
        ("ready grpc=[::1]:8080 http=[::1]:80", {"grpc": "[::1]:8080", "http": "[::1]:80"}),
        ("", {}),
        ("ready", {}),
        ("ready grpc", {}),
        ("ready grpc=", {}),
        ("ready =127.0.0.1:8080", {}),
        ("steady grpc=127.0.0.1:8080", {}),
    ],
)
def test_a_ready_line_says_where_each_service_is(line: str, addresses: dict[str, str]) -> None:
    """Anything else is no ready line."""
    assert parse_ready_line(line) == addresses


async def test_a_child_is_started_once_it_can_be_connected_to() -> None:
    """Nobody has to wait or retry after start()."""
    async with trio.open_nursery() as nursery:
        child: Child = await nursery.start(run_child, "r1", REPLICA)
        host, _, port = child.addresses["grpc"].rpartition(":")
        await (await trio.open_tcp_stream(host, int(port))).aclose()
        nursery.cancel_scope.cancel()


async def test_a_cancelled_child_drains_and_has_ended_when_the_nursery_has() -> None:
    """SIGTERM first: an idle server needs no more to end with status 0."""
    async with trio.open_nursery() as nursery:
        child: Child = await nursery.start(run_child, "r1", REPLICA)
        nursery.cancel_scope.cancel()
    assert child.process.returncode == 0


async def test_a_child_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process acts on nothing but SIGKILL."""
    monkeypatch.setattr(children, "GRACE", 0.05)
    async with trio.open_nursery() as nursery:
        child: Child = await nursery.start(run_child, "r1", REPLICA)
        child.process.send_signal(signal.SIGSTOP)
        nursery.cancel_scope.cancel()
    assert child.process.returncode == -signal.SIGKILL


async def test_a_killed_child_ends_its_task_with_its_status() -> None:
    """The supervisor notices, and nothing else is disturbed."""
    statuses = []

    async def supervise(*, task_status: trio.TaskStatus[Child]) -> None:
        statuses.append(await run_child("r1", REPLICA, task_status=task_status))

    async with trio.open_nursery() as nursery:
        child: Child = await nursery.start(supervise)
        child.kill()
    assert statuses == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("arguments", "last_words"),
    [
        (["replica", "--port", "-1"], r"r1 ended with status 2 .* port = -1 \(--port\): must be a number from 0"),
        (["--version"], "r1 ended with status .* before it was ready: no word"),
    ],
)
async def test_a_child_that_does_not_get_ready_is_an_error_with_its_last_words(
    arguments: Sequence[str], last_words: str
) -> None:
    """What it wrote to standard error last says why."""
    with pytest.raises(ChildError, match=last_words):
        await run_child("r1", arguments)


PARENT = f"""
import signal, trio
from inferencegw.children import run_child
async def main():
    async with trio.open_nursery() as nursery:
        child = await nursery.start(run_child, "r1", {REPLICA!r})
        print(child.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""

STOPPING_PARENT = PARENT.replace(
    "        print(",
    """
        import os
        child.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        print(""",
)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is not its child with pidfds")
@pytest.mark.parametrize("script", [PARENT, STOPPING_PARENT], ids=["running", "stopped"])
async def test_a_child_does_not_outlive_a_parent_that_was_killed(script: str) -> None:
    """SIGKILL of the parent runs no handler; the closing pipe ends the child, even one that was stopped."""
    async with trio.open_nursery() as nursery:
        # A session of its own, as a terminal's: whoever adopts the child is not of it.
        start = partial(trio.run_process, stdout=subprocess.PIPE, check=False, start_new_session=True)
        parent: trio.Process = await nursery.start(start, [sys.executable, "-c", script])
        assert parent.stdout is not None
        async with parent.stdout:
            child = os.pidfd_open(int(await parent.stdout.receive_some()))
        try:
            parent.kill()
            with trio.fail_after(5):
                await trio.lowlevel.wait_readable(child)
        finally:
            os.close(child)


@pytest.mark.skipif(sys.platform != "linux", reason="adopts the child, see conftest.py")
async def test_a_stopped_child_that_is_adopted_within_its_session_ends_once_it_goes_on() -> None:
    """The leash's limit: a parent in its session, as this process is, means no orphan for the kernel to wake."""
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, stdout=subprocess.PIPE, check=False)
        parent: trio.Process = await nursery.start(start, [sys.executable, "-c", STOPPING_PARENT])
        assert parent.stdout is not None
        async with parent.stdout:
            pid = int(await parent.stdout.receive_some())
        child = os.pidfd_open(pid)
        try:
            parent.kill()
            await parent.wait()
            found = await trio.to_thread.run_sync(os.waitid, os.P_PIDFD, child, os.WSTOPPED | os.WEXITED)
            assert found is not None
            assert found.si_code == os.CLD_STOPPED
            os.kill(pid, signal.SIGCONT)
            with trio.fail_after(5):
                await trio.lowlevel.wait_readable(child)
        finally:
            os.close(child)


async def test_a_parent_that_died_before_the_child_looked_is_noticed() -> None:
    """End-of-file stays: there is no moment at which the parent's end could be missed."""
    command = [sys.executable, "-m", "inferencegw.cli._leash", *REPLICA]
    with trio.fail_after(5):
        result = await trio.run_process(command, stdin=subprocess.DEVNULL, capture_stdout=True, check=False)
    assert result.returncode == EXIT_ORPHANED


async def test_a_child_is_not_in_our_process_group() -> None:
    """Ctrl-C in the terminal reaches the parent alone, which then ends its children in its own order."""
    async with trio.open_nursery() as nursery:
        child: Child = await nursery.start(run_child, "r1", REPLICA)
        assert os.getpgid(child.pid) == child.pid
        nursery.cancel_scope.cancel()


async def test_a_talkative_child_does_not_have_to_wait_for_us() -> None:
    """Its log is read all the time, line by line, and who keeps the last lines has its end."""
    send, receive = trio.testing.memory_stream_pair()
    lines: deque[str] = deque(maxlen=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(children._hear_lines, receive, lines.append)
        for number in range(10):
            await send.send_all(b"line %d\nli" % number)
            await send.send_all(b"ne\n")
        await send.send_all(b"the end")
        await send.aclose()
    assert list(lines) == ["line 9", "line", "the end"]
