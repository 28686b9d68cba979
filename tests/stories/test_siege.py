"""A gateway under every attack at once, for a moment; ``nox -s long`` plays a minute of it, and looks at the times."""

from pathlib import Path

from tests.stories.siege import besiege


async def test_healthy_clients_are_served_while_all_others_attack(tmp_path: Path) -> None:
    """Slow readers and writers, floods, garbage on every port, wrong keys: no call of theirs fails or lacks a token."""
    siege = await besiege(tmp_path, seconds=0.2, turns=1)
    siege.check()
