"""``trio-gw status``: a gateway and its replicas, with what is the matter with each.

The rule: one row for each replica process, however the gateway knows of it. The verdict takes gossip and data together
(:mod:`inferencegw.policy.verdict`); the columns beside it say what each of the two has seen.
"""

from typing import Annotated, Any, Final

import trio
from cyclopts import Parameter
from rich.console import Group, RenderableType

from inferencegw.cli._admin import Gateway, admin_method, ask, name_of, picture, plain, print_json, show, table
from inferencegw.cli.generate import DEFAULT_GATEWAY
from inferencegw.cli.members import STATE_COLOURS
from inferencegw.config import split_address
from inferencegw.rpc import open_channel
from inferencegw.v1 import admin_pb2, gossip_pb2

WATCH: Final = admin_method("Watch")

VERDICT_COLOURS: Final = {"healthy": "green", "gray": "yellow", "partitioned": "magenta", "dead": "red"}
BREAKER_COLOURS: Final = {"closed": "green", "half_open": "yellow", "open": "red"}


def status(
    *,
    gateway: Gateway = DEFAULT_GATEWAY,
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
    if watch:
        trio.run(_watch, *split_address(gateway), as_json)
        return
    answer = ask(gateway, "GetStatus", admin_pb2.GetStatusRequest())
    if as_json:
        print_json(facts_of(answer.status))
    else:
        show(picture_of(answer.status))


async def _watch(host: str, port: int, as_json: bool) -> None:  # noqa: FBT001 - trio.run has no keywords
    async with open_channel(host, port) as channel, channel.open_stream(WATCH, admin_pb2.WatchRequest()) as looks:
        if as_json:
            async for look in looks:
                print_json(facts_of(look.status), one_line=True)
            return
        with picture() as draw:
            async for look in looks:
                draw(picture_of(look.status))


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
    rows = table(
        "ID", "VERDICT", "STATE", "CONNECTED", "BREAKER", right=("SLOTS", "LOAD", "WEIGHT", "MODEL", "ADDRESS", "NOTES")
    )
    for column in rows.columns[-3:]:
        column.justify = "left"
    for fact in map(_facts_of_replica, status.replicas):
        notes = [note for note in ("cordoned", "draining") if fact[note]]
        rows.add_row(
            plain(fact["id"]),
            plain(fact["verdict"], VERDICT_COLOURS.get(fact["verdict"], "")),
            plain(fact["state"], STATE_COLOURS.get(fact["state"], "")),
            "yes" if fact["connected"] else "no",
            plain(fact["breaker"], BREAKER_COLOURS.get(fact["breaker"], "")),
            f"{fact['inflight']}/{fact['max_capacity']}",
            str(fact["load"]),
            f"{fact['weight']:g}",
            plain(" ".join(filter(None, (fact["model"], fact["model_version"])))),
            plain(fact["address"]),
            " ".join(notes),
        )
    return Group(plain(about), rows)
