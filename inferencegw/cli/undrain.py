"""``trio-gw undrain``: let a drained replica have calls again."""

from typing import Annotated

from cyclopts import Parameter

from inferencegw.cli._access import NOBODY, Access
from inferencegw.cli._admin import AsJson, Gateway, ask, plain, print_json, show
from inferencegw.cli.generate import DEFAULT_GATEWAY
from inferencegw.v1 import admin_pb2


def undrain(
    replica_id: Annotated[str, Parameter(help="Its name, as `trio-gw status` has it.")],
    /,
    *,
    gateway: Gateway = DEFAULT_GATEWAY,
    access: Access = NOBODY,
    as_json: AsJson = False,
) -> None:
    """Let a replica have new calls again; nothing happens to one that does not drain.

    Gateways send it calls as soon as they have asked it again, about a second later, or the gossip has told them. The
    key with ``--json``: ``replica_id``.

    Example: ``trio-gw undrain r2 --gateway 127.0.0.1:8080``

    Exit status: 0 if the replica takes calls again; 1 if it is not known or not connected, or the gateway did not
    answer; 2 if an option cannot be used; 130 after Ctrl-C.
    """
    ask(gateway, access, "UndrainReplica", admin_pb2.UndrainReplicaRequest(replica_id=replica_id))
    if as_json:
        print_json({"replica_id": replica_id})
    else:
        show(plain(f"{replica_id} takes calls again"))
