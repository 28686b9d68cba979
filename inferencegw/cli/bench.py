"""``trio-gw bench``: a load of calls to gateways that run, and what came of it.

The rule: standard output gets the report and nothing else; how it goes meanwhile is a line on standard error, if that
is a terminal. What is reported was measured, also where Ctrl-C or a gateway's word has ended the load early. How much
of a processor this process itself took is part of it: a generator at its own limit measures itself.
"""

import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, NoReturn

import trio
from cyclopts import Parameter
from rich.console import Console
from rich.live import Live

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._admin import print_json, show
from inferencegw.cli._exit import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, CommandError
from inferencegw.cli._findings import Progress, picture_of
from inferencegw.cli._integer import INTEGER
from inferencegw.cli._load import Load, Order, check
from inferencegw.cli._prompts import MAX_TOKENS, SHARED_TOKENS, made_prompts, read_prompts
from inferencegw.cli.generate import DEFAULT_GATEWAY, DEFAULT_TOKENS
from inferencegw.client import Hedge
from inferencegw.client.gateways import Gateways
from inferencegw.config import RpcLimits
from inferencegw.errors import ConfigError
from inferencegw.settings.files import read_bounded

DEFAULT_CONCURRENCY: Final = 8
DEFAULT_DURATION: Final = 10.0
DEFAULT_DEADLINE: Final = 60.0
DEFAULT_PROMPT_TOKENS: Final = 256

MAX_CONNECTIONS: Final = 1000
"""To each gateway. High: descriptors. Low: fewer than a gateway's ``max_streams`` allows of callers."""

MAX_PREFIXES: Final = 100_000
"""High: they are all kept, as long as half a prompt each. Low: a large crowd's habits cannot be played."""

MAX_FILE_BYTES: Final = 64 * 2**20
"""Largest file of prompts. High: memory, where a wrong file is named. Low: a day's prompts do not fit."""

LOOK_INTERVAL: Final = 0.5
"""Seconds between two lines of how it goes. High: jerky. Low: it takes time from the load."""


def bench(  # noqa: PLR0913 one parameter for each flag
    *,
    gateway: Annotated[
        tuple[str, ...],
        Parameter(help="HOST:PORT of a gateway. Many: calls go to them in turn.", negative=(), show_default=", ".join),
    ] = (DEFAULT_GATEWAY,),
    concurrency: Annotated[
        int | None,
        INTEGER,
        Parameter(help=f"Callers, who wait for each answer: a closed loop. Without --rate: {DEFAULT_CONCURRENCY}."),
    ] = None,
    rate: Annotated[
        float | None,
        Parameter(help="Calls a second that come by chance, whatever has become of those before: an open loop."),
    ] = None,
    duration: Annotated[
        float | None, Parameter(help=f"Seconds of load. Without --requests: {DEFAULT_DURATION:g}.")
    ] = None,
    requests: Annotated[int | None, INTEGER, Parameter(help="Calls to make, instead of a duration.")] = None,
    warm_up: Annotated[
        float, Parameter(help="Seconds of load before, which do not count. High: takes longer. Low: cold caches count.")
    ] = 0.0,
    max_tokens: Annotated[int, INTEGER, Parameter(help="Length of each generation.")] = DEFAULT_TOKENS,
    prompt_tokens: Annotated[
        int | None,
        INTEGER,
        Parameter(help=f"About so long is each prompt. Without --prompts-file: {DEFAULT_PROMPT_TOKENS}."),
    ] = None,
    shared_prefixes: Annotated[
        int | None,
        INTEGER,
        Parameter(
            help="So many different first halves have the prompts. High, or 0 (none is shared): caches help little. "
            "Low: few replicas hold what most ask for."
        ),
    ] = None,
    prompts_file: Annotated[
        Path | None,
        Parameter(help='Prompts, a line each (UTF-8), in turn; if it ends in .jsonl, objects with a "prompt".'),
    ] = None,
    model: Annotated[str, Parameter(help="Which model. Empty will do where one is served.")] = "",
    hedge: Annotated[
        Hedge | None, Parameter(help="Whether two replicas race to the first token. Else as the gateway is set.")
    ] = None,
    deadline: Annotated[
        float, Parameter(help="Seconds for a call. High: the end waits for those that hang. Low: slow ones fail.")
    ] = DEFAULT_DEADLINE,
    connections: Annotated[
        int, INTEGER, Parameter(help="To each gateway. High: as many clients have. Low: one's flow control is shared.")
    ] = 1,
    seed: Annotated[
        int | None, INTEGER, Parameter(help="Equal seeds give equal prompts and arrivals, and warm caches; else drawn.")
    ] = None,
    access: Access = NOBODY,
    as_json: Annotated[bool, Parameter(name="--json", help="Print one JSON object.", negative=())] = False,
) -> int:
    """Put load on running gateways, and say how they carried it.

    Calls that were meant to begin in the time that is measured count, from that moment on, and are waited for; calls
    and tokens a second are of what came within that time. A call is made once: refusals are counted, and callers with
    ``--concurrency`` stay away for as long as they are told. Percentiles are at most 1 % too
    high, the longest is exact.

    The keys with ``--json``: ``gateways``, ``load``, ``seed``, ``interrupted``, ``generator_cpu`` (share of a processor
    that this command took), ``seconds``, ``calls`` (that count), of which ``ok``, ``refused``, ``failed`` and
    ``unfinished``; ``unsent`` (due, and not made: too many were under way), ``calls_per_second`` (that ended OK),
    ``tokens_per_second``, ``ttft``, ``gap`` (from one token to the next), ``tpot`` (a call's average gap), ``duration``
    (of calls that ended OK) and ``pushback`` (how long refused ones were to stay away), each with ``count``, ``p50``,
    ``p90``, ``p99`` and ``max`` in seconds; ``failovers`` (calls with tokens of several replicas), ``replicas`` (share
    of calls by the first token's replica) and ``ends``, each with ``kind`` (ok, refused or failed), ``status``,
    ``reason``, ``calls``, and one call's ``request_id`` (for ``trio-gw why``) and ``message``.

    Example: ``trio-gw bench --gateway 127.0.0.1:8080 --rate 20 --duration 30 --warm-up 5 --shared-prefixes 50``

    Exit status: 0 if calls were answered, and the others refused; 1 if one failed or was not made, none was answered,
    no gateway is there, or it will never answer such a call; 2 if an option cannot be used; 130 after Ctrl-C, with the
    report.
    """
    order = Order(
        concurrency=DEFAULT_CONCURRENCY if concurrency is None and rate is None else concurrency,
        rate=rate,
        duration=DEFAULT_DURATION if duration is None and requests is None else duration,
        requests=requests,
        warm_up=warm_up,
        deadline=deadline,
        fields={"max_tokens": max_tokens, "model": model, "client_id": "trio-gw bench"},
        hedge=hedge,
    )
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    rng = random.Random(seed)  # noqa: S311 - nothing here is a secret
    prompts = _prompts(rng, prompt_tokens, shared_prefixes, prompts_file)
    load = Load(order, _doors(gateway, connections, access, rng), prompts, rng)
    began, used = time.perf_counter(), time.process_time()
    interrupted = trio.run(_run, load)
    if load.measure is None:
        return EXIT_INTERRUPTED
    found = {
        "gateways": list(gateway),
        "load": order.told,
        "seed": seed,
        "interrupted": interrupted,
        "generator_cpu": round((time.process_time() - used) / (time.perf_counter() - began), 3),
        **load.measure.summary(load.measure.end),
    }
    if found["ok"] or load.hopeless is None:
        print_json(found) if as_json else show(picture_of(found))
    if load.hopeless is not None:
        raise CommandError(f"{load.hopeless}: no call of this load will be answered") from load.hopeless
    if interrupted:
        return EXIT_INTERRUPTED
    return EXIT_OK if found["ok"] and not found["failed"] and not found["unsent"] else EXIT_FAILED


