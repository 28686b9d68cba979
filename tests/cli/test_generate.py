"""One prompt from the command line, through a gateway to a replica, all in processes of their own."""

import io
import json
import signal
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import attrs
import pytest
import trio

from inferencegw.children import Child, run_child
from inferencegw.cli.app import execute
from inferencegw.cli.generate import read_prompt
from inferencegw.errors import ConfigError
from tests.cli.conftest import Command
from tests.cli.support import a_cluster, a_replica

GENERATE = (sys.executable, "-m", "inferencegw", "generate")


async def start_gateway(nursery: trio.Nursery, *replica_flags: str) -> str:
    """A gateway in front of one replica; its address."""
    flags = ["--port", "0", "--id", "r1", "--token-delay-ms", "0", *replica_flags]
    replica: Child = await nursery.start(run_child, "r1", ["replica", *flags])
    gateway: Child = await nursery.start(
        run_child, "gateway", ["run", "--port", "0", "--replica", replica.addresses["grpc"]]
    )
    return gateway.addresses["grpc"]


@attrs.frozen
class Result:
    """What a command did: its exit status, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def tokens(self) -> list[dict[str, object]]:
        """With ``--json``: the tokens."""
        return [json.loads(line) for line in self.out.splitlines()[:-1]]

    @property
    def end(self) -> dict[str, object]:
        """With ``--json``: how it ended."""
        end: dict[str, object] = json.loads(self.out.splitlines()[-1])
        return end


GenerateFn: TypeAlias = Callable[..., Awaitable[Result]]


@pytest.fixture
def generate(capsys: pytest.CaptureFixture[str]) -> GenerateFn:
    """Run the command to its end, in a thread: it brings an event loop of its own."""

    async def run(address: str, *arguments: str) -> Result:
        status = await trio.to_thread.run_sync(execute, ["generate", "--gateway", address, *arguments])
        return Result(status, *capsys.readouterr())

    return run


async def test_a_prompt_gives_the_same_text_however_it_is_given(generate: GenerateFn, tmp_path: Path) -> None:
    """As an argument, from a file or on standard input; as text or as JSON lines."""
    (tmp_path / "prompt.txt").write_text("Why is the sky blue?", encoding="utf-8")
    async with trio.open_nursery() as nursery:
        address = await start_gateway(nursery)
        argument = await generate(address, "Why is the sky blue?", "--max-tokens", "20")
        file = await generate(address, "--file", str(tmp_path / "prompt.txt"), "--max-tokens", "20", "--json")
        command = [*GENERATE, "--gateway", address, "--max-tokens", "20"]
        piped = await trio.run_process(command, stdin=b"Why is the sky blue?", capture_stdout=True, capture_stderr=True)
        nursery.cancel_scope.cancel()
    text = "".join(str(token["text"]) for token in file.tokens)
    assert len(text.split()) == 20
    assert argument == Result(0, f"{text}\n", "")
    assert (piped.stdout, piped.stderr) == (argument.out.encode(), b"")
    assert [(token["index"], token["replica_id"], token["attempt"]) for token in file.tokens] == [
        (index, "r1", 1) for index in range(20)
    ]
    assert file.end == {
        "status": "OK",
        "message": "",
        "delivered": 20,
        "next_index": 20,
        "digest": f"{zlib.crc32(text.encode()):08x}",
        "attempts": 1,
        "finish_reason": "length",
        "reason": "",
        "request_id": file.end["request_id"],
    }


async def test_a_call_that_fails_is_status_1_with_what_came_and_how_far_it_got(generate: GenerateFn) -> None:
    """The replica's stream ends before token 5: five tokens on standard output, one line on standard error."""
    async with trio.open_nursery() as nursery:
        address = await start_gateway(nursery, "--fault", "truncate@5")
        text = await generate(address, "hello", "--max-tokens", "20")
        lines = await generate(address, "hello", "--max-tokens", "20", "--json")
        nursery.cancel_scope.cancel()
    assert (text.status, lines.status) == (1, 1)
    assert text.out == "".join(str(token["text"]) for token in lines.tokens) + "\n"
    assert (len(lines.tokens), lines.end["delivered"], lines.end["next_index"]) == (5, 5, 5)
    assert text.err.startswith(f"trio-gw: error: {lines.end['status']} after 5 tokens: ")
    assert text.err.count("\n") == 1
    assert lines.err.endswith(f" (call {lines.end['request_id']})\n")  # for `trio-gw why`


