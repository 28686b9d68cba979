"""Files that an operator names: read whole, or not at all.

The rule: a file is bounded, and one that is longer is refused rather than cut off: what is missing would go unnoticed.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

from inferencegw.errors import ConfigError

__all__ = ["PathLike", "read_bounded", "read_named"]

T = TypeVar("T")

PathLike: TypeAlias = str | os.PathLike[str]


def read_bounded(path: PathLike, largest: int) -> bytes:
    """What is in the file of at most ``largest`` bytes; ConfigError, which does not name it, if it is none such."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from error
    if len(data) > largest:
        raise ConfigError(f"is longer than {largest} bytes")
    return data


def read_named(option: str, path: PathLike, largest: int, parse: Callable[[str], T]) -> T:
    """What ``parse`` makes of the file of at most ``largest`` bytes that ``option`` names.

    Raises:
        ConfigError: it cannot be read, is longer or no UTF-8, or ``parse`` has raised that of its text.
    """
    try:
        return parse(read_bounded(path, largest).decode())
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} = {os.fspath(path)!r}: {error}") from error
