"""``trio-gw ring``: where a prompt would go, and why not elsewhere; which part of all prompts is whose, or would be.

The rule: the gateway is asked, not computed for. What it answers holds for one moment: loads and breakers change, the
order of the ring does not, as long as the same replicas are there.
"""

from typing import Annotated, Any

from cyclopts import Parameter

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._admin import AsJson, Gateway, ask, plain, print_json, show, table
from inferencegw.cli.generate import DEFAULT_GATEWAY
from inferencegw.errors import ConfigError
from inferencegw.v1 import admin_pb2


def ring(  # noqa: PLR0913 one parameter for each flag
    prompt: Annotated[str, Parameter(help="A prompt; its beginning decides. Without one: each replica's share.")] = "",
    /,
    *,
    affinity_key: Annotated[str, Parameter(help="The call's affinity key, which counts instead of its prompt.")] = "",
    model: Annotated[str, Parameter(help="Its model; may be left out where one only is served.")] = "",
    add: Annotated[
        tuple[str, ...],
        Parameter(help="What if this replica were on the ring, too? Repeatable.", negative=(), show_default=False),
    ] = (),
    remove: Annotated[
        tuple[str, ...],
        Parameter(help="What if this replica were not? Repeatable.", negative=(), show_default=False),
    ] = (),
    weight: Annotated[
        float | None,
        Parameter(
            help="Weight of each that is added, 0.001 to 1000; else what it is known to have, or 1. High: much comes "
            "to it, and leaves others. Low: little does."
        ),
    ] = None,
    gateway: Gateway = DEFAULT_GATEWAY,
    access: Access = NOBODY,
    as_json: AsJson = False,
) -> None:
    """Show where a call with this prompt would go now: the replicas in the order of the ring, and why not each.

    The reasons: ``full``, ``busy`` (it has just refused a call), ``breaker``, ``loaded`` (it has more than its bound)
    and ``suspect``; and of those that are not on the ring ``dead``, ``not_connected``, ``draining``, ``cordoned`` and
    ``replaced`` (another process has its name). The keys with ``--json``: ``pick`` (null without a prompt) with
    ``replica_id`` and ``reason``; ``steps`` with ``replica_id``, ``share`` (0 to 1), ``reason``, ``load``, ``bound``,
    ``inflight`` and ``max_capacity``; ``off_ring``, reasons by id; ``change`` (below).

    With ``--add`` and ``--remove`` nothing is changed, and shown is what would be: how many of the prefixes that came
    to this gateway lately (up to 4,096, each counted once) would belong to another replica, and so find no warm cache.
    ``change`` is null without them, else ``prefixes``, ``moved``, ``share`` (0 to 1; null if no prefix came) and
    ``replicas`` with ``replica_id``, ``share``, ``share_after``, ``gained`` and ``lost`` (prefixes).

    Example: ``trio-gw ring --gateway 127.0.0.1:8080 "Why is the sky blue?"``, or
    ``trio-gw ring --add r5 --weight 2 --remove r2``

    Exit status: 0 if the gateway answered; 1 if it did not, or refused, because a replica is on the ring that is to be
    added or is not that is to be removed; 2 if an option cannot be used; 130 after Ctrl-C.
    """
    if weight is not None and not (add and weight):
        raise ConfigError(f"--weight {weight:g}: " + ("must be above 0" if add else "is of those that --add names"))
    request = admin_pb2.LookupRequest(
        prompt=prompt, affinity_key=affinity_key, model=model, add=add, remove=remove, add_weight=weight or 0.0
    )
    facts = facts_of(ask(gateway, access, "Lookup", request))
    if as_json:
        print_json(facts)
        return
    show(plain(_summary(facts)), _table(facts))
    if facts["change"] is not None:
        show("", plain(_summary_of_change(facts["change"])), _table_of_change(facts["change"]))


def facts_of(answer: admin_pb2.LookupResponse) -> dict[str, Any]:
    """What scripts get."""
    pick = {"replica_id": answer.pick.replica_id or None, "reason": answer.pick.reason}
    return {
        "pick": pick if answer.HasField("pick") else None,
        "steps": [
            {
                "replica_id": step.replica_id,
                "share": round(step.share, 6),
                "reason": step.reason or None,
                "load": step.load,
                "bound": step.bound,
                "inflight": step.inflight,
                "max_capacity": step.max_capacity,
            }
            for step in answer.steps
        ],
        "off_ring": {one.replica_id: one.reason for one in answer.off_ring},
        "change": _change_of(answer.change) if answer.HasField("change") else None,
    }


def _change_of(change: admin_pb2.RingChange) -> dict[str, Any]:
    return {
        "prefixes": change.prefixes,
        "moved": change.moved,
        "share": round(change.moved / change.prefixes, 6) if change.prefixes else None,
        "replicas": [
            {
                "replica_id": shift.replica_id,
                "share": round(shift.share, 6),
                "share_after": round(shift.share_after, 6),
                "gained": shift.gained,
                "lost": shift.lost,
            }
            for shift in change.shifts
        ],
    }


def _summary(facts: dict[str, Any]) -> str:
    pick = facts["pick"]
    if pick is None:
        return f"{len(facts['steps'])} replicas on the ring"
    if pick["replica_id"] is None:
        return f"it would go nowhere now: {pick['reason']}"
    return f"it would go to {pick['replica_id']}: {pick['reason']}"


def _table(facts: dict[str, Any]) -> Any:
    rows = table("ID", "WHY NOT", right=("SHARE", "LOAD", "BOUND", "SLOTS"))
    for step in facts["steps"]:
        rows.add_row(
            plain(step["replica_id"]),
            plain(step["reason"] or ""),
            f"{step['share']:.1%}",
            str(step["load"]),
            str(step["bound"]),
            f"{step['inflight']}/{step['max_capacity']}",
        )
    for replica_id, reason in facts["off_ring"].items():
        rows.add_row(plain(replica_id), plain(reason), "", "", "", "")
    return rows


def _summary_of_change(change: dict[str, Any]) -> str:
    if change["share"] is None:
        return "no prefix came lately that could move"
    return f"{change['moved']} of {change['prefixes']} prefixes that came lately would move: {change['share']:.1%}"


def _table_of_change(change: dict[str, Any]) -> Any:
    rows = table("ID", right=("SHARE", "THEN", "GAINED", "LOST"))
    for one in change["replicas"]:
        rows.add_row(
            plain(one["replica_id"]),
            f"{one['share']:.1%}",
            f"{one['share_after']:.1%}",
            str(one["gained"]),
            str(one["lost"]),
        )
    return rows
