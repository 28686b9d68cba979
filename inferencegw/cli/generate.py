"""``trio-gw generate``: one prompt through a gateway, tokens on standard output as they come.

The rule: standard output gets what was generated, and with ``--json`` also how it ended, and nothing else; why it failed
goes to standard error; the exit status tells a script which of the two it was.
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol, TypeAlias

import trio
from cyclopts import Parameter

from inferencegw.cli._exit import CommandError
from inferencegw.client import AsyncClient, Token
from inferencegw.errors import ConfigError, RpcError, StatusCode

DEFAULT_GATEWAY: Final = "127.0.0.1:8080"

Hedge: TypeAlias = Literal["never", "race", "adaptive"]


def generate(  # noqa: PLR0913 one parameter for each flag
    prompt: Annotated[str | None, Parameter(help="What to continue. Without it, and without --file: standard input.")]
    = None,
    /,
    *,
    gateway: Annotated[
        tuple[str, ...], Parameter(help="HOST:PORT of a gateway; repeated, the next is tried where one is down.", negative=())
    ] = (DEFAULT_GATEWAY,),
    file: Annotated[Path | None, Parameter(help="Read the prompt from this file (UTF-8).")] = None,
    max_tokens: Annotated[int, Parameter(help="Length in tokens. High: may hold a slot for long. Low: short answers.")]
    = 64,
    hedge: Annotated[Hedge, Parameter(help="Whether two replicas may race to the first token.")] = "never",
    seed: Annotated[int | None, Parameter(help="Makes the tokens repeatable; the model's choice if not given.")] = None,
    deadline: Annotated[
        float, Parameter(help="Seconds until the call is given up. High: waits for a slow answer. Low: it is cut.")
    ] = math.inf,
    json: Annotated[bool, Parameter(help="Print one JSON object a line: each token, then how it ended.", negative=())]
    = False,
) -> None:
    """Send one prompt through a gateway and print the tokens as they come.

    With ``--json`` each line is an object: ``index``, ``text``, ``replica_id`` and ``attempt`` for a token, ``status``,
    ``message`` and the gateway's trailers (``gw-delivered``, ``gw-next-index``, ...) for the end.

    Example: ``trio-gw generate "Why is the sky blue?" --gateway 127.0.0.1:8080 --max-tokens 20``

    Exit status: 0 if the last token came; 1 if the call failed, with its status and how far it got on standard error; 2
    if an option cannot be used; 130 after Ctrl-C.
    """
