"""``trio-gw members``: the cluster as one gateway's gossip sees it.

The rule: one row for each id, the gateway's own and those of the dead and departed who are not forgotten yet included.
What is not known is empty in the table and null in JSON; seconds are seconds.
"""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import attrs
import trio
from cyclopts import Parameter
from rich.table import Table

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._admin import PATIENCE, Gateway, admin_method, name_of, picture, plain, reach, show, table
from inferencegw.cli.generate import DEFAULT_GATEWAY
from inferencegw.v1 import admin_pb2, gossip_pb2

LIST_MEMBERS: Final = admin_method("ListMembers")

WATCH_INTERVAL: Final = 1.0
"""Seconds between two looks. High: what is shown is old. Low: flicker."""

STATE_COLOURS: Final = {"ALIVE": "green", "SUSPECT": "yellow", "DEAD": "red", "LEFT": "bright_black"}


def members(
    *,
    gateway: Gateway = DEFAULT_GATEWAY,
    access: Access = NOBODY,
    watch: Annotated[bool, Parameter(help="Show it again every second, until Ctrl-C.", negative=())] = False,
    as_json: Annotated[
        bool, Parameter(name="--json", help="Print a JSON array; with --watch one line for each look.", negative=())
    ] = False,
) -> None:
    """Show who is in the cluster, and who of them lives.

    The columns, and the keys with ``--json``: ``id``, ``role``, ``address`` (for gossip), ``state`` (ALIVE, SUSPECT,
    DEAD or LEFT), ``incarnation``, ``epoch`` (milliseconds since 1970), ``load`` (running calls), ``since`` (seconds in
    its state) and ``rtt`` (seconds); ``--json`` adds ``grpc_address``, ``model``, ``model_version``, ``max_capacity``,
    ``weight``, ``cordoned`` and ``draining``.

    Example: ``trio-gw members --gateway 127.0.0.1:8080 --watch``

    Exit status: 0 if the gateway answered; 1 if it did not, or does not gossip; 2 if an option cannot be used; 130
    after Ctrl-C.
    """
    trio.run(_show, gateway, access, watch, as_json)


async def _show(gateway: str, access: Access, watch: bool, as_json: bool) -> None:  # noqa: FBT001 - trio.run has no keywords
    if as_json:

        def print_rows(rows: Sequence["Row"]) -> None:
            print(json_text(rows, one_line=watch), flush=True)

        await _look(gateway, access, print_rows, watch=watch)
    elif watch:
        with picture() as draw:
            await _look(gateway, access, lambda rows: draw(table_of(rows)), watch=True)
    else:
        await _look(gateway, access, lambda rows: show(table_of(rows)), watch=False)


async def _look(gateway: str, access: Access, tell: Callable[[Sequence["Row"]], None], *, watch: bool) -> None:
    """Ask the gateway, once or again and again."""
    async with reach(gateway, access) as (channel, patience):
        while True:
            answer = await channel.unary(LIST_MEMBERS, admin_pb2.ListMembersRequest())
            tell([row_of(member) for member in answer.members])
            if not watch:
                return
            patience.deadline = trio.current_time() + WATCH_INTERVAL + PATIENCE
            await trio.sleep(WATCH_INTERVAL)


@attrs.frozen
class Row:
    """One member; the fields are the keys in JSON, in this order."""

    id: str
    role: str
    address: str
    state: str
    incarnation: int
    epoch: int
    load: int | None
    since: float
    rtt: float | None
    grpc_address: str
    model: str
    model_version: str
    max_capacity: int
    weight: float
    cordoned: bool
    draining: bool


def row_of(member: admin_pb2.Member) -> Row:
    """What the gateway said of ``member``."""
    status, meta = member.status, member.meta
    return Row(
        id=member.member_id,
        role=name_of(gossip_pb2.MemberRole, meta.role, "MEMBER_ROLE_").lower(),
        address=meta.gossip_address,
        state=name_of(gossip_pb2.MemberState, status.state, "MEMBER_STATE_"),
        incarnation=status.incarnation,
        epoch=status.epoch,
        load=member.load.active_requests if member.HasField("load") else None,
        since=round(member.since, 3),
        rtt=round(member.rtt, 6) if member.HasField("rtt") else None,
        grpc_address=meta.grpc_address,
        model=meta.model,
        model_version=meta.model_version,
        max_capacity=meta.max_capacity,
        weight=meta.weight,
        cordoned=meta.cordoned,
        draining=meta.draining,
    )


def json_text(rows: Sequence[Row], *, one_line: bool) -> str:
    """A JSON array; unless on one line, with each row on its own."""
    texts = [json.dumps(attrs.asdict(row)) for row in rows]
    return f"[{', '.join(texts)}]" if one_line else "\n".join(["[", ",\n".join(f"  {text}" for text in texts), "]"])


def table_of(rows: Sequence[Row]) -> Table:
    """The rows for people."""
    made = table("ID", "ROLE", "ADDRESS", "STATE", right=("INCARNATION", "EPOCH", "LOAD", "SINCE", "RTT"))
    for row in rows:
        made.add_row(
            plain(row.id),
            row.role,
            plain(row.address),
            plain(row.state, STATE_COLOURS.get(row.state, "")),
            str(row.incarnation),
            str(row.epoch),
            "" if row.load is None else str(row.load),
            f"{row.since:.1f} s",
            "" if row.rtt is None else f"{row.rtt * 1000:.1f} ms",
        )
    return made
