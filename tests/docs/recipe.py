"""The program that docs/many_gateways.rst prints, for the tests that run it."""

import re
import textwrap
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "many_gateways.rst"

BLOCK: Final = re.compile(r"^\.\. code-block:: python\n((?:\n|   .*\n)+)", re.MULTILINE)


def recipe() -> dict[str, Any]:
    """What its blocks of Python define."""
    program = "".join(map(textwrap.dedent, BLOCK.findall(PAGE.read_text(encoding="utf-8"))))
    names: dict[str, Any] = {}
    exec(compile(program, str(PAGE), "exec"), names)
    return names