def _prompts(rng: random.Random, tokens: int | None, prefixes: int | None, file: Path | None) -> Iterator[str]:
    """What is asked, as the flags have it; ConfigError where they cannot have it so."""
    if file is not None:
        if tokens is not None or prefixes is not None:
            raise ConfigError("--prompts-file: give it, or --prompt-tokens and --shared-prefixes, not both")
        try:
            return read_prompts(read_bounded(file, MAX_FILE_BYTES), as_json=file.suffix == ".jsonl")
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error
    tokens, prefixes = DEFAULT_PROMPT_TOKENS if tokens is None else tokens, prefixes or 0
    least = SHARED_TOKENS if prefixes else 1
    check("prompt_tokens", tokens, least, MAX_TOKENS)
    check("shared_prefixes", prefixes, 0, MAX_PREFIXES)
    return made_prompts(rng, tokens=tokens, prefixes=prefixes)


def _doors(gateways: Sequence[str], connections: int, access: Access, rng: random.Random) -> list[Gateways]:
    """The connections, so that a gateway's turn comes before any other one has its second."""
    check("connections", connections, 1, MAX_CONNECTIONS)
    ssl_context, metadata = access.ssl_context, access.metadata
    return [
        Gateways((address,), rng, ssl_context=ssl_context, limits=RpcLimits(), metadata=metadata)
        for _ in range(connections)
        for address in gateways
    ]


async def _run(load: Load) -> bool:
    """Make the calls, and on a terminal say meanwhile how it goes; whether Ctrl-C has ended it."""
    async with trio.open_nursery() as others:
        # Elsewhere there are no signals: a thread's caller has other means to end it.
        if threading.current_thread() is threading.main_thread():
            await others.start(_heed_ctrl_c, load, others)
        if sys.stderr is not None and sys.stderr.isatty():
            others.start_soon(_look, load)
        await load.run()
        others.cancel_scope.cancel()
    return load.stopped


async def _heed_ctrl_c(load: Load, everything: trio.Nursery, *, task_status: trio.TaskStatus[None]) -> None:
    """End the load; a second Ctrl-C is everybody's: it ends the command, wherever that is."""
    with trio.open_signal_receiver(signal.SIGINT) as interrupts:
        task_status.started()
        await anext(interrupts)
    load.stop()
    if load.measure is None:
        everything.cancel_scope.cancel()  # it may be long in connecting


async def _look(load: Load) -> NoReturn:
    progress = Progress()
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            await trio.sleep(LOOK_INTERVAL)
            if load.measure is not None:
                live.update(progress.line(load.measure, trio.current_time()), refresh=True)
