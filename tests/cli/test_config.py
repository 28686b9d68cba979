"""``trio-gw config``, ``--config`` and SIGHUP: from the front door, on files, variables and real processes."""

import json
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import structlog.testing
import trio

from inferencegw.children import Child, run_child
from inferencegw.cli._notify import Notifier
from inferencegw.cli._serving import _reload
from inferencegw.cli.app import app, execute
from inferencegw.config import GatewayConfig
from inferencegw.settings.live import Live
from inferencegw.settings.sources import Sources
from tests.cli.conftest import Command

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of whoever runs the tests are theirs."""
    for name in [name for name in os.environ if name.startswith("TRIO_GW_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file."""
    (tmp_path / "gw.toml").write_text("queue_size = 5\n[limits]\nmax_streams = 7\n", encoding="utf-8")
    return tmp_path / "gw.toml"


def test_config_prints_what_run_would_have_and_where_each_value_is_from(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The four places; flags are those of ``run``."""
    monkeypatch.setenv("TRIO_GW_HEDGE", "race")
    assert execute(["config", "--config", str(file), "--port", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"queue_size = 5  # {file}: queue_size" in lines
    assert f"max_streams = 7  # {file}: limits.max_streams" in lines
    assert 'hedge = "race"  # TRIO_GW_HEDGE' in lines
    assert "port = 0  # --port" in lines
    assert 'splice = "any"  # default' in lines


@pytest.mark.parametrize("command", [[], ["replica"]])
def test_what_config_prints_can_be_given_back_to_it(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same values; now they are all the file's, but for those that there are not."""
    flags = ["--gossip-port", "0", "--join", "a:1", "--join", "b:2", "--id", 'a "name"']
    assert execute(["config", *command, *flags]) == 0
    (tmp_path / "again.toml").write_text(capsys.readouterr().out, encoding="utf-8")
    shown = []
    for arguments in (flags, ["--config", str(tmp_path / "again.toml")]):
        assert execute(["config", *command, "--json", *arguments]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    first, again = shown
    assert {key: one["value"] for key, one in first.items()} == {key: one["value"] for key, one in again.items()}
    origins = {one["from"] == "default" for one in again.values() if one["value"] is not None}
    assert origins == {False}


def test_the_environment_names_the_file_where_no_flag_does(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a container."""
    (tmp_path / "other.toml").write_text("queue_size = 6", encoding="utf-8")
    monkeypatch.setenv("TRIO_GW_CONFIG", str(file))
    for arguments, size in (([], 5), (["--config", str(tmp_path / "other.toml")], 6)):
        assert execute(["config", "--json", *arguments]) == 0
        assert json.loads(capsys.readouterr().out)["queue_size"]["value"] == size


def test_check_prints_nothing_and_tells_by_its_status(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0, or 2 and the error in one line."""
    assert execute(["config", "--check", "--config", str(file)]) == 0
    assert capsys.readouterr() == ("", "")
    assert execute(["config", "replica", "--check", "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"trio-gw: error: {file}: queue_size: there is no such option")
    assert err.count("\n") == 1


def test_a_flag_in_milliseconds_is_seconds_in_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """As everywhere else."""
    assert execute(["config", "replica", "--json", "--token-delay-ms", "20", "--prefill-ms", "5"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["token_delay"] == {"value": 0.02, "from": "--token-delay-ms"}
    assert shown["prefill"] == {"value": 0.005, "from": "--prefill-ms"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And a flag that is made of a class."""
    assert execute(["completion", shell]) == 0
    script = capsys.readouterr().out
    app.resolved_commands()
    assert "undrain" in script
    assert "queue-size" in script


class Log:
    """What a child has logged so far; a line can be waited for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._news = trio.Event()

    def hear(self, line: str) -> None:
        self.lines.append(line)
        self._news.set()
        self._news = trio.Event()

    async def until(self, found: Callable[[list[str]], bool]) -> None:
        with trio.fail_after(PATIENCE):
            await trio.lowlevel.checkpoint()
            while not found(self.lines):
                await self._news.wait()

    async def until_said(self, words: str, times: int = 1) -> None:
        await self.until(lambda lines: sum(words in line for line in lines) >= times)


def a_file(level: str, size: int, *more: str) -> str:
    """A gateway's: with nobody to wait for, who is let into the queue is told so at once."""
    return "\n".join([f'log_level = "{level}"', f"queue_size = {size}", "no_replica_grace = 0.0", *more])


async def test_sighup_changes_what_it_can_in_a_gateway_that_runs(tmp_path: Path, command: Command) -> None:
    """The queue takes calls and then it does not; what needs a restart is named, and flags go before the file still;
    nonsense changes nothing, and is one error; the log falls silent.
    """
    file, log = tmp_path / "gw.toml", Log()
    file.write_text(a_file("info", 1, "port = 1"), encoding="utf-8")
    async with trio.open_nursery() as nursery:
        flags = ["--config", str(file), "--port", "0", "--http-port", "0"]
        child: Child = await nursery.start(partial(run_child, listen=log.hear), "gw", ["run", *flags])
        ask = partial(command, "generate", "--gateway", child.addresses["grpc"], "hello")

        assert "no replica was there" in (await ask()).err

        file.write_text(a_file("debug", 0, 'id = "other"', "port = 2"), encoding="utf-8")
        child.process.send_signal(signal.SIGHUP)
        await log.until_said("changes need a restart")
        assert [line for line in log.lines if 'changed="queue_size, log_level"' in line]
        assert [line for line in log.lines if "options=id" in line]  # and not the port: a flag says that
        assert "0 wait for this model" in (await ask()).err

        file.write_text("queue_size = -1", encoding="utf-8")
        child.process.send_signal(signal.SIGHUP)
        await log.until_said("configuration not changed")
        [error] = [line for line in log.lines if "level=error" in line]
        assert f"queue_size = -1 ({file}: queue_size): must be a number from 0 to 100000 (calls)" in error
        assert "0 wait for this model" in (await ask()).err

        file.write_text(a_file("warning", 0, 'id = "other"'), encoding="utf-8")
        child.process.send_signal(signal.SIGHUP)
        await log.until_said("changes need a restart", times=2)
        child.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await child.process.wait() == 0
    assert not [line for line in log.lines if "draining" in line]


async def test_sighup_changes_the_log_level_of_a_replica(tmp_path: Path) -> None:
    """It does not end it, either."""
    file, log = tmp_path / "replica.toml", Log()
    file.write_text('log_level = "error"', encoding="utf-8")
    async with trio.open_nursery() as nursery:
        child: Child = await nursery.start(
            partial(run_child, listen=log.hear), "r1", ["replica", "--port", "0", "--config", str(file)]
        )
        file.write_text('log_level = "info"\nweight = 2.0', encoding="utf-8")
        child.process.send_signal(signal.SIGHUP)
        await log.until_said("options=weight")
        child.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await child.process.wait() == 0
    assert [line for line in log.lines if "replica.draining" in line]


@pytest.mark.parametrize("content", ["queue_size = 5", "nonsense"])
def test_systemd_is_told_of_a_reload_and_its_end_whatever_comes_of_it(content: str, tmp_path: Path) -> None:
    """``systemctl reload`` waits for it."""
    file = tmp_path / "gw.toml"
    file.write_text(content, encoding="utf-8")
    live = Live(GatewayConfig())
    reread = []
    live.subscribe(lambda before, now: reread.append(now))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, structlog.testing.capture_logs() as log:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        _reload(Sources(GatewayConfig, file), Notifier(str(tmp_path / "notify")), live)
        assert [manager.recv(4096).split(b"\n")[0] for _ in range(2)] == [b"RELOADING=1", b"READY=1"]
    assert len(reread) == 1  # files of keys are read again, whatever becomes of the options
    [line] = log
    assert (line["event"], live.now.queue_size) == {
        "queue_size = 5": ("configuration reloaded", 5),
        "nonsense": ("configuration not changed", 100),
    }[content]
