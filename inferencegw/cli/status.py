"""``trio-gw status``: a gateway and its replicas, with what is the matter with each.

The rule: one row for each replica process, however the gateway knows of it. The verdict takes gossip and data together
(:mod:`inferencegw.policy.verdict`); the columns beside it say what each of the two has seen.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import trio
from cyclopts import Parameter
from rich.console import Group, RenderableType

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._admin import (
    PATIENCE,
    Gateway,
    admin_method,
    ask,
    name_of,
    picture,
    plain,
    print_json,
    reach,
    show,
    table,
)
from inferencegw.cli.generate import DEFAULT_GATEWAY
from inferencegw.cli.members import STATE_COLOURS
from inferencegw.v1 import admin_pb2, gossip_pb2

WATCH: Final = admin_method("Watch")

VERDICT_COLOURS: Final = {"healthy": "green", "gray": "yellow", "partitioned": "magenta", "dead": "red"}
BREAKER_COLOURS: Final = {"closed": "green", "half_open": "yellow", "open": "red"}


def status(
    *,
    gateway: Gateway = DEFAULT_GATEWAY,
    access: Access = NOBODY,
    watch: Annotated[bool, Parameter(help="Show it again every second, until Ctrl-C.", negative=())] = False,
    as_json: Annotated[
        bool, Parameter(name="--json", help="Print a JSON object; with --watch one line for each look.", negative=())
    ] = False,
) -> None:
    """Show a gateway and its replicas: which of them work, which do not, and how busy they are.

    The keys with ``--json``: ``gateway_id``, ``version``, ``uptime`` (seconds), ``draining``, ``inflight`` (slots that
    it holds), ``queue_depth`` (calls that wait for one) and ``replicas``, of which each has ``id``, ``verdict``
    (healthy, gray, partitioned or dead), ``state`` (the gossip's: ALIVE, SUSPECT, DEAD or LEFT; empty where that knows
    nothing), ``connected``, ``breaker`` (closed, open or half_open; empty where there is no connection), ``inflight``,
    ``max_capacity``, ``load`` (generations there, other gateways' too), ``weight``, ``cordoned``, ``draining``,
    ``model``, ``model_version``, ``address`` and ``epoch`` (milliseconds since 1970).

    Example: ``trio-gw status --gateway 127.0.0.1:8080 --watch``

    Exit status: 0 if the gateway answered; 1 if it did not, or has drained while it was watched; 2 if an option cannot
    be used; 130 after Ctrl-C.
    """
    if watch and as_json:
        trio.run(_watch, gateway, access, lambda look: print_json(facts_of(look), one_line=True))
    elif watch:
        with picture() as draw:
            trio.run(_watch, gateway, access, lambda look: draw(picture_of(look)))
    else:
        look = ask(gateway, access, "GetStatus", admin_pb2.GetStatusRequest()).status
        if as_json:
            print_json(facts_of(look))
        else:
            show(picture_of(look))


async def _watch(gateway: str, access: Access, tell: Callable[[admin_pb2.GatewayStatus], None]) -> None:
    """Tell each look, for as long as they come."""
    async with (
        reach(gateway, access) as (channel, patience),
        channel.open_stream(WATCH, admin_pb2.WatchRequest()) as looks,
    ):
        async for look in looks:
            tell(look.status)
            patience.deadline = trio.current_time() + PATIENCE


def facts_of(status: admin_pb2.GatewayStatus) -> dict[str, Any]:
    """What scripts get."""
    return {
        "gateway_id": status.gateway_id,
        "version": status.version,
        "uptime": round(status.uptime, 3),
        "draining": status.draining,
        "inflight": status.inflight,
        "queue_depth": status.queue_depth,
        "replicas": [_facts_of_replica(replica) for replica in status.replicas],
    }


def _facts_of_replica(replica: admin_pb2.ReplicaStatus) -> dict[str, Any]:
    state = name_of(gossip_pb2.MemberState, replica.state, "MEMBER_STATE_")
    breaker = name_of(admin_pb2.BreakerState, replica.breaker, "BREAKER_STATE_").lower()
    return {
        "id": replica.replica_id,
        "verdict": name_of(admin_pb2.Verdict, replica.verdict, "VERDICT_").lower(),
        "state": state if replica.state else "",
        "connected": replica.connected,
        "breaker": breaker if replica.breaker else "",
        "inflight": replica.inflight,
        "max_capacity": replica.max_capacity,
        "load": replica.load,
        "weight": replica.weight,
        "cordoned": replica.cordoned,
        "draining": replica.draining,
        "model": replica.model,
        "model_version": replica.model_version,
        "address": replica.address,
        "epoch": replica.epoch,
    }


def picture_of(status: admin_pb2.GatewayStatus) -> RenderableType:
    """What people get: a line about the gateway, a row for each replica."""
    about = (
        f"gateway {status.gateway_id}, version {status.version}, up {status.uptime:.0f} s: "
        f"{status.inflight} in flight, {status.queue_depth} waiting{', draining' if status.draining else ''}"
    )
    if not status.replicas:
        return Group(plain(about), plain("no replicas"))
    rows = table("ID", "VERDICT", "STATE", "BREAKER", right=("SLOTS", "LOAD"), wrapped=("MODEL", "ADDRESS", "NOTES"))
    for fact in map(_facts_of_replica, status.replicas):
        rows.add_row(
            plain(fact["id"]),
            plain(fact["verdict"], VERDICT_COLOURS.get(fact["verdict"], "")),
            plain(fact["state"], STATE_COLOURS.get(fact["state"], "")),
            plain(fact["breaker"], BREAKER_COLOURS.get(fact["breaker"], "")),
            f"{fact['inflight']}/{fact['max_capacity']}",
            str(fact["load"]),
            plain(" ".join(filter(None, (fact["model"], fact["model_version"])))),
            plain(fact["address"]),
            ", ".join(notes_of(fact)),
        )
    return Group(plain(about), rows)


def notes_of(fact: dict[str, Any]) -> Iterator[str]:
    """What is worth a word because it is not as usual."""
    if not fact["connected"]:
        yield "no connection"
    yield from (note for note in ("cordoned", "draining") if fact[note])
    if fact["id"] and fact["weight"] != 1.0:
        yield f"weight {fact['weight']:g}"
