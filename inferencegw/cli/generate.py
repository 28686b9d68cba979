"""``trio-gw generate``: one prompt through a gateway, tokens on standard output as they come.

The rule: standard output gets what was generated, and with ``--json`` also how it ended, and nothing else; why it
failed goes to standard error, and so does, if that is a terminal, the call's name, which ``trio-gw why`` takes; the
exit status tells a script which of the two it was.

Writing blocks the event loop while standard output is full, and is meant to: the call's flow control then makes the
gateway wait for whoever reads this.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Final, Protocol, TextIO

import attrs
import trio
from cyclopts import Parameter

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._exit import CommandError
from inferencegw.cli._integer import INTEGER
from inferencegw.client import AsyncClient, AsyncGeneration, Hedge, Token
from inferencegw.errors import ConfigError, RpcError, StatusCode

DEFAULT_GATEWAY: Final = "127.0.0.1:8080"
DEFAULT_TOKENS: Final = 64
DEFAULT_DEADLINE: Final = 300.0


def generate(  # noqa: PLR0913 one parameter for each flag
    prompt: Annotated[str | None, Parameter(help="What to continue. Else --file, else standard input.")] = None,
    /,
    *,
    gateway: Annotated[
        tuple[str, ...],
        Parameter(
            help="HOST:PORT of a gateway. Many: one of them is drawn; if it is lost, another one goes on.",
            negative=(),
            show_default=", ".join,
        ),
    ] = (DEFAULT_GATEWAY,),
    file: Annotated[Path | None, Parameter(help="Read the prompt from this file (UTF-8).")] = None,
    max_tokens: Annotated[
        int, INTEGER, Parameter(help="Length of the generation. High: may hold a slot for long. Low: answers are cut.")
    ] = DEFAULT_TOKENS,
    hedge: Annotated[
        Hedge | None,
        Parameter(
            help="Whether two replicas race to the first token: never, at once (race), or where the first one is slow "
            "(adaptive). Else as the gateway is set."
        ),
    ] = None,
    seed: Annotated[int | None, INTEGER, Parameter(help="Equal prompts with equal seeds give equal tokens.")] = None,
    deadline: Annotated[
        float, Parameter(help="Seconds for all of it. High: waits for a slow answer. Low: it is cut.")
    ] = DEFAULT_DEADLINE,
    access: Access = NOBODY,
    as_json: Annotated[
        bool, Parameter(name="--json", help="Print JSON lines: each token, then how it ended.", negative=())
    ] = False,
) -> None:
    """Send one prompt through a gateway and print the tokens as they come.

    With ``--json`` every line is an object: a token has ``index``, ``text``, ``replica_id`` and ``attempt``; the last
    line has ``status``, ``message``, ``delivered``, ``next_index``, ``digest``, ``attempts``, ``finish_reason``,
    ``reason`` and ``request_id``.

    Example: ``trio-gw generate --gateway 127.0.0.1:8080 --max-tokens 20 "Why is the sky blue?"``; with
    ``--gateway HOST:PORT`` for each of several gateways it survives the loss of any of them.

    Exit status: 0 if the last token came; 1 if the call failed, and standard error says with which status, after how
    many tokens, and the call's name for ``trio-gw why``; 2 if an option cannot be used; 130 after Ctrl-C.
    """
    if not deadline > 0:  # NaN must fail too
        raise ConfigError(f"deadline = {deadline}: must be a number of seconds above 0")
    client = AsyncClient(*gateway, key=access.key, ssl_context=access.ssl_context)
    generation = client.generate(
        read_prompt(prompt, file), max_tokens=max_tokens, hedge=hedge, seed=seed, timeout=deadline
    )
    printer = JsonPrinter(sys.stdout) if as_json else TextPrinter(sys.stdout)
    trio.run(_print_generation, client, generation, printer)


def read_prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt, from wherever it was given.

    Raises:
        ConfigError: it was given twice, or nowhere, or is not UTF-8.
        OSError: the file cannot be read.
    """
    if prompt is not None and file is not None:
        raise ConfigError("PROMPT and --file: give one of them, not both")
    if prompt is not None:
        return prompt
    if file is None and (sys.stdin is None or sys.stdin.isatty()):  # None: it was closed, as by `<&-`
        raise ConfigError("no prompt: give it as an argument, with --file, or on standard input")
    data = sys.stdin.buffer.read() if file is None else file.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file or 'standard input'}: is not UTF-8 at byte {error.start}") from error


async def _print_generation(client: AsyncClient, generation: AsyncGeneration, printer: "Printer") -> None:
    try:
        async with client, generation:
            async for token in generation:
                printer.print_token(token)
    except RpcError as error:
        printer.print_end(generation, error.code, error.message)
        name = f" (call {generation.request_id})" if generation.request_id else ""
        raise CommandError(f"{error.code.name} after {generation.delivered} tokens: {error.message}{name}") from error
    printer.print_end(generation, StatusCode.OK, "")
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"call {generation.request_id}", file=sys.stderr)


class Printer(Protocol):
    """A way to put a generation on standard output."""

    def print_token(self, token: Token) -> None:
        """At once: a token that waits in a buffer is not streamed."""

    def print_end(self, generation: AsyncGeneration, status: StatusCode, message: str) -> None:
        """After the last token that came, however it ended."""


@attrs.define
class TextPrinter:
    """The text, and a line break after it."""

    stream: TextIO

    def print_token(self, token: Token) -> None:
        """The text as it is; it brings its own spaces."""
        self.stream.write(token.text)
        self.stream.flush()

    def print_end(self, generation: AsyncGeneration, status: StatusCode, message: str) -> None:
        """Standard error and the exit status tell the rest."""
        if generation.delivered:
            self.stream.write("\n")
            self.stream.flush()


@attrs.define
class JsonPrinter:
    """JSON lines (ASCII): one for each token, one for the end."""

    stream: TextIO

    def print_token(self, token: Token) -> None:
        """With who generated it."""
        self._print(index=token.index, text=token.text, replica_id=token.replica_id, attempt=token.attempt)

    def print_end(self, generation: AsyncGeneration, status: StatusCode, message: str) -> None:
        """With everything that is known of the call."""
        self._print(
            status=status.name,
            message=message,
            delivered=generation.delivered,
            next_index=generation.next_index,
            digest=generation.digest,
            attempts=generation.attempts,
            finish_reason=generation.finish_reason,
            reason=generation.reason,
            request_id=generation.request_id,
        )

    def _print(self, **fields: object) -> None:
        self.stream.write(json.dumps(fields) + "\n")
        self.stream.flush()
