"""From a file, the environment and the command line to one configuration, and where each value came from.

The rule: flags go before variables, those before the file, that before the defaults; and what cannot be used is one
:class:`~inferencegw.errors.ConfigError` that names the key, the value, where it came from and what is allowed. Names
that nobody knows are errors too: a misspelt option is one that was not set. Their values are not repeated, because what
is put into the wrong place may be a secret.

Pure but for :func:`read_file`: the environment is given.
"""

import difflib
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import attrs

from inferencegw.config import GatewayConfig, ReplicaConfig
from inferencegw.errors import ConfigError
from inferencegw.settings.files import read_bounded
from inferencegw.settings.options import CONFIG_VARIABLE, PREFIX, Option, build, options_of

__all__ = ["DEFAULT", "Settings", "Sources", "read_file"]

C = TypeVar("C", bound=attrs.AttrsInstance)

DEFAULT: Final = "default"
"""The origin of what nobody gave."""

LARGEST_FILE: Final = 2**20
"""Bytes. High: a wrong name, of a log say, is read for long. Low: nobody has so many replicas."""

_OTHERS: Final = frozenset({CONFIG_VARIABLE, f"{PREFIX}KEY"})
"""Variables that are no options: the file, and the key that commands show."""

_TYPES: Final[Mapping[type, tuple[type, ...]]] = {
    int: (int,),
    float: (int, float),
    str: (str,),
    bool: (bool,),
    tuple: (list, tuple),
}

_NAMES: Final[Mapping[type, str]] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    tuple: "a list of texts",
}


@attrs.frozen
class Settings(Generic[C]):
    """A configuration, and where each of its values came from, by key."""

    config: C
    origins: Mapping[str, str]


@attrs.frozen
class Sources(Generic[C]):
    """Where the values of a configuration are looked for, again and again.

    Attributes:
        config: the class.
        file: the TOML file, if there is one.
        environment: the variables.
        flags: values from the command line, by key, and in the units of the class.
    """

    config: type[C]
    file: Path | None = None
    environment: Mapping[str, str] = attrs.field(factory=dict)
    flags: Mapping[str, Any] = attrs.field(factory=dict)

    def read(self) -> Settings[C]:
        """What they say now.

        Raises:
            ConfigError: the file cannot be read, or a name or a value in any of them cannot be used.
        """
        file = {} if self.file is None else read_file(self.file)
        return self.combine(file)

    def combine(self, file: Mapping[str, Any]) -> Settings[C]:
        """What they say if the file holds ``file``; otherwise as :meth:`read`."""
        values: dict[str, Any] = {}
        origins = dict.fromkeys(options_of(self.config), DEFAULT)
        for option, value, origin in (*self._from_file(file), *self._from_environment(), *self._from_flags()):
            values[option.key] = _checked(option, value, origin)
            origins[option.key] = origin
        try:
            config = build(self.config, values)
        except ConfigError as error:
            raise ConfigError(self._located(str(error), values, origins)) from error
        return Settings(config, origins)

    def _from_file(self, file: Mapping[str, Any]) -> Iterator[tuple[Option, Any, str]]:
        options = {option.path: option for option in options_of(self.config).values()}
        tables = {path[:depth] for path in options for depth in range(1, len(path))}
        for path, value in _leaves(file, (), tables):
            key = ".".join(path)
            if path in tables:
                raise ConfigError(f"{self.file}: {key}: must be a table")
            if path not in options:
                raise ConfigError(f"{self.file}: {key}: {_unknown(key, options_of(self.config))}")
            yield options[path], value, f"{self.file}: {key}"

    def _from_environment(self) -> Iterator[tuple[Option, Any, str]]:
        known = {option.variable: option for option in options_of(self.config).values()}
        # One environment is often that of several commands: what another kind of server knows is no mistake.
        others = {option.variable for kind in (GatewayConfig, ReplicaConfig) for option in options_of(kind).values()}
        for variable, text in sorted(self.environment.items()):
            if not variable.startswith(PREFIX):
                continue
            if variable in known and text:
                yield known[variable], _from_text(known[variable], text, variable), variable
            elif variable not in known and variable not in others | _OTHERS:
                raise ConfigError(f"{variable}: {_unknown(variable, (*known, *_OTHERS))}")

    def _from_flags(self) -> Iterator[tuple[Option, Any, str]]:
        options = options_of(self.config)
        for key, value in self.flags.items():
            yield options[key], value, options[key].flag or key

    def _located(self, text: str, values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
        """What the class says of values that do not go together, and where those it names came from."""
        text = text.removeprefix(f"{self.config.__name__}.")
        named = [f"{key}: {origins[key]}" for key in values if key in text.replace(":", " ").replace(",", " ").split()]
        return f"{text} ({'; '.join(named)})" if named else text


def read_file(path: Path) -> Mapping[str, Any]:
    """What is in a TOML file; ConfigError where it cannot be read or is none."""
    try:
        data = read_bounded(path, LARGEST_FILE)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}: name a file with --config") from error
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # also for numbers too long to be read, and lists too deep
        raise ConfigError(f"{path}: must be TOML: {error}") from error


def _leaves(
    table: Mapping[str, Any], path: tuple[str, ...], tables: Iterable[tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in table.items():
        here = (*path, name)
        if here in tables and isinstance(value, Mapping):
            yield from _leaves(value, here, tables)
        else:
            yield here, value


def _unknown(name: str, known: Iterable[str]) -> str:
    names = list(known)
    [nearest] = difflib.get_close_matches(name, names, 1) or [""]
    hint = f"did you mean {nearest}?" if nearest else "`trio-gw config` prints those that there are"
    return f"there is no such option: {hint}"


def _checked(option: Option, value: Any, origin: str) -> Any:
    shown = f"{option.key} = {value!r} ({origin})"
    is_type = isinstance(value, _TYPES[option.type]) and (option.type is bool or not isinstance(value, bool))
    items = value if option.type is tuple and is_type else (value,)
    if not is_type or (option.type is tuple and not all(isinstance(item, str) for item in items)):
        raise ConfigError(f"{shown}: must be {_NAMES[option.type]}")
    if not all(map(_is_unicode, items)):
        raise ConfigError(f"{shown}: must be UTF-8")
    if any(isinstance(item, str) and "\0" in item for item in items):  # no file, host or name has one
        raise ConfigError(f"{shown}: must be without NUL")
    if option.type is float:
        value = float(min(value, sys.float_info.max) if isinstance(value, int) else value)
    try:
        return option.check(value)
    except ConfigError as error:
        owner = f"{option.owner.__name__}."
        allowed = str(error).removeprefix(f"{owner}{option.path[-1]} = {value!r}: ").removeprefix(owner)
        raise ConfigError(f"{shown}: {allowed}") from error


def _is_unicode(value: Any) -> bool:
    """False for text with the halves of characters that Python makes of other bytes on a command line."""
    return not isinstance(value, str) or value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def _from_text(option: Option, text: str, variable: str) -> Any:
    """A variable's text as TOML would have it; lists have commas between their items."""
    readers: Mapping[type, Callable[[str], Any]] = {
        int: int,
        float: float,
        bool: {"true": True, "false": False, "1": True, "0": False}.__getitem__,
        tuple: lambda listed: [item.strip() for item in listed.split(",") if item.strip()],
        str: str,
    }
    try:
        return readers[option.type](text)
    except (ValueError, KeyError):
        raise ConfigError(f"{option.key} = {text!r} ({variable}): must be {_NAMES[option.type]}") from None
