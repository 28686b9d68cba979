"""Half a minute of calm and half a minute of every attack at once, in turns, with healthy clients in both.

The same as ``tests/stories/test_siege.py``, where a moment of it is played in every run.
"""

from pathlib import Path
from typing import Final

from tests.stories.siege import besiege

SECONDS: Final = 5.0
TURNS: Final = 6

MOST: Final = 2.0
"""Times the calm's p99 of the time to a first token."""

CUT: Final = frozenset(
    {
        *("garbage", "PING flood", "SETTINGS flood", "empty DATA", "splinters"),
        *("header flood", "header bomb", "malformed requests", "HTTP garbage"),
    }
)
"""Those whose connections are ended. The others are served slowly (resets), refused (keys), or waited for."""


async def test_healthy_clients_notice_next_to_nothing_of_every_attack_at_once(tmp_path: Path) -> None:
    """Not one of their calls fails or lacks a token, and their p99 TTFT is within twice that of the calm."""
    siege = await besiege(tmp_path, SECONDS, TURNS)
    print(siege)
    siege.check()
    assert {name for name, count in siege.thrown_out.items() if count} >= CUT
    assert siege.attacked.quantile(0.99) <= MOST * siege.calm.quantile(0.99)
