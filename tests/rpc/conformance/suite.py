"""All cases, in the order of the RFCs' sections."""

from typing import Final

from . import compression, control, definitions, floods, flow, framing, messages, ordinary, preface, streams
from .case import Case

__all__ = ["CASES", "EXTERNAL"]

CASES: Final[tuple[Case, ...]] = (
    *preface.CASES,
    *framing.CASES,
    *streams.CASES,
    *definitions.CASES,
    *control.CASES,
    *flow.CASES,
    *messages.CASES,
    *compression.CASES,
    *ordinary.CASES,
    *floods.CASES,
)

EXTERNAL: Final[tuple[Case, ...]] = tuple(case for case in CASES if case.external and "strict" not in case.external)
"""The cases an external suite is known to judge by (146 of them)."""
