"""``trio-gw simulate``: what would a fleet do? Asked of one that is played in virtual time, in this process.

The rule: what is played is the product: gateways, gossip, clients and simulated replicas as they run in production, on
a virtual network, watched by the checkers that the tests use. The same seed gives the same answer, to the last digit,
so two runs that differ in one flag differ because of that flag.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final

import attrs
from cyclopts import Parameter
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from inferencegw.cli._admin import print_json, show, table
from inferencegw.cli._exit import EXIT_OK
from inferencegw.cli._findings import seconds_of
from inferencegw.cli._fleet import Fleet
from inferencegw.cli._integer import INTEGER
from inferencegw.telemetry.log import configure_logging

FLEET: Final = Fleet()
"""The one that is simulated where no flag says otherwise."""


def _about(name: str) -> Parameter:
    metadata = attrs.fields_dict(Fleet)[name].metadata
    unit = "" if metadata["unit"] in {"seconds", name} else f" ({metadata['unit']})"
    return Parameter(help=f"{metadata['help']}{unit}")


def simulate(  # noqa: PLR0913 one parameter for each flag
    *,
    gateways: Annotated[int, INTEGER, _about("gateways")] = FLEET.gateways,
    replicas: Annotated[int, INTEGER, _about("replicas")] = FLEET.replicas,
    max_capacity: Annotated[int, INTEGER, _about("max_capacity")] = FLEET.max_capacity,
    token_delay_ms: Annotated[float, Parameter(help="Time per token.")] = 1000.0 * FLEET.token_delay,
    prefill_ms: Annotated[float, Parameter(help="Time before the first one.")] = 1000.0 * FLEET.prefill,
    slow: Annotated[int, INTEGER, _about("slow")] = FLEET.slow,
    slow_factor: Annotated[float, _about("slow_factor")] = FLEET.slow_factor,
    crashes: Annotated[float, _about("crashes")] = FLEET.crashes,
    down: Annotated[float, _about("down")] = FLEET.down,
    rate: Annotated[float, _about("rate")] = FLEET.rate,
    max_tokens: Annotated[int, INTEGER, _about("max_tokens")] = FLEET.max_tokens,
    hedge: Annotated[
        str, Parameter(help="never, race (two at once) or adaptive (a second one beside a slow first).")
    ] = "never",
    queue_size: Annotated[int, INTEGER, _about("queue_size")] = FLEET.queue_size,
    queue_timeout: Annotated[float, _about("queue_timeout")] = FLEET.queue_timeout,
    duration: Annotated[float, Parameter(help="Virtual seconds in which calls come.")] = FLEET.duration,
    seed: Annotated[int, INTEGER, Parameter(help="Decides everything that is left to chance.")] = 0,
    as_json: Annotated[bool, Parameter(name="--json", help="Print one JSON object.", negative=())] = False,
) -> int:
    """Say how a fleet would do that is described by flags, without having it.

    Gateways, gossip and clients are the real ones; replicas take the time that is given here. Who is refused comes
    again when told, as the product's client does, so a wait may be longer than the queue's. All of it runs in this
    process, in virtual time and on a virtual network, and every promise is checked at every step. It takes a core about
    a second for 3,000 tokens, and half of one for each replica and virtual minute; Ctrl-C ends it.

    The keys with ``--json``: ``fleet`` (as described), ``seed``, ``seconds`` (virtual, until the last call had ended),
    ``calls``, of which ``ok``, ``refused`` and ``failed``; ``ttft``, ``gap`` and ``duration`` (of calls that ended OK),
    each with ``count``, ``p50``, ``p90``, ``p99`` and ``max`` in seconds; ``tokens_per_second`` (of calls that ended
    OK), ``goodput`` (share of what all slots can do), ``failovers``, ``hedges``, ``hedges_won``, ``hedges_denied``
    (due, and beyond the gateways' budget), ``tokens_discarded`` (that reached a gateway for nobody), ``crashes`` and
    ``detection`` (seconds until a gateway's gossip knew, where it did before the replica was back).

    Example: ``trio-gw simulate --replicas 20 --slow 1 --rate 20 --hedge adaptive``, and the same without ``--hedge``

    Exit status: 0; 1 if a promise was broken, which is a bug of ours, or calls do not end within two virtual hours;
    2 if a flag cannot be used; 130 after Ctrl-C.
    """
    fleet = Fleet(
        gateways=gateways,
        replicas=replicas,
        max_capacity=max_capacity,
        token_delay=token_delay_ms / 1000.0,
        prefill=prefill_ms / 1000.0,
        slow=slow,
        slow_factor=slow_factor,
        crashes=crashes,
        down=down,
        rate=rate,
        max_tokens=max_tokens,
        hedge=hedge,
        queue_size=queue_size,
        queue_timeout=queue_timeout,
        duration=duration,
    )
    # Here, because it is a second's work: `trio-gw --help` imports every command.
    from inferencegw.cli._lived import play  # noqa: PLC0415

    configure_logging("critical")  # a crash that was ordered is no news
    with _screen(duration) as tell:
        lived = play(fleet, seed, tell)
    found = {"fleet": attrs.asdict(fleet), "seed": seed, **lived.figures(fleet)}
    print_json(found) if as_json else show(_picture_of(found))
    return EXIT_OK


@contextmanager
def _screen(seconds: float) -> Iterator[Callable[[float], object]]:
    """What says on a terminal how far it is, and elsewhere nothing."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _passed: None
        return
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live_screen:
        yield lambda passed: live_screen.update(Text(f"{passed:.0f} of {seconds:g} virtual seconds"), refresh=True)


TIMES: Final = {
    "ttft": "to the first token",
    "gap": "from token to token",
    "duration": "of a call that ended OK",
    "detection": "until a crash was known",
}


def _picture_of(found: Mapping[str, Any]) -> RenderableType:
    fleet = found["fleet"]
    slow = f", {fleet['slow']} of them {fleet['slow_factor']:g} times as slow" if fleet["slow"] else ""
    times = table("SECONDS", right=("COUNT", "P50", "P90", "P99", "MAX"))
    for name, said in TIMES.items():
        if (took := found[name])["count"]:
            times.add_row(said, str(took["count"]), *(seconds_of(took[key]) for key in ("p50", "p90", "p99", "max")))
    return Group(
        Text(
            f"{fleet['gateways']} gateways, {fleet['replicas']} replicas of {fleet['max_capacity']} slots{slow}, "
            f"hedge {fleet['hedge']}, {fleet['rate']:g} calls a second (seed {found['seed']})"
        ),
        Text(
            f"{found['calls']} calls in {found['seconds']:.1f} virtual s: {found['ok']} ok, "
            f"{found['refused']} refused, {found['failed']} failed"
        ),
        Text(f"{found['tokens_per_second']:.0f} tokens/s, {found['goodput']:.1%} of what all slots can do"),
        Text(
            f"{found['crashes']} crashes, {found['failovers']} streams went on elsewhere; {found['hedges']} hedges, "
            f"{found['hedges_won']} won, {found['hedges_denied']} not afforded; "
            f"{found['tokens_discarded']} tokens discarded"
        ),
        Text(),
        times,
    )
