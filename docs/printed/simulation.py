"""What the chapter on simulation prints: every checker that clusters run with, and what it promises."""

import inspect

from inferencegw.testing import CHECKERS

from .tables import table

__all__ = ["checkers"]


def checkers() -> str:
    """Their names, and the first paragraphs of their docstrings."""
    rows = [["checker", "what holds"]]
    for checker in CHECKERS:
        promise, _, _ = inspect.cleandoc(checker.__doc__ or "").partition("\n\n")
        rows.append([f"``{checker.__name__}``", " ".join(promise.split())])
    return table(rows)
