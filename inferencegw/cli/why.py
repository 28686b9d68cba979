"""``trio-gw why``: what a gateway decided about one call, in the order in which it happened.

The rule: moments are seconds since the call arrived, and every line is one decision or its outcome. Nothing of the
prompt or the answer is in it: the gateway keeps none of that.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from cyclopts import Parameter

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._admin import AsJson, Gateway, ask, name_of, plain, print_json, show, table
from inferencegw.cli.generate import DEFAULT_GATEWAY
from inferencegw.errors import StatusCode
from inferencegw.v1 import admin_pb2

_STATUSES: Final = {int(code): code.name for code in StatusCode}


def why(
    request_id: Annotated[str, Parameter(help="Its name, as the call's metadata or `generate --json` tell it.")],
    /,
    *,
    gateway: Gateway = DEFAULT_GATEWAY,
    access: Access = NOBODY,
    as_json: AsJson = False,
) -> None:
    """Tell what was decided about one call, and why: which replicas were looked at, taken and passed over.

    A gateway remembers its latest calls, some thousands, the running ones included. The keys with ``--json``:
    ``request_id``, ``arrived_at_ms`` (since 1970), ``status`` (null while it runs), ``reason``, ``delivered``,
    ``ticket`` (null if it never waited), ``picks``, ``attempts`` and ``splices``; all times in them are seconds since
    it arrived.

    Example: ``trio-gw why 5f0c2a4e --gateway 127.0.0.1:8080``

    Exit status: 0 if the call is remembered; 1 if it is not, or the gateway did not answer; 2 if an option cannot be
    used; 130 after Ctrl-C.
    """
    record = ask(gateway, access, "Why", admin_pb2.WhyRequest(request_id=request_id)).record
    if as_json:
        print_json(facts_of(record))
        return
    rows = table(right=("AT",))
    rows.add_column("WHAT")
    for at, what in events_of(record):
        rows.add_row(f"{at:.3f} s", plain(what))
    show(plain(_summary(record)), rows)


def facts_of(record: admin_pb2.RequestRecord) -> dict[str, Any]:
    """What scripts get."""
    return {
        "request_id": record.request_id,
        "arrived_at_ms": record.arrived_at_ms,
        "status": _status(record),
        "reason": record.reason,
        "delivered": record.delivered,
        "ticket": {
            "number": record.ticket.number,
            "at": round(record.ticket.at, 6),
            "waited": round(record.ticket.waited, 6),
        }
        if record.HasField("ticket")
        else None,
        "picks": [
            {
                "at": round(pick.at, 6),
                "replica_id": pick.replica_id or None,
                "reason": pick.reason,
                "passed_over": {one.replica_id: one.reason for one in pick.passed_over},
                "more_passed_over": pick.more_passed_over,
            }
            for pick in record.picks
        ],
        "attempts": [_facts_of_attempt(attempt) for attempt in record.attempts],
        "splices": [
            {
                "index": splice.index,
                "from": splice.from_replica_id,
                "to": splice.to_replica_id,
                "version_changed": splice.version_changed,
            }
            for splice in record.splices
        ],
    }


def _facts_of_attempt(attempt: admin_pb2.AttemptRecord) -> dict[str, Any]:
    runs = not attempt.HasField("ended")
    return {
        "number": attempt.number,
        "kind": name_of(admin_pb2.AttemptKind, attempt.kind, "ATTEMPT_KIND_").lower(),
        "replica_id": attempt.replica_id,
        "epoch": attempt.epoch,
        "started": round(attempt.started, 6),
        "first_token": round(attempt.first_token, 6) if attempt.HasField("first_token") else None,
        "ended": None if runs else round(attempt.ended, 6),
        "first_index": attempt.first_index,
        "delivered": attempt.delivered,
        "outcome": None if runs else name_of(admin_pb2.Outcome, attempt.outcome, "OUTCOME_").lower(),
        "reason": attempt.reason,
    }


def _status(record: admin_pb2.RequestRecord) -> str | None:
    """The name of the gRPC status that it ended with; None while it runs."""
    if not record.HasField("status_code"):
        return None
    return _STATUSES.get(record.status_code, str(record.status_code))


def _summary(record: admin_pb2.RequestRecord) -> str:
    arrived = datetime.fromtimestamp(record.arrived_at_ms / 1000, UTC)
    how = _status(record)
    reason = f" ({record.reason})" if record.reason else ""
    state = "runs" if how is None else f"ended {how}{reason} after {record.delivered} tokens"
    return f"call {record.request_id} came at {arrived:%Y-%m-%d %H:%M:%S} UTC and {state}"


def events_of(record: admin_pb2.RequestRecord) -> list[tuple[float, str]]:
    """What people get: what happened, each with its moment, in order."""
    return sorted(_events(record), key=lambda event: event[0])


def _events(record: admin_pb2.RequestRecord) -> Iterator[tuple[float, str]]:
    if record.HasField("ticket"):
        ticket, in_all = record.ticket, "so far" if _status(record) is None else "in all"
        yield ticket.at, f"waits in the queue, as ticket {ticket.number}: {ticket.waited:.3f} s {in_all}"
    for pick in record.picks:
        passed = ", ".join(f"{one.replica_id} ({one.reason})" for one in pick.passed_over)
        passed += f" and {pick.more_passed_over} more" if pick.more_passed_over else ""
        chosen = f"picked {pick.replica_id}" if pick.replica_id else "picked nobody"
        yield pick.at, f"{chosen}: {pick.reason}{f'; passed over {passed}' if passed else ''}"
    for attempt in map(_facts_of_attempt, record.attempts):
        name = f"attempt {attempt['number']}"
        yield (
            attempt["started"],
            f"{name} ({attempt['kind']}) at {attempt['replica_id']}, from token {attempt['first_index']}",
        )
        if attempt["first_token"] is not None:
            yield attempt["first_token"], f"{name}: first token"
        if attempt["ended"] is not None:
            reason = f": {attempt['reason']}" if attempt["reason"] else ""
            yield attempt["ended"], f"{name} ended after {attempt['delivered']} tokens, {attempt['outcome']}{reason}"
    for splice in record.splices:
        changed = ", another version" if splice.version_changed else ""
        at = next((round(one.first_token, 6) for one in record.attempts if _delivers(one, splice)), 0.0)
        yield at, f"from token {splice.index} on {splice.to_replica_id} in place of {splice.from_replica_id}{changed}"


def _delivers(attempt: admin_pb2.AttemptRecord, splice: admin_pb2.Splice) -> bool:
    return (
        attempt.HasField("first_token")
        and attempt.replica_id == splice.to_replica_id
        and attempt.first_index == splice.index
    )
