"""Looks at a cluster, as the demo gets them."""

from typing import Any

from inferencegw.cli._rollcall import MemberSeen, MembersSeen


def a_member(name: str, state: str = "ALIVE", **fields: Any) -> MemberSeen:
    """A replica that the gateway is connected to, in its state since the moment 0."""
    known = {
        "epoch": 1000,
        "address": f"127.0.0.1:{40_000 + int(name[1:])}",
        "since": 0.0,
        "connected": True,
        "breaker": "CLOSED",
    }
    return MemberSeen(name, state, **{**known, **fields})


def a_look(*members: MemberSeen) -> MembersSeen:
    """These, and those of r1, r2 and r3 that are not among them and are as they should be."""
    by_id = {name: a_member(name) for name in ("r1", "r2", "r3")} | {one.member_id: one for one in members}
    return MembersSeen(list(by_id.values()))