async def test_who_looks_on_is_told_the_call_s_name(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, if that is a terminal, so that `trio-gw why` can be tried; a script's stays empty."""
    async with a_cluster(a_replica("r1")) as cluster:
        arguments = ("hello", "--max-tokens", "1", "--gateway", cluster.address)
        unseen = await command("generate", *arguments)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        seen = await command("generate", *arguments)
        word, request_id = seen.err.split()
        told = await command("why", request_id, "--gateway", cluster.address)
    assert (unseen.status, unseen.err, seen.status, word, told.status) == (0, "", 0, "call", 0)
    assert unseen.out == seen.out


async def test_what_is_said_about_hedging_reaches_the_gateway(command: Command) -> None:
    """``race`` makes two attempts, of which one is cancelled; ``never`` one, whatever the gateway would do itself."""
    attempts: dict[str, list[tuple[str, str]]] = {}
    async with a_cluster(a_replica("r1"), a_replica("r2"), hedge="race") as cluster:
        for hedge in ("race", "never"):
            arguments = ("hello", "--max-tokens", "2", "--hedge", hedge, "--json", "--gateway", cluster.address)
            lines = (await command("generate", *arguments)).out.splitlines()
            request_id = json.loads(lines[-1])["request_id"]
            told = await command("why", request_id, "--json", "--gateway", cluster.address)
            attempts[hedge] = sorted((one["kind"], one["outcome"]) for one in told.document["attempts"])
    assert attempts["never"] == [("first", "success")]
    assert [kind for kind, _ in attempts["race"]] == ["first", "hedge"]
    assert sorted(outcome for _, outcome in attempts["race"]) == ["client", "success"]


async def test_seeds_and_deadlines_reach_the_replica(generate: GenerateFn) -> None:
    """Another seed gives other tokens; a deadline ends a call that would never end."""
    async with trio.open_nursery() as nursery:
        address = await start_gateway(nursery, "--fault", "freeze@9")
        first = await generate(address, "hello", "--seed", "1", "--max-tokens", "9")
        again = await generate(address, "hello", "--seed", "1", "--max-tokens", "9")
        other = await generate(address, "hello", "--seed", "2", "--max-tokens", "9")
        late = await generate(address, "hello", "--seed", "1", "--max-tokens", "10", "--deadline", "0.2")
        nursery.cancel_scope.cancel()
    assert (first.status, again.status, other.status, late.status) == (0, 0, 0, 1)
    assert first.out == again.out == late.out != other.out
    assert late.err.startswith("trio-gw: error: DEADLINE_EXCEEDED after 9 tokens: ")


async def test_ctrl_c_ends_a_generation_without_a_word_after_what_had_come() -> None:
    """Status 130, no traceback; the tokens that came are there."""
    async with trio.open_nursery() as nursery:
        address = await start_gateway(nursery, "--fault", "freeze@3")
        start = partial(trio.run_process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        process: trio.Process = await nursery.start(start, [*GENERATE, "--gateway", address, "hello"])
        assert process.stdout is not None
        assert process.stderr is not None
        async with process.stdout, process.stderr:
            text = b""
            while len(text.split()) < 3:
                text += await process.stdout.receive_some()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
            assert await process.stderr.receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_of_several_gateways_one_that_serves_is_enough(command: Command) -> None:
    """Whichever is drawn first."""
    async with a_cluster(a_replica("r1")) as cluster:
        gateways = ("--gateway", "127.0.0.1:1", "--gateway", cluster.address)
        told = await command("generate", "hello", "--max-tokens", "3", "--json", *gateways)
    assert (told.status, told.err) == (0, "")
    assert [json.loads(line).get("index") for line in told.out.splitlines()] == [0, 1, 2, None]


def test_all_gateways_that_could_not_be_reached_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, with the reason of each."""
    assert execute(["generate", "hello", "--gateway", "127.0.0.1:1", "--gateway", "127.0.0.1:2"]) == 1
    said = capsys.readouterr().err
    assert all(f"cannot connect to 127.0.0.1:{port}: " in said for port in (1, 2))
    assert said.count("\n") == 1


def test_no_gateway_there_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """The line says where nobody answered; with --json the last line says so too."""
    assert execute(["generate", "hello", "--gateway", "127.0.0.1:1", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["status"] == "UNAVAILABLE"
    assert captured.err.startswith("trio-gw: error: UNAVAILABLE after 0 tokens: cannot connect to 127.0.0.1:1: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("deadline", ["0", "-1", "nan"])
def test_a_deadline_that_has_passed_already_is_the_callers_mistake(
    deadline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent."""
    assert execute(["generate", "hello", f"--deadline={deadline}"]) == 2
    assert capsys.readouterr().err.endswith("must be a number of seconds above 0\n")


class Stdin(io.TextIOWrapper):
    """Standard input as a terminal or a pipe."""

    def __init__(self, data: bytes, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(data))
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("prompt", "file", "stdin", "problem"),
    [
        ("a", Path("b"), Stdin(b"", terminal=False), "PROMPT and --file: give one of them, not both"),
        (None, None, Stdin(b"", terminal=True), "no prompt: give it as an argument, with --file, or on standard input"),
        (None, None, Stdin(b"abc\xff", terminal=False), "standard input: is not UTF-8 at byte 3"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_an_error_that_says_why(
    prompt: str | None, file: Path | None, stdin: Stdin, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal is not waited for: who typed only the command's name wants to know what is missing."""
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(ConfigError, match=problem):
        read_prompt(prompt, file)


def test_a_closed_standard_input_has_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """``trio-gw generate <&-``: Python has no ``sys.stdin`` then."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="no prompt: give it as an argument"):
        read_prompt(None, None)


def test_a_prompt_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell would say it."""
    assert execute(["generate", "--file", "nowhere.txt"]) == 1
    assert capsys.readouterr().err == "trio-gw: error: nowhere.txt: No such file or directory\n"
