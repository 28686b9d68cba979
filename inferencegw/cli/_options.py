"""The command line's view of a configuration class: flags for a function that wants what they say.

The rule: :func:`takes_options` gives a command a flag for each option that has one, with its help and its default from
the class, and ``--config``; the command itself gets :class:`~inferencegw.settings.sources.Sources`, which know what was
given and what was not. So a flag with the default's value still goes before a file.
"""

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar

import attrs
from cyclopts import Parameter

from inferencegw.cli._integer import INTEGER
from inferencegw.settings.options import CONFIG_VARIABLE, Option, options_of
from inferencegw.settings.sources import Sources
from inferencegw.settings.toml import literal

__all__ = ["flag", "takes_options"]

C = TypeVar("C", bound=attrs.AttrsInstance)
P = ParamSpec("P")
R = TypeVar("R")

FILE: Final = Parameter(
    name="--config",
    help=f"TOML file with options. Variables go before it, and flags before those; or {CONFIG_VARIABLE}.",
    negative=(),
    show_default=False,
)


def takes_options(config: type[C]) -> Callable[[Callable[Concatenate[Sources[C], P], R]], Callable[..., R]]:
    """A decorator: a command that takes ``Sources[config]``, and what else it takes itself, is made one with flags."""

    def decorate(command: Callable[Concatenate[Sources[C], P], R]) -> Callable[..., R]:
        def from_flags(**given: Any) -> R:
            named = given.pop("config", None) or os.environ.get(CONFIG_VARIABLE)
            flags = {
                key: given.pop(key) / option.scale if option.scale != 1.0 else given.pop(key)
                for key, option in options_of(config).items()
                if key in given
            }
            return command(Sources(config, Path(named) if named else None, os.environ, flags), **given)  # type: ignore[call-arg]  # what is left of the flags is its own

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        flags = [_parameter(config, option) for option in options_of(config).values() if option.flag is not None]
        file = _optional("config", Annotated[Path | None, FILE])
        from_flags.__name__ = from_flags.__qualname__ = command.__name__
        from_flags.__module__, from_flags.__doc__ = command.__module__, command.__doc__
        from_flags.__signature__ = signature = inspect.Signature([*flags, file, *own])  # type: ignore[attr-defined]  # PEP 362
        from_flags.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
        return from_flags

    return decorate


def flag(config: type[attrs.AttrsInstance], key: str, *, default: Any = None) -> Parameter:
    """The command line's view of one option; it shows ``default``, or the class's where that is None."""
    option = options_of(config)[key]
    default = option.default if default is None else default
    shown = None if default is False or default in ("", (), None) else literal(default).strip('"')
    if option.scale != 1.0:
        shown = f"{default * option.scale:g}"
    # The parameter's own default is often None: what was not given must be told from what was.
    view = Parameter(
        name=option.flag,
        help=option.help,
        negative=(),
        show_default=partial(_say, shown) if shown is not None else False,
    )
    return Parameter.combine(INTEGER, view) if option.type is int else view


def _parameter(config: type[attrs.AttrsInstance], option: Option) -> inspect.Parameter:
    kind: Any = tuple[str, ...] if option.type is tuple else option.type
    return _optional(option.key, Annotated[kind | None, flag(config, option.key)])


def _optional(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _say(shown: str, _default: object) -> str:
    return shown
