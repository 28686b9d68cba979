"""docs/simulation.rst: its blocks of Python are one program, and what it tells is true."""

import inspect
import re
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import CHECKERS, CheckFailed, SimNetwork, on_loopback, open_cluster, simulate
from inferencegw.testing.underlay import Underlay

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "simulation.rst"

BLOCK: Final = re.compile(r"^\.\. code-block:: python\n((?:\n|   .*\n)+)", re.MULTILINE)

LONGEST: Final = 8
"""Lines of a story, without the one that names it: six, or a few more."""

Story = Callable[[Underlay], Awaitable[None]]


def program() -> str:
    """All blocks, one after the other."""
    return "".join(map(textwrap.dedent, BLOCK.findall(PAGE.read_text(encoding="utf-8"))))


def defined() -> dict[str, Any]:
    """What they define."""
    names: dict[str, Any] = {}
    exec(compile(program(), str(PAGE), "exec"), names)
    return names


STORIES: Final[dict[str, Story]] = {name: it for name, it in defined().items() if inspect.iscoroutinefunction(it)}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log, until the story ends."""
    configure_logging("critical")
    yield
    structlog.reset_defaults()


def test_there_are_three_stories_and_each_is_short() -> None:
    """Everything that is in the text and nothing else is run below."""
    assert len(STORIES) == 3
    for body in re.findall(r"^async def \w+\(network\):\n((?:    .*\n)+)", program(), re.MULTILINE):
        assert len(body.splitlines()) <= LONGEST, body


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_true_on_a_virtual_network(name: str) -> None:
    """With the seed that the text has, and some others."""
    for seed in range(1, 6):
        simulate(STORIES[name], seed=seed)


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_true_on_real_sockets(name: str) -> None:
    """In real time."""
    on_loopback(STORIES[name])


def test_the_checker_bites() -> None:
    """It passes where tokens are quick, and says so where they are not."""
    checkers = [*CHECKERS, defined()["FirstTokenIsQuick"]]

    async def ask(prefill: float, network: SimNetwork) -> None:
        async with open_cluster(replicas=1, network=network, checkers=checkers, replica={"prefill": prefill}) as it:
            await it.generate("hello")

    simulate(lambda network: ask(0.0, network), seed=1)
    with pytest.raises(CheckFailed, match=r"^FirstTokenIsQuick: .* was slow"):
        simulate(lambda network: ask(2.0, network), seed=1)
