"""What the commands share that ask a gateway's admin service: one question, and how answers are shown.

The rule: a command says what it asks for and what a row is; how the gateway is reached, that names from the network
cannot steer a terminal, and that nothing is cut off in a file or a pipe, is here.
"""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, Final, TypeAlias

import trio
from cyclopts import Parameter
from google.protobuf.message import Message
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from inferencegw.cli._access import Access
from inferencegw.cli._exit import CommandError
from inferencegw.config import split_address
from inferencegw.rpc import Channel, Method, open_channel
from inferencegw.v1 import admin_pb2

__all__ = [
    "PATIENCE",
    "WIDE",
    "AsJson",
    "Gateway",
    "admin_method",
    "ask",
    "name_of",
    "picture",
    "plain",
    "print_json",
    "reach",
    "show",
    "table",
]

PATIENCE: Final = 5.0
"""Seconds for an answer. High: a gateway that hangs is noticed late. Low: a busy one seems to be gone."""

WIDE: Final = 200
"""Columns where there is no terminal: nothing is to be cut off in a file or a pipe."""

Gateway: TypeAlias = Annotated[str, Parameter(help="HOST:PORT of the gateway.")]
AsJson: TypeAlias = Annotated[bool, Parameter(name="--json", help="Print one JSON object.", negative=())]


def admin_method(name: str) -> Method:
    """A method of ``GatewayAdmin``."""
    return Method.of(admin_pb2.DESCRIPTOR.services_by_name["GatewayAdmin"], name)


@asynccontextmanager
async def reach(gateway: str, access: Access) -> AsyncIterator[tuple[Channel, trio.CancelScope]]:
    """A channel to ``gateway``, and the scope of the block, whose deadline is for the caller to move on each answer.

    Raises:
        ConfigError: ``gateway`` is no address, or there is a file that cannot be used.
        RpcError: it cannot be connected to.
        CommandError: the deadline has passed; at first it is PATIENCE away.
    """
    host, port = split_address(gateway)
    metadata, ssl_context = access.metadata, access.ssl_context
    with trio.move_on_after(PATIENCE) as patience:
        async with open_channel(host, port, ssl_context=ssl_context, metadata=metadata) as channel:
            yield channel, patience
    if patience.cancelled_caught:
        raise CommandError(f"{gateway} has not answered for {PATIENCE:g} s: see whether that is a gateway, and runs")


def ask(gateway: str, access: Access, name: str, request: Message) -> Any:
    """What ``gateway`` answers to the method ``name``.

    Raises:
        ConfigError, RpcError, CommandError: as :func:`reach`; RpcError also where it refuses.
    """

    async def call() -> Any:
        async with reach(gateway, access) as (channel, _):
            return await channel.unary(admin_method(name), request)

    return trio.run(call)


def show(*parts: RenderableType) -> None:
    """Print for people."""
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    for part in parts:
        console.print(part)


@contextmanager
def picture() -> Iterator[Callable[[RenderableType], None]]:
    """What draws again and again: in place on a terminal, elsewhere one picture under the other."""
    if sys.stdout.isatty():
        with Live(auto_refresh=False) as live:
            yield lambda drawn: live.update(drawn, refresh=True)
    else:
        yield show


def print_json(document: object, *, one_line: bool = False) -> None:
    """Print for scripts; at once, because a line that waits in a buffer is not followed."""
    print(json.dumps(document, indent=None if one_line else 2), flush=True)


def table(*left: str, right: tuple[str, ...] = (), wrapped: tuple[str, ...] = ()) -> Table:
    """A table with these headings: columns of text, of numbers, and of text that a narrow terminal may break."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in left:
        made.add_column(heading, no_wrap=True)
    for heading in right:
        made.add_column(heading, no_wrap=True, justify="right")
    for heading in wrapped:
        made.add_column(heading, overflow="fold")
    return made


def plain(text: str, style: str = "") -> Text:
    """What somebody on the network has chosen, without anything that a terminal would obey."""
    return Text(text if text.isprintable() else ascii(text), style=style)


def name_of(enum: Any, number: int, prefix: str) -> str:
    """The name of a value as people know it; the number itself where a later version has made it up."""
    return enum.Name(number).removeprefix(prefix) if number in enum.values() else str(number)
