"""Integers on the command line.

The rule: an integer is written as one. Left to itself cyclopts rounds: ``--max-capacity 2.7`` would be 3, and ``--port
1.9e4`` would listen on 19000, which nobody may have meant.
"""

from collections.abc import Sequence
from typing import Final

from cyclopts import Parameter, Token

__all__ = ["INTEGER"]


def _to_integer(_type: object, tokens: Sequence[Token]) -> int:
    """The converter of every integer flag; cyclopts puts the flag's name before the error."""
    [token] = tokens
    try:
        return int(token.value)
    except ValueError:
        raise ValueError(f'unable to convert "{token.value}" into int.') from None


INTEGER: Final = Parameter(converter=_to_integer)
"""What a flag that takes an integer, or none, is annotated with."""
