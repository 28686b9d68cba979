"""What holds for every test of a command: the logging that it sets up for its process ends with the test."""

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias

import pytest
import structlog
import trio

from inferencegw.cli.app import execute
from tests.cli.support import Result

Command: TypeAlias = Callable[..., Awaitable[Result]]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that runs in the test's process logs to a stream that the test closes."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line to its end, in a thread: it brings an event loop of its own."""

    async def run(*arguments: str) -> Result:
        status = await trio.to_thread.run_sync(execute, arguments)
        return Result(status, *capsys.readouterr())

    return run
