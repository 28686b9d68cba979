"""The way in and out: help, one-line errors, exit statuses."""

import errno
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest

from inferencegw import __version__
from inferencegw.cli import app
from inferencegw.cli._exit import CommandError, describe
from inferencegw.cli.app import execute
from inferencegw.config import GatewayConfig
from inferencegw.errors import ConfigError

COMMANDS = (
    "run",
    "replica",
    "generate",
    "members",
    "status",
    "why",
    "bench",
    "ring",
    "drain",
    "undrain",
    "keys",
    "demo",
    "config",
    "completion",
)

NOT_FLAGS = {"reconnect_initial", "reconnect_maximum", "draining_recheck", "limits"}
"""What has a key in the file and a variable only: how a gateway treats its connections."""


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help is laid out for the terminal's width; wide, so that a sentence stays on its line."""
    monkeypatch.setenv("COLUMNS", "250")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_its_exit_statuses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader needs no other document to call it from a script."""
    assert execute([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: trio-gw {command}" in shown
    assert f"\nExample: trio-gw {command} " in shown
    assert "\nExit status: 0" in shown


@pytest.mark.parametrize("command", ["run", "replica"])
def test_every_number_of_a_server_says_what_high_and_low_cost(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentences are those of the configuration classes."""
    execute([command, "--help"])
    shown = capsys.readouterr().out
    for line in re.findall(r"^.*--\S+ FLOAT .*$", shown, re.MULTILINE):
        assert ("High:" in line and "Low:" in line) or "error-rate" in line


