"""A configuration as TOML that can be fed back.

The rule: every option is there. One that has no value is a comment, because TOML has no word for none; where each value
came from is a comment behind it.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import attrs

from inferencegw.settings.options import options_of, values_of
from inferencegw.settings.sources import Settings

__all__ = ["literal", "to_json", "to_toml"]


def literal(value: Any) -> str:
    """``value`` as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)  # TOML's floats are Python's, inf among them
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but that TOML wants the one for DEL and has no halves of surrogate pairs.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def to_toml(settings: Settings[Any]) -> str:
    """All options, each with its origin."""
    config: attrs.AttrsInstance = settings.config
    values = values_of(config)
    lines: list[str] = []
    table: tuple[str, ...] = ()
    for option in options_of(type(config)).values():
        if option.path[:-1] != table:
            table = option.path[:-1]
            lines += ["", f"[{'.'.join(table)}]"]
        value, origin = values[option.key], settings.origins[option.key]
        comment = "# " if value is None else ""
        shown = "(none)" if value is None else literal(value)
        lines.append(f"{comment}{option.path[-1]} = {shown}  # {_one_line(origin)}")
    return "\n".join([*lines, ""])


def to_json(settings: Settings[Any]) -> Mapping[str, Mapping[str, Any]]:
    """The same for :func:`json.dumps`; infinity, which JSON does not have, is the text ``inf``."""
    return {
        key: {"value": "inf" if value == math.inf else value, "from": settings.origins[key]}
        for key, value in values_of(settings.config).items()
    }


def _one_line(text: str) -> str:
    return text if text.isprintable() else ascii(text)
