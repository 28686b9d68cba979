"""cli/_admin.py: what holds for every command that asks a gateway."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from inferencegw.cli import _admin
from inferencegw.cli._admin import picture
from tests.cli.conftest import Command

COMMANDS = [
    *(["members"], ["members", "--watch"], ["status"], ["status", "--watch"], ["status", "--watch", "--json"]),
    *(["why", "x"], ["ring"], ["drain", "r1"], ["undrain", "r1"]),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_who_does_not_answer_is_given_up(
    arguments: list[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something listens there that is no gateway: one line, status 1, and not for ever."""
    monkeypatch.setattr(_admin, "PATIENCE", 0.02)
    async with trio.open_nursery() as nursery:
        serve: Callable[..., Awaitable[Any]] = partial(trio.serve_tcp, _say_nothing, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        host, port = listener.socket.getsockname()
        result = await command(*arguments, "--gateway", f"{host}:{port}")
        nursery.cancel_scope.cancel()
    problem = f"{host}:{port} has not answered for 0.02 s: see whether that is a gateway, and runs"
    assert (result.status, result.out.strip(), result.err) == (1, "", f"trio-gw: error: {problem}\n")


async def _say_nothing(stream: trio.SocketStream) -> None:
    async for _ in stream:
        pass


def test_on_a_terminal_a_picture_takes_the_place_of_the_one_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere they follow one another."""
    with picture() as draw:
        draw("one")
        draw("two")
    assert capsys.readouterr().out == "one\ntwo\n"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with picture() as draw:
        draw("one")
        draw("two")
    shown = capsys.readouterr().out
    assert shown.index("one") < shown.index("\x1b[2K") < shown.index("two")
