"""Files that an option names: read whole, or not at all.

The rule: a file is bounded, and one that is longer is refused rather than cut off: what is missing would go unnoticed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from inferencegw.errors import ConfigError

__all__ = ["read_named"]

T = TypeVar("T")


def read_named(option: str, path: str, largest: int, parse: Callable[[str], T]) -> T:
    """What ``parse`` makes of the file of at most ``largest`` bytes that ``option`` names.

    Raises:
        ConfigError: it cannot be read, is longer or no UTF-8, or ``parse`` has raised that of its text.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise ConfigError(f"is longer than {largest} bytes")
        return parse(data.decode())
    except OSError as error:
        raise ConfigError(f"{option} = {path!r}: cannot be read: {error.strerror}") from error
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} = {path!r}: {error}") from error
