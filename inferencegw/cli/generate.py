"""``trio-gw generate``: one prompt through a gateway, tokens on standard output as they come.

The rule: standard output gets what was generated, and with ``--json`` also how it ended, and nothing else; why it failed
goes to standard error; the exit status tells a script which of the two it was.
"""

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Final, Literal, TextIO, TypeAlias

import attrs
import trio
from cyclopts import Parameter

from inferencegw.cli._exit import CommandError
from inferencegw.client import AsyncClient
from inferencegw.errors import ConfigError, Metadata, RpcError, StatusCode
from inferencegw.v1 import gateway_pb2

Hedge: TypeAlias = Literal["never", "race", "adaptive"]

DEFAULT_GATEWAY: Final = "127.0.0.1:8080"


def generate(  # noqa: PLR0913 one parameter for each flag
    prompt: Annotated[str | None, Parameter(help="What to continue; standard input without it and --file.")] = None,
    /,
    *,
    gateway: Annotated[tuple[str, ...], Parameter(help="HOST:PORT of a gateway; repeated: of several.", negative=())] = (
        DEFAULT_GATEWAY,
    ),
    file: Annotated[Path | None, Parameter(help="Read the prompt from this file.")] = None,
    max_tokens: Annotated[int, Parameter(help="Length. High: may hold a slot for long. Low: answers are cut.")] = 64,
    hedge: Annotated[Hedge, Parameter(help="Whether two replicas may race to the first token.")] = "never",
    seed: Annotated[int | None, Parameter(help="Draw the tokens that go with this number.")] = None,
    deadline: Annotated[float, Parameter(help="Seconds for all of it. High: long waits. Low: answers are cut.")] = math.inf,
    json: Annotated[bool, Parameter(help="Print JSON lines: one for each token, one for the end.", negative=())] = False,
) -> None:
    """Send one prompt through a gateway and print the tokens as they come.

    With ``--json`` every line is an object: a token has ``index``, ``text``, ``replica_id`` and ``attempt``, the last
    line has ``status``, ``message`` and what the gateway says of the call (``gw-delivered``, ``gw-next-index``, ...).

    Example: ``trio-gw generate --gateway 127.0.0.1:8080 --max-tokens 20 "Why is the sky blue?"``

    Exit status: 0 if the last token came; 1 if the call failed: standard error says with which status and how far it
    got; 2 if an option cannot be used; 130 after Ctrl-C.
    """
    text = read_prompt(prompt, file, sys.stdin)
    printer = JsonPrinter(sys.stdout) if json else TextPrinter(sys.stdout)
    request = partial(
        AsyncClient.generate, prompt=text, max_tokens=max_tokens, hedge=hedge, seed=seed, deadline=deadline
    )
    trio.run(stream, gateway, request, printer)


def read_prompt(prompt: str | None, file: Path | None, stdin: TextIO) -> str:
    """The prompt, from where it was given.

    Raises:
        ConfigError: it was given twice, or not at all, or is not text.
    """
    if prompt is not None and file is not None:
        raise ConfigError("PROMPT and --file: give one of them")
    if prompt is not None:
        return prompt
    if file is None and stdin.isatty():
        raise ConfigError("no prompt: give it as an argument, with --file, or on standard input")
    try:
        return stdin.read() if file is None else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file or 'standard input'}: is not UTF-8: {error.reason} at byte {error.start}") from error
