"""``trio-gw drain``: keep new calls away from a replica, and let it finish what it has."""

from typing import Annotated

from cyclopts import Parameter

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._admin import AsJson, Gateway, ask, plain, print_json, show
from inferencegw.cli.generate import DEFAULT_GATEWAY
from inferencegw.v1 import admin_pb2


def drain(
    replica_id: Annotated[str, Parameter(help="Its name, as `trio-gw status` has it.")],
    /,
    *,
    timeout: Annotated[
        float | None,
        Parameter(
            help="Seconds for running generations, 0 to 3600; else the replica's own. High: a long drain. Low: they "
            "are handed over, and go on elsewhere."
        ),
    ] = None,
    gateway: Gateway = DEFAULT_GATEWAY,
    access: Access = NOBODY,
    as_json: AsJson = False,
) -> None:
    """Drain a replica: no new calls, and those that run finish, or are handed over when the time is up.

    It goes on running, and ``trio-gw undrain`` lets it have calls again. The gateway that is asked routes past it at
    once, the others as soon as the gossip has told them or it has refused a call of theirs. The keys with ``--json``:
    ``replica_id`` and ``active_requests``, the generations that were running, whosever they are.

    Example: ``trio-gw drain r2 --gateway 127.0.0.1:8080``

    Exit status: 0 if the replica drains; 1 if it is not known or not connected, or the gateway did not answer; 2 if an
    option cannot be used; 130 after Ctrl-C.
    """
    request = admin_pb2.DrainReplicaRequest(replica_id=replica_id, timeout=timeout)
    active = ask(gateway, access, "DrainReplica", request).active_requests
    if as_json:
        print_json({"replica_id": replica_id, "active_requests": active})
    else:
        show(plain(f"{replica_id} drains; generations that run there: {active}"))
