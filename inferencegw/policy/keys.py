"""The keys that callers show, as the gateway's file has them: who each one is, and what it may cost.

The rule: the file holds no secret. A key is made here, 256 random bits and never anybody's choice, and the file has its
SHA-256. A slow or salted hash is for passwords: it makes guesses dear where there are few to make, and lists of guesses
useless. There are 2^256 of these, no two alike, and a hash of milliseconds on every call would be a way to stop the
gateway. So that this holds whatever somebody writes into the file, text that is not of a key's form opens nothing.

Who is asked for is found by a part of the hash, which nobody can choose without having the key, and compared in
constant time. ::

    [keys.team-a]
    sha256 = "0b5c..."       # or a list of two, while the key is being changed
    role = "client"          # or "admin": may also give orders
    max_concurrent = 8       # calls at once; without it as many as it likes
    rate = 5.0               # calls a second in the long run; likewise
    burst = 10               # calls at once after a pause; without it the rate, and at least 1
"""

import base64
import enum
import hmac
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

import attrs

from inferencegw.errors import ConfigError

__all__ = ["KEY_BYTES", "ApiKey", "KeyTable", "Role", "hash_of", "key_text"]

KEY_BYTES: Final = 32
"""Random bytes of a key."""

MAX_HASHES: Final = 4
"""Keys under one name. High: who forgets to take the old one away notices late. Low: changes cannot overlap."""

MAX_RATE: Final = 1e6
MAX_COUNT: Final = 1_000_000

_PREFIX: Final = "gwk_"
_FORM: Final = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_INDEX_BYTES: Final = 8


class Role(enum.Enum):
    """What the holder of a key may do."""

    CLIENT = "client"
    """Make calls, and look."""
    ADMIN = "admin"
    """Also give orders: drain, roll out, change the log's level."""


@attrs.frozen
class ApiKey:
    """One name, and what whoever has a key of it may do.

    Attributes:
        name: for logs, counts and named calls.
        hashes: SHA-256 of each secret that is taken.
        role: see there.
        max_concurrent: calls at once; infinite without a limit.
        rate: calls a second; infinite without a limit.
        burst: calls at once after a pause, where there is a rate.
    """

    name: str
    hashes: tuple[bytes, ...]
    role: Role = Role.CLIENT
    max_concurrent: float = math.inf
    rate: float = math.inf
    burst: float = 1.0


def key_text(random: bytes) -> str:
    """The key that is made of KEY_BYTES random bytes, as its holder shows it."""
    assert len(random) == KEY_BYTES, "so many are asked for"
    return _PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def hash_of(key: str) -> bytes:
    """What the file has of ``key``."""
    return sha256(key.encode()).digest()


class KeyTable:
    """The keys of one file.

    Attributes:
        keys: by name.
    """

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self.keys: Mapping[str, ApiKey] = {key.name: key for key in keys}
        self._index: dict[bytes, tuple[bytes, ApiKey]] = {}
        for key in self.keys.values():
            for digest in key.hashes:
                _, other = self._index.setdefault(digest[:_INDEX_BYTES], (digest, key))
                if other is not key:
                    raise ConfigError(f"keys.{key.name}.sha256: is that of {other.name}, too: make a key for each")

    @classmethod
    def parse(cls, text: str) -> "KeyTable":
        """The keys of a file. ConfigError names what cannot be used in it, and what is allowed."""
        try:
            document = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # also for numbers too long to be read, and lists too deep
            raise ConfigError(f"is not TOML: {error}") from error
        tables = document.pop("keys", {})
        if document or not isinstance(tables, dict):
            raise ConfigError(f"{next(iter(document), 'keys')}: must be [keys.NAME] and nothing else")
        if not tables:
            raise ConfigError("has no keys: nobody could call; leave the file out where keys are not wanted")
        return cls(_key(name, table) for name, table in tables.items())

    @property
    def has_admin(self) -> bool:
        """Whether somebody may give orders by a key."""
        return any(key.role is Role.ADMIN for key in self.keys.values())

    def find_untrusted(self, shown: str) -> tuple[ApiKey, bytes] | None:
        """Whose key that is, and its hash; None where it is nobody's."""
        if not _FORM.fullmatch(shown):
            return None
        digest = hash_of(shown)
        known, key = self._index.get(digest[:_INDEX_BYTES], (b"", None))
        return (key, known) if key is not None and hmac.compare_digest(known, digest) else None


def _key(name: str, table: object) -> ApiKey:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"keys.{name!r}: a name must be 1 to 64 letters, digits, dots, dashes and underscores")
    if not isinstance(table, dict):
        raise ConfigError(f"keys.{name} = {table!r}: must be a table: [keys.{name}]")
    fields: dict[str, Any] = dict(table)
    hashes = _hashes(name, fields.pop("sha256", None))
    role = _role(name, fields.pop("role", Role.CLIENT.value))
    max_concurrent = _number(name, "max_concurrent", fields.pop("max_concurrent", math.inf), 1, MAX_COUNT, whole=True)
    rate = _number(name, "rate", fields.pop("rate", math.inf), 0.001, MAX_RATE)
    if "burst" in fields and rate == math.inf:
        raise ConfigError(f"keys.{name}.burst = {fields['burst']!r}: is of no use without a rate")
    burst = _number(name, "burst", fields.pop("burst", max(1.0, rate if rate < math.inf else 1.0)), 1, MAX_COUNT)
    for unknown in fields:
        raise ConfigError(f"keys.{name}.{unknown}: is not known: must be sha256, role, max_concurrent, rate or burst")
    return ApiKey(name, hashes, role, max_concurrent, rate, burst)


def _hashes(name: str, value: object) -> tuple[bytes, ...]:
    texts = value if isinstance(value, list) else [value]
    if not 1 <= len(texts) <= MAX_HASHES or not all(isinstance(one, str) and _HASH.fullmatch(one) for one in texts):
        # What is there instead is not told: it may be the secret.
        raise ConfigError(f"keys.{name}.sha256: must be 64 digits from 0 to f, or a list of 1 to {MAX_HASHES} such")
    return tuple(bytes.fromhex(str(one)) for one in texts)


def _role(name: str, value: object) -> Role:
    roles = {role.value: role for role in Role}
    if not isinstance(value, str) or value not in roles:
        raise ConfigError(f"keys.{name}.role = {value!r}: must be one of {', '.join(roles)}")
    return roles[value]


def _number(name: str, field: str, value: object, low: float, high: float, *, whole: bool = False) -> float:
    if value == math.inf and not isinstance(value, bool):  # the default; in a file it says the same
        return math.inf
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"keys.{name}.{field} = {value!r}: must be {kind} from {low:g} to {high:g}")
    return value
