"""The keyring's file: read at the start, and again whenever it has changed.

The rule: at the start a file that cannot be used is the operator's to mend (ConfigError, nothing is started). Later it
is an error in the log and the keys stay as they are: a running member is not ended by a slip of an editor. How keys are
changed without losing a packet is told in :mod:`inferencegw.swim.keyring`.

Why looking at the file again and again and not a signal: orchestrators replace mounted secrets without telling anyone.
Why in the event loop and not in a thread: it is a few hundred bytes from the page cache, and threads know nothing of
virtual time.
"""

from typing import Final, NoReturn

import structlog
import trio

from inferencegw.errors import ConfigError
from inferencegw.settings.files import read_named
from inferencegw.swim.keyring import Keyring

__all__ = ["RECHECK", "KeyringFile", "read_keyring"]

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
    return read_named("keyring_file", path, MAX_FILE_BYTES, Keyring.parse)


class KeyringFile:
    """The file at ``path``, which ``keyring`` was made of and is to follow."""

    def __init__(self, path: str, keyring: Keyring) -> None:
        self._path = path
        self._keyring = keyring
        self._failure = ""

    async def follow(self) -> NoReturn:
        """Look at it again and again, for ever."""
        while True:
            await trio.sleep(RECHECK)
            self.look()

    def look(self) -> None:
        """Keep the keyring as the file says."""
        try:
            keys = read_keyring(self._path).keys
        except ConfigError as error:
            if str(error) != self._failure:  # once, however often it is looked at
                self._failure = str(error)
                log.error("keyring not changed", reason=self._failure)  # noqa: TRY400 - whose fault it is needs no traceback
            return
        self._failure = ""
        if keys != self._keyring.keys:
            self._keyring.replace(keys)
            log.info("keyring changed", keys=len(keys))
