"""Who is let in with which key, and what each of them uses of its limits.

The rule: a refusal says why, and when it is worth to come again: at the moment the rate allows the next call; for a key
whose calls are all running, in the time in which one of them has ended lately (:mod:`inferencegw.policy.rate`). What
was refused is not charged, so that whoever comes back in time is let in.

A key that is taken out of the table ends what runs with it, and so does a role that is made smaller: the shell is told
which calls those are. Limits may be changed while calls run; those that are there count.
"""

import enum
import math
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

import attrs

from inferencegw.policy.bucket import TokenBucket
from inferencegw.policy.keys import ApiKey, KeyTable, Role
from inferencegw.policy.rate import ServiceRate

__all__ = ["Access", "AccessStatistics", "Denial", "Denied"]

T = TypeVar("T", bound=Hashable)


class Denial(enum.Enum):
    """Why a caller is not let in. Each is counted under its own name, which is also its ``gw-reason``."""

    NO_KEY = "no_key"
    """It has shown none, and one is needed."""
    UNKNOWN_KEY = "unknown_key"
    """It has shown something that is nobody's key."""
    NOT_ADMIN = "not_admin"
    """Who it is may not give orders."""
    RATE = "key_rate"
    """Its key has been used too often lately."""
    BUSY = "key_concurrency"
    """As many calls as its key may have are running."""
    REVOKED = "key_revoked"
    """Its key was good when the call began, and was taken back since."""


@attrs.frozen
class Denied:
    """A refusal; ``retry_after`` is in seconds, None where it is of no use to come again."""

    reason: Denial
    retry_after: float | None = None


@attrs.frozen
class AccessStatistics:
    """Counts since the start, and what runs now.

    Attributes:
        admitted: calls let in, by the key's name.
        running: calls that run, likewise.
        refused: calls that were not let in, or were ended for REVOKED, by reason.
    """

    admitted: Mapping[str, int]
    running: Mapping[str, int]
    refused: Mapping[str, int]


@attrs.define
class _Meter:
    """What one name uses."""

    key: ApiKey
    bucket: TokenBucket | None
    ended: ServiceRate = attrs.field(factory=ServiceRate)


class Access(Generic[T]):
    """The keys of one gateway, and the calls (``T``) that run with them."""

    def __init__(self, table: KeyTable) -> None:
        self.table = table
        self._meters: dict[str, _Meter] = {}
        self._calls: dict[T, tuple[ApiKey, bytes]] = {}
        self._running: Counter[str] = Counter()
        self._admitted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def try_admit(self, call: T, shown: str, now: float, *, as_admin: bool = False) -> ApiKey | Denied:
        """Let ``call`` in with the key that it has shown, if that is one, or ``as_admin`` one of that role.

        What was let in is to be given back to :meth:`release`.
        """
        found = self.table.find_untrusted(shown)
        if found is None:
            return Denied(Denial.UNKNOWN_KEY)
        key, digest = found
        if as_admin and key.role is not Role.ADMIN:
            return Denied(Denial.NOT_ADMIN)
        meter = self._meter(key)
        if self._running[key.name] >= key.max_concurrent:
            return Denied(Denial.BUSY, meter.ended.pause(1, now))
        wait = 0.0 if meter.bucket is None else meter.bucket.try_take(now)
        if wait:
            return Denied(Denial.RATE, wait)
        self._calls[call] = (key, digest)
        self._running[key.name] += 1
        self._admitted[key.name] += 1
        return key

    def release(self, call: T, now: float) -> None:
        """``call`` has ended; nothing happens to one that was let in without a key."""
        key, _ = self._calls.pop(call, (None, b""))
        if key is not None:
            self._running[key.name] -= 1
            if key.name in self._meters:
                self._meters[key.name].ended.note(now)

    def replace(self, table: KeyTable) -> list[T]:
        """Have these keys from now on; the calls that run with one that is not among them, or may less than before."""
        self.table = table
        kept = {}
        for name, meter in self._meters.items():
            if (key := table.keys.get(name)) is not None:
                same = (key.rate, key.burst) == (meter.key.rate, meter.key.burst)
                kept[name] = _Meter(key, meter.bucket if same else _bucket(key), meter.ended)
        self._meters = kept
        return [call for call, (key, digest) in self._calls.items() if not self._still(key, digest)]

    def note(self, reason: Denial) -> None:
        """Somebody was refused."""
        self._refused[reason.value] += 1

    def statistics(self) -> AccessStatistics:
        """See :class:`AccessStatistics`."""
        return AccessStatistics(dict(self._admitted), dict(+self._running), dict(self._refused))

    def _still(self, key: ApiKey, digest: bytes) -> bool:
        now = self.table.keys.get(key.name)
        return now is not None and digest in now.hashes and not (key.role is Role.ADMIN and now.role is Role.CLIENT)

    def _meter(self, key: ApiKey) -> _Meter:
        meter = self._meters.get(key.name)
        if meter is None:
            meter = self._meters[key.name] = _Meter(key, _bucket(key))
        return meter


def _bucket(key: ApiKey) -> TokenBucket | None:
    return None if key.rate == math.inf else TokenBucket(key.rate, key.burst)
