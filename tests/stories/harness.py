"""How a story is told: once, and played on a virtual network and on real sockets.

``@story(replicas=5)`` makes two tests of ``async def test_...(cluster)``: one in virtual time, with a seed that its
name gives, and one on loopback in real time. The cluster is started before and checked, mended and stopped after it.
"""

import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from inferencegw.testing import TestCluster, on_loopback, open_cluster, simulate
from inferencegw.testing.underlay import Underlay

__all__ = ["VIRTUAL_LIMIT", "Story", "story"]

VIRTUAL_LIMIT: Final = 7200.0
"""Virtual seconds until a story is given up."""

REAL_LIMIT: Final = 60.0
"""Real ones."""

Story = Callable[[TestCluster], Awaitable[None]]


def story(*grounds: str, **options: Any) -> Callable[[Story], Callable[..., None]]:
    """Play the story on ``grounds``, both by default; ``options`` are those of ``open_cluster``."""

    def decorate(body: Story) -> Callable[..., None]:
        async def play(network: Underlay) -> None:
            async with open_cluster(network=network, **options) as cluster:
                await body(cluster)

        def test(ground: str) -> None:
            seed = zlib.crc32(body.__name__.encode())
            if ground == "virtual":
                simulate(play, seed=seed, time_limit=VIRTUAL_LIMIT)
            else:
                on_loopback(play, seed=seed, time_limit=REAL_LIMIT)

        test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
        return pytest.mark.parametrize("ground", grounds or ("virtual", "loopback"))(test)

    return decorate
