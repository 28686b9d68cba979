"""The commands of docs/quickstart.rst, for the tests that look at them and the one that runs them."""

import re
import textwrap
from pathlib import Path
from typing import Final

import attrs

__all__ = ["BLOCKS", "PAGE", "PORTS", "Block"]

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "quickstart.rst"

PORTS: Final = ("8080", "8081", "29000", "29001", "9090")

BLOCK: Final = re.compile(r"^\.\. code-block:: sh\n(?:   :class: (\w+)\n)?\n((?:\n|   .*\n)+)", re.MULTILINE)


@attrs.frozen
class Block:
    """Commands, and what is to be expected of them: nothing, ``install``, ``background`` or ``fails``."""

    kind: str
    commands: str


BLOCKS: Final = [
    Block(kind, textwrap.dedent(commands)) for kind, commands in BLOCK.findall(PAGE.read_text(encoding="utf-8"))
]
