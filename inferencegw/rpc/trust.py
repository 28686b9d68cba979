"""Who may give orders to a server that has no keys.

The rule: a peer that has shown a client certificate, which a server accepts only where it was given the authority for
it; and where certificates are not what is asked for, one on the same machine.
"""

from inferencegw.config import is_loopback
from inferencegw.errors import RpcError, StatusCode
from inferencegw.rpc.call import Peer

__all__ = ["is_trusted", "require_trusted"]


def is_trusted(peer: Peer, *, by_certificate: bool = False) -> bool:
    """Whether ``peer`` may give orders; ``by_certificate``: an authority is configured, and no address will do."""
    return peer.certificate is not None or (not by_certificate and is_loopback(peer.host))


def require_trusted(peer: Peer) -> None:
    """RpcError PERMISSION_DENIED unless ``peer`` may give orders."""
    if not is_trusted(peer):
        raise RpcError(StatusCode.PERMISSION_DENIED, "only peers on the same machine may do this")