def test_every_option_of_a_gateway_is_a_flag_of_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own name (``--replica`` for ``replicas``), with the same default; what is given arrives."""
    made: list[GatewayConfig] = []

    def serve(_start: object, _run: object, _sources: object, config: GatewayConfig) -> None:
        made.append(config)

    monkeypatch.setattr("trio.run", serve)
    flags: list[str] = []
    for field in attrs.fields(GatewayConfig):
        if field.name not in NOT_FLAGS and isinstance(field.default, (int, float)):
            flags += [f"--{field.name.replace('_', '-')}", str(field.default + 1)]
    given = ["--hedge", "adaptive", "--splice", "same-version", "--replica", "127.0.0.1:1", "--gossip-port", "0"]
    names = ["--id", "gw", "--host", "::1", "--cluster", "c", "--advertise", "::1", "--gossip-profile", "fast"]
    files = ["--keyring-file", "k", "--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a", "--join", "[::1]:1"]
    files += ["--manager", "127.0.0.1:1", "--state-dir", "s", "--log-level", "error"]
    files += ["--http-port", "0", "--log-format", "json"]
    files += ["--keys-file", "k", "--client-certs", "optional"]
    assert execute(["run"]) == execute(["run", *flags, *given, *names, *files]) == 0
    default, other = made
    assert default == GatewayConfig()
    same = {
        field.name
        for field in attrs.fields(GatewayConfig)
        if getattr(default, field.name) == getattr(other, field.name)
    }
    assert same == NOT_FLAGS


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_the_commands_are_listed_with_a_line_each(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What somebody who knows nothing types first."""
    assert execute(arguments) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^\W*{command}\s+[A-Z]\w+", shown, re.MULTILINE)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing else is printed."""
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], 'Unknown command "frobnicate". Available commands: .*run.* See: trio-gw --help'),
        (["run", "--prot", "80"], r"Unknown option: --prot. Did you mean --port\? See: trio-gw run --help"),
        (["run", "--port"], ".*--port requires an argument. See: trio-gw run --help"),
        (["run", "extra"], ".*extra.* See: trio-gw run --help"),
        (["run", "--port", "http"], 'Invalid value for --port: unable to convert "http" into int.*'),
        (["run", "--port", "65536"], r"port = 65536 \(--port\): must be a number from 0 to 65535 .port."),
        (["run", "--port", "1.9e4"], 'Invalid value for --port: unable to convert "1.9e4" into int. See: .* --help'),
        (["run", "--host", "a..b"], r"host = 'a..b' \(--host\): must be an IP address or a name that can be .*"),
        (["replica", "--host", " "], r"host = ' ' \(--host\): must be an IP address or a name that can be .*"),
        (
            ["run", "--replica", "localhost"],
            r"replicas = \('localhost',\) \(--replica\): address = 'localhost': must .*",
        ),
        (["run", "--drain-timeout", "nan"], r"drain_timeout = nan \(--drain-timeout\): must be .*"),
        (["run", "--hedge", "maybe"], r"hedge = 'maybe' \(--hedge\): must be one of never, race, adaptive"),
        (["run", "--splice", "no"], r"splice = 'no' \(--splice\): must be one of any, same-version"),
        (
            ["run", "--max-attempts", "0"],
            r"max_attempts = 0 \(--max-attempts\): must be a number from 1 to 100 .attempts.",
        ),
        (["status", "--gateway", "localhost"], "address = 'localhost': must be HOST:PORT with a port from .*"),
        (["why"], ".*requires an argument. See: trio-gw why --help"),
        (["drain"], ".*requires an argument. See: trio-gw drain --help"),
        (["run", "--log-level", "loud"], r"log_level = 'loud' \(--log-level\): must be one of debug, info, .*"),
        (
            ["run", "--http-port", "65536"],
            r"http_port = 65536 \(--http-port\): must be a number from 0 to 65535 .port.",
        ),
        (
            ["run", "--gossip-port", "65536"],
            r"gossip_port = 65536 \(--gossip-port\): must be a number from 0 to 65535 .port.",
        ),
        (["run", "--join", "localhost"], r"join = \('localhost',\) \(--join\): address = 'localhost': must .*"),
        (
            ["run", "--port", "0", "--join", "192.0.2.1:18080"],
            "GatewayConfig.join: 192.0.2.1:18080 is beyond .* and cannot answer 127.0.0.1: .* --advertise HOST .*",
        ),
        (["run", "--advertise", "10.0.0.1"], r"advertise = '10.0.0.1': is of no use .* \(advertise: --advertise\)"),
        (["run", "--gossip-port", "0", "--advertise", "a:1"], r"advertise = 'a:1' \(--advertise\): must be a HOST, .*"),
        (
            ["replica", "--gossip-port", "0", "--keyring-file", "no.keys"],
            "keyring_file = 'no.keys': cannot be read: No such file or directory",
        ),
        (
            ["replica", "--gossip-profile", "slow"],
            r"gossip_profile = 'slow' \(--gossip-profile\): must be one of lan, .*",
        ),
        (["replica", "--cluster", "x" * 65], r"cluster = 'x{65}' \(--cluster\): must be 0 to 64 bytes long in UTF-8"),
        (["replica", "--token-delay-ms", "-1"], r"token_delay = -0.001 \(--token-delay-ms\): must be .*"),
        (["replica", "--fault", "explode"], "fault 'explode': must be one of .*"),
        (
            ["replica", "--tls-cert", "x.pem"],
            r"tls_cert and tls_key: must be given together or not at all \(tls_cert: --tls-cert\)",
        ),
        (["replica", "--tls-cert", "no.pem", "--tls-key", "no.pem"], "TLS certificate no.pem: cannot be read: .*"),
        (["bench", "--hedge", "maybe"], 'Invalid value "maybe" for --hedge. Choose from: .*'),
        (["generate", "hello", "--hedge", "maybe"], 'Invalid value "maybe" for --hedge. Choose from: .*'),
        (["demo", "--token-delay-ms", "slow"], 'Invalid value for --token-delay-ms: unable to convert "slow" .*'),
    ],
)
def test_a_users_mistake_is_one_line_on_standard_error_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names what was wrong and what is allowed; nothing goes to standard output."""
    assert execute(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(f"trio-gw: error: {message}\n", captured.err)


INTEGER_FLAGS = (
    ("run", "--port"),
    ("run", "--http-port"),
    ("run", "--gossip-port"),
    ("run", "--queue-size"),
    ("run", "--max-attempts"),
    ("run", "--max-attempts-total"),
    ("run", "--poison-limit"),
    ("run", "--breaker-window"),
    ("replica", "--port"),
    ("replica", "--gossip-port"),
    ("replica", "--max-capacity"),
    ("generate", "--max-tokens"),
    ("generate", "--seed"),
    ("bench", "--concurrency"),
    ("bench", "--requests"),
    ("bench", "--max-tokens"),
    ("bench", "--prompt-tokens"),
    ("bench", "--shared-prefixes"),
    ("bench", "--connections"),
    ("bench", "--seed"),
    ("keys", "--max-concurrent"),
    ("keys", "--burst"),
)

NEEDED = {"keys": ("alice",)}
"""What a command does not do without."""


@pytest.mark.parametrize("text", ["2.7", "2.0", "1.9e1", "1e1", ""])
@pytest.mark.parametrize(("command", "flag"), INTEGER_FLAGS)
def test_an_integer_that_is_not_written_as_one_is_refused(
    command: str, flag: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not rounded: the line names the flag and the value."""
    assert execute([command, *NEEDED.get(command, ()), flag, text]) == 2
    line = f'Invalid value for {flag}: unable to convert "{text}" into int. See: trio-gw {command} --help'
    assert capsys.readouterr().err == f"trio-gw: error: {line}\n"


