"""What systemd is told: on a real datagram socket, by a notifier and by real servers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import structlog.testing
import trio

from inferencegw.cli._notify import Notifier
from inferencegw.cli.app import execute
from inferencegw.errors import ConfigError

PATIENCE = 20.0


@contextmanager
def a_manager(address: str | bytes) -> Iterator[socket.socket]:
    """A socket that listens as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(PATIENCE)
        yield manager


def said(manager: socket.socket) -> list[str]:
    """The next datagram's states."""
    return manager.recv(4096).decode().split("\n")


def test_a_manager_is_told_each_state_in_a_datagram(tmp_path: Path) -> None:
    """In the words of sd_notify(3)."""
    with a_manager(str(tmp_path / "notify")) as manager:
        notifier = Notifier(str(tmp_path / "notify"))
        notifier.ready()
        assert said(manager) == ["READY=1"]
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        with notifier.reloading():
            word, moment = said(manager)
        assert word == "RELOADING=1"
        name, _, usec = moment.partition("=")
        assert name == "MONOTONIC_USEC"
        assert before <= int(usec) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert said(manager) == ["READY=1"]
        notifier.stopping()
        assert said(manager) == ["STOPPING=1"]


def test_a_reload_that_fails_leaves_a_server_that_is_ready(tmp_path: Path) -> None:
    """What was in force still is."""
    with a_manager(str(tmp_path / "notify")) as manager:
        with pytest.raises(ConfigError), Notifier(str(tmp_path / "notify")).reloading():
            raise ConfigError("no")
        assert [said(manager)[0], said(manager)[0]] == ["RELOADING=1", "READY=1"]


def test_an_abstract_name_is_one_behind_an_at_sign() -> None:
    """A socket that no file stands for: Linux only, as systemd is."""
    name = f"inferencegw-test-{os.getpid()}"
    with a_manager(b"\0" + name.encode()) as manager:
        Notifier(f"@{name}").ready()
        assert said(manager) == ["READY=1"]


async def test_a_heartbeat_comes_twice_in_the_watchdog_s_time(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """At once, and then so often until it is cancelled."""
    with a_manager(str(tmp_path / "notify")) as manager:
        with trio.move_on_after(10.0):
            await Notifier(str(tmp_path / "notify"), watchdog=4.0).run()
        manager.setblocking(False)
        assert [said(manager) for _ in range(5)] == [["WATCHDOG=1"]] * 5
        with pytest.raises(BlockingIOError):
            said(manager)


async def test_without_a_watchdog_there_are_no_heartbeats(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody counts them."""
    with a_manager(str(tmp_path / "notify")) as manager:
        with trio.move_on_after(1000.0):
            await Notifier(str(tmp_path / "notify")).run()
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            said(manager)


@pytest.mark.parametrize("fill", [False, True])
def test_a_manager_that_does_not_listen_costs_a_line_in_the_log(tmp_path: Path, fill: bool) -> None:
    """Gone, or not reading: neither raises, and neither holds the event loop."""
    notifier = Notifier(str(tmp_path / "notify"))
    with structlog.testing.capture_logs() as lines:
        if not fill:
            notifier.ready()
        else:
            with a_manager(str(tmp_path / "notify")):
                while not lines:
                    notifier.ready()
    assert [(line["event"], line["states"]) for line in lines] == [("systemd.not_told", ("READY=1",))]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({}, Notifier()),
        ({"NOTIFY_SOCKET": ""}, Notifier()),
        ({"NOTIFY_SOCKET": "/run/n"}, Notifier("/run/n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "3000000"}, Notifier("@n", 3.0)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": str(os.getpid())}, Notifier("/n", 5e-6)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}, Notifier("/n")),
        ({"WATCHDOG_USEC": "3000000"}, Notifier()),
    ],
)
def test_the_environment_says_whom_to_tell_and_children_inherit_nothing(said: dict[str, str], meant: Notifier) -> None:
    """A watchdog that waits for another process's heartbeats gets none from us."""
    environment = {"HOME": "/", **said}
    assert Notifier.take_from(environment) == meant
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"NOTIFY_SOCKET": "notify"}, "NOTIFY_SOCKET = 'notify': must be an absolute path, or a name behind an @"),
        (
            {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"},
            "WATCHDOG_USEC = '0': must be a number of microseconds above 0",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(
    environment: dict[str, str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A server that was asked to tell and cannot is not started: it would be killed for its silence."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert execute(["replica", "--port", "0", "--log-level", "critical"]) == 2
    assert capsys.readouterr().err == f"trio-gw: error: {complaint}\n"


@pytest.mark.parametrize("command", ["run", "replica"])
async def test_a_server_tells_systemd_when_it_is_ready_alive_reloading_and_leaving(
    command: str, tmp_path: Path
) -> None:
    """READY=1 no earlier than the ready line; heartbeats from its own event loop; RELOADING=1 and READY=1 at SIGHUP;
    STOPPING=1 at SIGTERM.
    """
    with a_manager(str(tmp_path / "notify")) as manager:
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        arguments = [sys.executable, "-m", "inferencegw", command, "--port", "0", "--log-level", "error"]
        hear: Callable[[], list[str]] = partial(said, manager)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                start = partial(trio.run_process, arguments, env=environment, stdout=subprocess.PIPE)
                process: trio.Process = await nursery.start(start)
                heard: list[str] = []
                while heard.count("WATCHDOG=1") < 3 or "READY=1" not in heard:
                    heard += await trio.to_thread.run_sync(hear)
                assert process.stdout is not None
                async with process.stdout:
                    assert (await process.stdout.receive_some()).startswith(b"ready grpc=")
                    assert set(heard) == {"READY=1", "WATCHDOG=1"}
                    assert heard.count("READY=1") == 1
                    process.send_signal(signal.SIGHUP)
                    while heard.count("READY=1") < 2:
                        heard += await trio.to_thread.run_sync(hear)
                    process.send_signal(signal.SIGTERM)
                    while "STOPPING=1" not in heard:
                        heard += await trio.to_thread.run_sync(hear)
                told = [word for word in heard if word != "WATCHDOG=1" and not word.startswith("MONOTONIC_USEC=")]
                assert told == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
