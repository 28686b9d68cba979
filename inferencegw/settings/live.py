"""The configuration in force, and who wants to know when it changes.

The rule: a server has one such object, and its ``now`` is always a configuration that the class has accepted as a
whole. A reload takes over the options that can change while calls run, and names the others that have changed: those
are as they were until the next start.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from inferencegw.settings.options import build, options_of, values_of

__all__ = ["Changes", "Live", "reload_files"]

C = TypeVar("C", bound=attrs.AttrsInstance)


@attrs.frozen
class Changes:
    """What a reload came to, in keys.

    Attributes:
        applied: what is different now.
        pending: what would be after a restart.
    """

    applied: tuple[str, ...]
    pending: tuple[str, ...]


class Live(Generic[C]):
    """One configuration over time.

    Attributes:
        now: the one in force.
    """

    def __init__(self, config: C) -> None:
        self.now = config
        self._subscribers: list[Callable[[C, C], None]] = []

    def subscribe(self, callback: Callable[[C, C], None]) -> None:
        """Have ``callback(before, now)`` called at every reload, in the order of subscribing; it must not raise."""
        self._subscribers.append(callback)

    def reload(self, wanted: C) -> Changes:
        """Put what can change of ``wanted`` into force, and tell the subscribers.

        Raises:
            ConfigError: it does not go together with what cannot change; nothing has changed, nobody was told.
        """
        before = self.now
        old, new = values_of(before), values_of(wanted)
        options = options_of(type(before))
        changed = [key for key in options if old[key] != new[key]]
        applied = tuple(key for key in changed if options[key].reloadable)
        self.now = build(type(before), old | {key: new[key] for key in applied})
        for tell in self._subscribers:
            tell(before, self.now)
        return Changes(applied, tuple(key for key in changed if key not in applied))


def reload_files(live: Live[C]) -> None:
    """Change no value, but have the subscribers look again at the files that the values name."""
    live.reload(live.now)