def test_no_integer_flag_is_missing_from_the_list_above() -> None:
    """A new one is to refuse the same."""
    found = {
        (command, name)
        for command in COMMANDS
        if command != "config"  # its flags are those of `run`
        for argument in app.app[command].assemble_argument_collection()
        if argument.hint in {int, int | None}
        for name in argument.names
    }
    assert found == set(INTEGER_FLAGS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_standard_output_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``trio-gw run >&-``: Python has no ``sys.stdout`` then; nothing is started."""
    monkeypatch.setattr(sys, "stdout", None)
    assert execute([command]) == 1
    assert capsys.readouterr().err == (
        "trio-gw: error: standard output is closed: send it to /dev/null where nobody wants it\n"
    )


def console_script() -> str:
    """What an installer makes of the entry point in ``pyproject.toml``."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    module, _, function = tomllib.loads(text)["project"]["scripts"]["trio-gw"].partition(":")
    return f"import sys; from {module} import {function}; sys.exit({function}())"


@pytest.mark.parametrize("start", [["-m", "inferencegw"], ["-c", console_script()]], ids=["module", "script"])
def test_ctrl_c_during_the_imports_says_nothing(start: list[str], tmp_path: Path) -> None:
    """The status is that of a Ctrl-C at any other time. Here it comes with the import of cyclopts, which is early."""
    (tmp_path / "cyclopts.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit('not interrupted')\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, *start, "run"], env=environment, capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (CommandError("the replica\nis gone"), 1, "trio-gw: error: the replica is gone\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "p.txt"), 1, "trio-gw: error: p.txt: No such file\n"),
        (ConfigError("port = -1: must be a port"), 2, "trio-gw: error: port = -1: must be a port\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_an_error_ends_a_command_alike_however_many_nurseries_it_came_through(
    error: BaseException,
    status: int,
    line: str,
    depth: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback for what the user or the world did; Ctrl-C says nothing at all."""
    raised = error
    for _ in range(depth):
        raised = BaseExceptionGroup("nursery", [raised])

    def command(_arguments: list[str]) -> None:
        raise raised

    monkeypatch.setattr(app, "app", command)
    assert execute(["run"]) == status
    assert capsys.readouterr() == ("", line)


def test_a_bug_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is not dressed up as somebody's mistake."""

    def command(_arguments: list[str]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app, "app", command)
    with pytest.raises(ZeroDivisionError):
        execute(["run"])


def test_an_error_of_the_system_is_told_without_its_number() -> None:
    """As a shell would say it."""
    assert describe(OSError(errno.EADDRINUSE, "Address already in use")) == "Address already in use"
    assert describe(OSError("no\nnumber")) == "no number"
