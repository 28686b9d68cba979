"""``trio-gw keys``: make a key for somebody who calls, and the lines that let it in.

The rule: the secret is shown once, to whoever makes it, and is kept nowhere; what goes into the gateway's file is of no
use to who steals it (:mod:`inferencegw.policy.keys` says why a plain hash will do). The lines are read back before they
are shown, by what the gateway reads them with.
"""

import json
import math
import os
import secrets
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from inferencegw.cli._admin import AsJson, print_json
from inferencegw.cli._integer import INTEGER
from inferencegw.errors import ConfigError
from inferencegw.policy.keys import KEY_BYTES, KeyTable, hash_of, key_text

OWNER_ONLY: Final = 0o600


def keys(
    name: Annotated[str, Parameter(help="Whose it is: letters, digits, dots, dashes, underscores.")],
    /,
    *,
    role: Annotated[
        Literal["client", "admin"], Parameter(help="What it may do: make calls and look, or also give orders.")
    ] = "client",
    max_concurrent: Annotated[
        int | None,
        Parameter.combine(
            INTEGER, Parameter(help="Calls at once. High: one caller fills the queue. Low: its bursts are refused.")
        ),
    ] = None,
    rate: Annotated[
        float | None,
        Parameter(help="Calls a second in the long run. High: one caller takes what others need. Low: it is refused."),
    ] = None,
    burst: Annotated[
        int | None,
        Parameter.combine(
            INTEGER, Parameter(help="Calls at once after a pause, where there is a rate. High: bursts. Low: refusals.")
        ),
    ] = None,
    secret_file: Annotated[
        Path | None, Parameter(help="New file for the key, readable by its owner only. None: it is printed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it and the lines for the file that ``trio-gw run --keys-file`` names.

    The key is the first line, and is never to be had again; with ``--secret-file`` it goes there, and only the lines
    for the gateway's file are printed, to be appended to it. A running gateway reads that again at SIGHUP. The keys
    with ``--json``: ``name``, ``key`` (null with ``--secret-file``), ``sha256`` and ``toml``.

    Example: ``trio-gw keys alice --rate 5 --secret-file alice.key >> keys.toml``, and then
    ``trio-gw generate --key-file alice.key "Why is the sky blue?"``

    Exit status: 0 if there is a key; 1 if the file is there already, or cannot be written; 2 if an option cannot be
    used.
    """
    key = key_text(secrets.token_bytes(KEY_BYTES))
    digest = hash_of(key).hex()
    limits = {"max_concurrent": max_concurrent, "rate": rate, "burst": burst}
    lines = [f"[keys.{json.dumps(name)}]", f'sha256 = "{digest}"', f'role = "{role}"']
    lines += [f"{limit} = {value}" for limit, value in limits.items() if value is not None]
    toml = "\n".join(lines) + "\n"
    if any(value is not None and not math.isfinite(value) for value in limits.values()):
        raise ConfigError(f"--rate {rate}: must be a number; leave it out where there is no limit")
    KeyTable.parse(toml)
    if secret_file is not None:
        _write_new(secret_file, key)
    if as_json:
        print_json({"name": name, "key": key if secret_file is None else None, "sha256": digest, "toml": toml})
    else:
        print(toml if secret_file is not None else f"{key}\n\n{toml}", end="")


def _write_new(path: Path, key: str) -> None:
    """OSError if there is something at ``path``: a key that is overwritten is lost."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor has no path
        file.write(f"{key}\n")
