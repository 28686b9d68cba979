"""The keyring's file: read at the start, and again whenever it has changed.

The rule: at the start a file that cannot be used is the operator's to mend (ConfigError, nothing is started). Later it
is an error in the log and the keys stay as they are: a running member is not ended by a slip of an editor. How keys are
changed without losing a packet is told in :mod:`inferencegw.swim.keyring`.

Why looking at the file again and again and not a signal: orchestrators replace mounted secrets without telling anyone.
Why in the event loop and not in a thread: it is a few hundred bytes from the page cache, and threads know nothing of
virtual time.
"""

from pathlib import Path
from typing import Final, NoReturn

import structlog
import trio

from inferencegw.errors import ConfigError
from inferencegw.swim.keyring import Keyring

__all__ = ["RECHECK", "follow_keyring", "read_keyring"]

RECHECK: Final = 1.0
"""Seconds between two looks at the file. High: a rotation takes longer. Low: more reading of a small file."""

MAX_FILE_BYTES: Final = 65_536
"""Most of the file that is read. High: memory, where a wrong file is named. Low: long comments do not fit."""

log = structlog.get_logger(__name__)


def read_keyring(path: str) -> Keyring:
    """The keys in the file at ``path``.

    Raises:
        ConfigError: it cannot be read, or does not hold keys.
    """
    try:
        with Path(path).open("rb") as file:
            return Keyring.parse(file.read(MAX_FILE_BYTES).decode())
    except OSError as error:
        raise ConfigError(f"keyring_file = {path!r}: cannot be read: {error.strerror}") from error
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"keyring_file = {path!r}: {error}") from error


async def follow_keyring(path: str, keyring: Keyring) -> NoReturn:
    """Keep ``keyring`` as the file at ``path`` says, for ever."""
    failure = ""
    while True:
        await trio.sleep(RECHECK)
        try:
            keys = read_keyring(path).keys
        except ConfigError as error:
            if str(error) != failure:  # once, however often it is looked at
                failure = str(error)
                log.error("keyring not changed", reason=failure)  # noqa: TRY400 - whose fault it is needs no traceback
            continue
        failure = ""
        if keys != keyring.keys:
            keyring.replace(keys)
            log.info("keyring changed", keys=len(keys))
