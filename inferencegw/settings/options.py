"""What options a configuration class has, and how each is called where.

The rule: names follow from the field's. ``queue_size`` is the key ``queue_size`` in the file, the variable
``TRIO_GW_QUEUE_SIZE`` and the flag ``--queue-size``; ``max_streams`` of ``limits`` is ``max_streams`` in the file's
table ``limits``, ``TRIO_GW_LIMITS_MAX_STREAMS``, and no flag. A field's metadata may say otherwise of its flag:
``{"flag": "--replica"}``, ``{"flag": None}`` for what only experts need, ``{"flag": "--prefill-ms", "scale": 1000.0}``
for a flag in other units.
"""

import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Union, get_args, get_origin

import attrs

__all__ = ["CONFIG_VARIABLE", "PREFIX", "Option", "build", "options_of", "values_of"]

PREFIX: Final = "TRIO_GW_"

CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
"""The file's name, where no flag gives it."""


@attrs.frozen
class Option:
    """One value of a configuration.

    Attributes:
        path: the names of the fields that lead to it.
        owner: the class that it is a field of.
        attribute: that field.
        type: ``int``, ``float``, ``str``, ``bool`` or ``tuple``.
        optional: whether it may be None, which is the absence of a value everywhere.
    """

    path: tuple[str, ...]
    owner: type[attrs.AttrsInstance]
    attribute: "attrs.Attribute[Any]"
    type: type
    optional: bool

    @property
    def key(self) -> str:
        """Its key in the file, from its top."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Its variable in the environment."""
        return PREFIX + "_".join(self.path).upper()

    @property
    def flag(self) -> str | None:
        """Its flag, if it has one."""
        named: str | None = self.attribute.metadata.get("flag", f"--{self.path[-1].replace('_', '-')}")
        return named if len(self.path) == 1 else None

    @property
    def scale(self) -> float:
        """What its value is multiplied with on the command line."""
        return float(self.attribute.metadata.get("scale", 1.0))

    @property
    def reloadable(self) -> bool:
        """Whether a reload changes it."""
        return bool(self.attribute.metadata.get("reloadable", False))

    @property
    def default(self) -> Any:
        """Its value where nobody gives one."""
        return self.attribute.default

    @property
    def unit(self) -> str:
        """What it is counted in."""
        return str(self.attribute.metadata["unit"])

    @property
    def help(self) -> str:
        """What it does, and what a high and a low value cost."""
        return str(self.attribute.metadata["help"])

    def check(self, value: Any) -> Any:
        """``value`` as the class keeps it; ConfigError, of the class's own words, where it cannot."""
        if self.attribute.converter is not None:
            value = self.attribute.converter(value)  # type: ignore[operator]  # attrs types it for itself
        if self.attribute.validator is not None:
            self.attribute.validator(self.owner(), self.attribute, value)
        return value


@cache
def options_of(config: type[attrs.AttrsInstance]) -> Mapping[str, Option]:
    """All options of ``config``, by key, in the order of its fields; tables last, as TOML wants them."""
    found = list(_walk(config, ()))
    return {option.key: option for option in sorted(found, key=lambda option: len(option.path) > 1)}


def _walk(config: type[attrs.AttrsInstance], path: tuple[str, ...]) -> Iterator[Option]:
    for attribute in attrs.fields(attrs.resolve_types(config)):
        here = (*path, attribute.name)
        if isinstance(attribute.type, type) and attrs.has(attribute.type):
            yield from _walk(attribute.type, here)
            continue
        members = get_args(attribute.type) if get_origin(attribute.type) in {Union, types.UnionType} else ()
        [kind] = [member for member in members or (attribute.type,) if member is not types.NoneType]
        yield Option(here, config, attribute, get_origin(kind) or kind, optional=bool(members))


def values_of(config: attrs.AttrsInstance) -> dict[str, Any]:
    """The value of each option, by key."""
    values = {}
    for option in options_of(type(config)).values():
        value: Any = config
        for name in option.path:
            value = getattr(value, name)
        values[option.key] = value
    return values


def build(config: type[attrs.AttrsInstance], values: Mapping[str, Any]) -> Any:
    """A ``config`` of ``values`` by key; what is not there is as by default. ConfigError as the class raises it."""
    arguments: dict[str, Any] = {}
    for attribute in attrs.fields(attrs.resolve_types(config)):
        if isinstance(attribute.type, type) and attrs.has(attribute.type):
            prefix = f"{attribute.name}."
            inner = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
            arguments[attribute.name] = build(attribute.type, inner)
        elif attribute.name in values:
            arguments[attribute.name] = values[attribute.name]
    return config(**arguments)
