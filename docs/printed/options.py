"""What the chapter on configuration prints of the options: each one, as the classes have it.

The rule: nothing is said here that a class does not know; an option that is added to one is printed at the next build.
"""

import math

import attrs

from inferencegw.config import GatewayConfig, ReplicaConfig
from inferencegw.settings.options import Option, options_of
from inferencegw.settings.toml import literal

__all__ = ["gateway", "replica"]


def gateway() -> str:
    """The options of ``run``."""
    return _printed(GatewayConfig)


def replica() -> str:
    """The options of ``replica``."""
    return _printed(ReplicaConfig)


def _printed(config: type[attrs.AttrsInstance]) -> str:
    return "\n".join(map(_entry, options_of(config).values()))


def _entry(option: Option) -> str:
    default = "none" if option.default is None else f"``{literal(option.default)}``"
    flag = f"``{option.flag}``" if option.flag else "none"
    if option.scale != 1.0:
        flag += f" ({option.scale:g} times the value)"
    return (
        f"``{option.key}``\n"
        f"   {option.help.replace('`', '``').replace('*', chr(92) + '*')}\n\n"
        f"   Default {default}; {_range(option)}. Variable ``{option.variable}``; flag {flag}; "
        f"{'reloaded by SIGHUP' if option.reloadable else 'needs a restart'}.\n"
    )


def _range(option: Option) -> str:
    low, high = option.attribute.metadata.get("low"), option.attribute.metadata.get("high")
    if low is None:
        return f"a {option.unit}" if option.unit[0] not in "aeiou" else f"an {option.unit}"
    bounds = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:.12g}"
    return f"{bounds} {option.unit}"
