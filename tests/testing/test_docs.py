"""The stories that the documentation shows are true."""

import re
import textwrap
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from inferencegw.telemetry.log import configure_logging
from inferencegw.testing import SimNetwork, TestCluster, open_cluster, simulate

PAGE: Final = Path(__file__).parents[2] / "docs" / "simulation.rst"

BLOCK: Final = re.compile(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", re.MULTILINE)


def shown() -> dict[str, Any]:
    """Everything that the page's blocks define; they are one program, which is run here."""
    configure_logging("critical")
    namespace: dict[str, Any] = {}
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        exec(textwrap.dedent(block), namespace)
    return namespace


async def play(story: Callable[[TestCluster], Awaitable[None]], network: SimNetwork) -> None:
    """Tell ``story`` there."""
    async with open_cluster(replicas=3, network=network) as cluster:
        await story(cluster)


@pytest.mark.parametrize("name", ["a_call", "a_crash", "a_partition"])
def test_a_story_of_the_documentation_is_true(name: str) -> None:
    """As it is printed there."""
    simulate(partial(play, shown()[name]), seed=2)
