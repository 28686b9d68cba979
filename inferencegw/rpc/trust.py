"""Who may give orders to a server, where nothing is configured about that.

The rule: a peer on the same machine, and one that has shown a client certificate, which a server accepts only where it
was given the authority for it.
"""

from inferencegw.config import is_loopback
from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc.call import Peer

__all__ = ["require_trusted"]


def require_trusted(peer: Peer) -> None:
    """RpcError PERMISSION_DENIED unless ``peer`` may give orders."""
    if peer.certificate is None and not is_loopback(peer.host):
        raise RpcError(StatusCode.PERMISSION_DENIED, "only peers on the same machine may do this")
